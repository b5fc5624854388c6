#include "message/core.h"

#include <errno.h>

/*
 * A received message: its getters. The payload lies in the transport's input and the descriptors
 * in the stream's arrivals: both are read in place, and valid until message_received returns.
 */

uint16_t ferry_message_get_type(const struct ferry_message *message)
{
	return message != NULL ? message->type : 0;
}

const void *ferry_message_get_payload(const struct ferry_message *message, size_t *length)
{
	if (length != NULL)
		*length = message != NULL ? message->length : 0;
	return message != NULL ? message->payload : NULL;
}

size_t ferry_message_get_fd_count(const struct ferry_message *message)
{
	return message != NULL ? message->fd_count : 0;
}

size_t ferry_message_get_fds_lost(const struct ferry_message *message)
{
	return message != NULL ? message->fd_count - message->arrived : 0;
}

int ferry_message_get_fd(const struct ferry_message *message, size_t index)
{
	if (message == NULL)
		return -EINVAL;
	if (index >= message->arrived || (*message->fds)[index] < 0)
		return -ENOENT;
	return (*message->fds)[index];
}

int ferry_message_steal_fd(struct ferry_message *message, size_t index)
{
	int fd = ferry_message_get_fd(message, index);

	if (fd >= 0)
		(*message->fds)[index] = -1;
	return fd;
}
