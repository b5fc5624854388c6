#ifndef FERRY_ENDPOINT_LISTENER_H
#define FERRY_ENDPOINT_LISTENER_H

/* Access to a listener beyond the public functions. */

struct ferry_listener;
struct socket_file;

/* The file that ferry_listener_free() removes. A caller may also move it away, and leave SOCKET_FILE_NONE. */
struct socket_file *listener_get_file(struct ferry_listener *listener);

#endif
