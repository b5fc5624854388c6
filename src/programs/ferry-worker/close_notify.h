#ifndef FERRY_PROGRAMS_FERRY_WORKER_CLOSE_NOTIFY_H
#define FERRY_PROGRAMS_FERRY_WORKER_CLOSE_NOTIFY_H

/* The end of a stream that the kernel encrypts.
 *
 * The kernel takes a record while TCP is full, and keeps it. shutdown(2) would put the end of the stream before it, and
 * the client would find a connection that somebody has cut off. */

/* Sends a close_notify. 0: all records are with TCP, and shutdown(2) may follow. -EAGAIN: call it again when the socket
 * is writable; a client ignores a second close_notify. Else the errno of sendmsg(2). */
int close_notify_send(int fd);

#endif
