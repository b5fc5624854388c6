#ifndef FERRY_TESTS_MODEL_SENDING_H
#define FERRY_TESTS_MODEL_SENDING_H

/* The calls that put something into the stream of an end, each with random arguments. The model has it before the
 * call, and takes it back if the call fails. */

#include "model_end.h"

static inline uint32_t below(uint32_t bound)
{
	return support_random_below(bound);
}

static inline bool one_in(uint32_t bound)
{
	return support_random_below(bound) == 0;
}

/* Whether a call may find the connection over, or the sending half ended. */
bool model_may_refuse(const struct model_end *end);

/* Bytes by a call of ferry's; by one of libevent's, which cannot be refused; more of them than a socket holds. */
void model_write(struct model_end *end);
void model_write_buffer(struct model_end *end);
void model_write_by_libevent(struct model_end *end);
void model_write_many(struct model_end *end);

/* A file segment of libevent's in the output, in any way that one gets there. */
void model_add_segment(struct model_end *end);

/* The same before the bufferevent becomes a transport. */
void model_add_segment_to(struct model_end *end, struct evbuffer *output);

/* A callback of the user's on the output, which adds to it. */
void model_add_output_cb(struct model_end *end);

void model_send_fd(struct model_end *end);
void model_send_file(struct model_end *end);

/* Pauses, resumes or stops a file, or gives its source more bytes or an end. */
void model_steer_file(struct model_end *end);

/* ferry_transport_flush() of what the kernel takes now. */
void model_flush(struct model_end *end);

#endif
