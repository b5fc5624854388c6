#ifndef FERRY_PROGRAMS_FERRY_COPY_SEND_H
#define FERRY_PROGRAMS_FERRY_COPY_SEND_H

/* "ferry-copy send": offers a file to the receiver, and sends the bytes that the receiver does not have. */

/* Runs the command. `argv` has the program's name, and then what stands behind "send". Returns the exit
 * status of the program. */
int send_run(int argc, char **argv);

#endif
