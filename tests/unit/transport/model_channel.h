#ifndef FERRY_TESTS_MODEL_CHANNEL_H
#define FERRY_TESTS_MODEL_CHANNEL_H

/* An end that is a channel of a poller, whose events are compared with the model when it is polled. The callbacks
 * of its files and producers run in a poll or a flush, and nowhere else. */

#include "model_end.h"

/* Opens the end on a socket or two pipes; frees the poller. */
void model_channel_open(struct model_end *end, int read_fd, int write_fd);
void model_channel_close(struct model_end *end);

/* Polls without waiting. */
void model_channel_poll(struct model_end *end);

/* ferry_channel_write() for the bytes of an item; ferry_channel_flush(); ferry_channel_free(). */
int model_channel_write(struct model_end *end, unsigned int item, size_t length);
void model_channel_flush(struct model_end *end);
void model_channel_free(struct model_end *end);

/* The functions that run the loop are refused in a callback from it. */
void model_channel_check_busy(struct model_end *end);

#endif
