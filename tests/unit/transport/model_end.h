#ifndef FERRY_TESTS_MODEL_END_H
#define FERRY_TESTS_MODEL_END_H

/* One end of a connection, and the rules of its callbacks. A callback that is not due fails the test: before
 * connection_made, after connection_lost, after a free, of a protocol that was replaced, inside a call, or twice.
 * Each callback of a protocol and of a file may act: it calls model_act(), the walk's random step. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"
#include "model_stream.h"
#include "support.h"

enum model_link { MODEL_UNIX, MODEL_TCP, MODEL_PIPES, MODEL_LINKS };

enum {
	MODEL_PROTOCOLS_MAX = 64,
	MODEL_FILES_MAX = 128,
	MODEL_PRODUCERS_MAX = 64,
	MODEL_SECOND = 1000000, /* of the clock, in microseconds */
};

struct model_end;

/* One call of ferry_transport_set_protocol(): the context of its callbacks. */
struct model_protocol {
	struct model_end *end;
	bool half_close; /* it has read_connection_lost */
	unsigned int made, read_lost;
};

struct model_file {
	struct model_end *end;
	struct ferry_file_producer *producer; /* NULL once finished */
	unsigned int item;
	uint64_t length;   /* put into the file */
	uint64_t progress; /* by its callback */
	int feed;          /* the other end of a pipe or socket, or -1 */
	bool cut;          /* shorter than announced */
	bool paused, stopped;
	bool finished;
};

/* One registration. */
struct model_producer {
	struct model_end *end;
	enum ferry_producer_mode mode;
	bool paused; /* push */
	bool asked;  /* pull: and nothing was queued since */
	bool silent; /* it has no stop_producing: the transport may have dropped it */
};

struct model_end {
	const char *name;
	struct model_end *other;
	enum model_link link;
	struct ferry_transport
	    *transport;                /* NULL once freed; of a channel: once the connection is over */
	struct ferry_poller *poller;   /* or NULL: no channel */
	struct ferry_channel *channel; /* NULL once freed */
	bool keeps_socket;             /* made without BEV_OPT_CLOSE_ON_FREE: the test closes it */
	int socket;                    /* or -1 */
	unsigned int turns;            /* of the loop since the free */

	struct model_stream out; /* to the other end */
	struct model_protocol protocols[MODEL_PROTOCOLS_MAX];
	unsigned int protocol_count; /* the last one is the current one */
	struct model_file files[MODEL_FILES_MAX];
	unsigned int file_count;
	struct model_producer producers[MODEL_PRODUCERS_MAX];
	unsigned int producer_count;
	struct model_producer *producer; /* registered */

	/* The calls that the end has had. */
	bool paused;       /* reading */
	bool half_closing; /* lose_write_connection */
	bool closing;      /* lose_connection */
	bool aborted;
	bool in_output_cb;
	size_t left; /* in the input, by the last data_received */
	size_t byte_limit;

	/* A bufferevent's. */
	bool as_bufferevent; /* it never had a protocol */
	bool failed;         /* by its event callback */

	/* A channel's. */
	bool half_close, had_end;
	bool refused; /* a write */
	bool unregistered;
	bool polling; /* its loop is running */

	bool over; /* connection_lost has run; the channel has had its last event */
	int reason;
	unsigned int moves;                  /* looks that found progress */
	struct ferry_transport_stats stats;  /* at the last look */
	struct ferry_transport_stats before; /* of the transports that were detached */

	/* Timeouts, 0 for none, and the time at which they began to run at the earliest. */
	int64_t read_timeout, write_timeout, close_timeout;
	int64_t read_at, moved_at, closing_at, close_timeout_at;
	unsigned int overdue; /* turns of the loop behind the close timeout */
	int in_kernel;        /* bytes that the peer has not read, or not acknowledged */
};

/* The walk's random step, at this end. */
void model_act(struct model_end *end);

/* No callback of a protocol, a file or a pull producer runs inside a call: int status = CALL(f(…)). */
#define CALL(call) (model_calls++, model_call_done(call))
extern unsigned int model_calls;
int model_call_done(int result);

/* Opens an end, without a transport; and its transport. On a socket both descriptors are the same. */
void model_end_init(struct model_end *end, const char *name, struct model_end *other,
                    enum model_link link);
void model_end_open(struct model_end *end, int read_fd, int write_fd);
void model_end_close(struct model_end *end);

/* Closes the socket that was not ferry's, when the loop has finalised the freed transport. */
void model_end_close_socket(struct model_end *end);

bool model_end_is_alive(const struct model_end *end);

/* Whether the other end may have caused an end: it is freed, over or closing. */
bool model_end_is_leaving(const struct model_end *end);

/* The user of the end gets bytes, `most` of them; or a descriptor, which is closed. */
void model_end_take_input(struct model_end *end, size_t most);
void model_end_got_fd(struct model_end *end, int fd);

/* Nothing is delivered during a pause, or while the end is closing. */
void model_end_check_not_paused(const struct model_end *end, const char *callback);

/* ferry_transport_detach(), and another transport on the bufferevent. */
void model_end_detach(struct model_end *end);

void model_end_set_protocol(struct model_end *end, bool half_close);
void model_end_register_producer(struct model_end *end, enum ferry_producer_mode mode);
void model_end_unregister_producer(struct model_end *end);

/* The connection is over: a producer without stop_producing is no longer registered. */
void model_end_drop_silent_producer(struct model_end *end);
void model_end_free(struct model_end *end);

/* Around ferry_channel_free(). */
void model_end_begin_free(struct model_end *end);
void model_end_end_free(struct model_end *end);

/* The reason of connection_lost, or of FERRY_CHANNEL_CLOSED. */
void model_end_check_reason(const struct model_end *end, int reason);

/* The callbacks of files, and the table for producers without a callback. */
extern const struct ferry_file_callbacks model_file_callbacks;

/* Looks at the counters and at the kernel's queue. */
void model_end_look(struct model_end *end);

/* The producer's state must fit the queue after a call that queued something. */
void model_end_check_producer(struct model_end *end);

#endif
