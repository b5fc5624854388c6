#include "worker_frames.h"

#include <string.h>

size_t worker_frame(unsigned char *out, uint16_t type, const void *payload, size_t length)
{
	message_header_put(out, &(struct message_header){.type = type, .length = (uint32_t)length});
	memcpy(out + MESSAGE_HEADER_SIZE, payload, length);
	return MESSAGE_HEADER_SIZE + length;
}

size_t worker_hello_frame(unsigned char *out, uint32_t credits)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];
	handoff_wire_hello_put(payload,
	                       &(struct handoff_wire_hello){HANDOFF_WIRE_VERSION_MIN,
	                                                    HANDOFF_WIRE_VERSION_MAX, credits, 0});
	return worker_frame(out, HANDOFF_WIRE_HELLO, payload, sizeof(payload));
}

size_t worker_credits_frame(unsigned char *out, uint32_t credits)
{
	unsigned char payload[HANDOFF_WIRE_CREDITS_SIZE];
	handoff_wire_credits_put(payload, credits);
	return worker_frame(out, HANDOFF_WIRE_CREDITS, payload, sizeof(payload));
}

size_t worker_answer_frame(unsigned char *out, uint16_t type,
                           const struct handoff_wire_answer *answer)
{
	unsigned char payload[HANDOFF_WIRE_ANSWER_SIZE];
	handoff_wire_answer_put(payload, answer);
	return worker_frame(out, type, payload, sizeof(payload));
}
