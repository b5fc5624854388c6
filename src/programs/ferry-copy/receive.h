#ifndef FERRY_PROGRAMS_FERRY_COPY_RECEIVE_H
#define FERRY_PROGRAMS_FERRY_COPY_RECEIVE_H

/* "ferry-copy receive": takes the offer of one file, and writes the bytes that it does not have yet. */

/* Runs the command. `argv` has the program's name, and then what stands behind "receive". Returns the
 * exit status of the program. */
int receive_run(int argc, char **argv);

#endif
