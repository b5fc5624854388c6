#ifndef FERRY_TESTS_FAKE_MANAGER_H
#define FERRY_TESTS_FAKE_MANAGER_H

/* A service manager: the socket of NOTIFY_SOCKET, which the test reads. */

#include <stddef.h>

/* Binds a socket, and sets NOTIFY_SOCKET to it: in the abstract namespace, or at a path. Returns the descriptor. */
int fake_manager_start(void);
int fake_manager_start_at(const char *path);

/* Copies the next message, which must be there. Its descriptor, if it has one, is returned, else -1. */
int fake_manager_read(int manager, char *text, size_t size);

/* Fails the test unless the next message is there and is `text`, without a descriptor. */
void fake_manager_expect(int manager, const char *text);

/* Fails the test if there is a message. */
void fake_manager_expect_nothing(int manager);

/* Unsets the variables, and closes the socket. */
void fake_manager_stop(int manager);

#endif
