#ifndef FERRY_ENDPOINT_LISTENER_H
#define FERRY_ENDPOINT_LISTENER_H

/* What others of the library may do to a listener beyond the public functions. */

struct ferry_listener;
struct socket_file;

/* The file that the listener will remove; to be looked at, or moved away and replaced by
 * SOCKET_FILE_NONE. */
struct socket_file *listener_get_file(struct ferry_listener *listener);

#endif
