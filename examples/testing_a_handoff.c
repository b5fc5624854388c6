/* Tests the callbacks of a worker and the outcomes of its handoffs, in one process: a real dispatcher
 * has the other end of the worker's channel, and the test is the client.
 *     cc testing_a_handoff.c -o testing_a_handoff $(pkg-config --cflags --libs ferry-testing)
 *
 * The checks are assert(3); any framework does. */

#undef NDEBUG /* the checks are there in every build */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>
#include <ferry/testing.h>

/* The worker: it greets a client of the service "greet" once it has sent a line. */
struct session {
	struct service *service;
	uint64_t id; /* of the handoff */
};

struct service {
	struct event_base *base;
	struct ferry_worker *worker; /* NULL: the dispatcher is gone */
	struct session session;      /* one client at a time is enough for this example */
};

static void line_received(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	(void)context;
	if (ferry_line_stream_printf(stream, "hello %.*s", (int)length, line) < 0)
		ferry_line_stream_abort_connection(stream);
	else
		ferry_line_stream_lose_connection(stream);
}

static void connection_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct session *session = context;
	(void)reason;
	ferry_line_stream_free(stream);
	ferry_worker_done(session->service->worker, session->id); /* -EINVAL without a dispatcher */
}

static const struct ferry_line_callbacks line_callbacks = {.line_received = line_received,
                                                           .connection_lost = connection_lost};

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	struct service *service = context;
	struct session *session = &service->session;
	struct ferry_handoff_info info;
	struct ferry_transport *transport;
	struct ferry_line_stream *stream;
	(void)worker;
	ferry_handoff_get_info(handoff, &info);
	int status = -ENOENT;
	if (strcmp(info.name, "greet") == 0)
		status =
		    ferry_handoff_to_transport(&transport, handoff, service->base, BEV_OPT_CLOSE_ON_FREE);
	if (status < 0) {
		ferry_handoff_reject(handoff, status);
		return;
	}
	*session = (struct session){.service = service, .id = info.id};
	status = ferry_line_stream_new(&stream, transport, &line_callbacks, session);
	assert(status == 0); /* a real worker frees the transport, and reports the handoff as done */
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)reason;
	((struct service *)context)->worker = NULL;
	ferry_worker_free(worker);
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = handoff_received,
                                                               .dispatcher_lost = dispatcher_lost};

struct ending {
	enum ferry_handoff_outcome outcome; /* 0: none yet */
	int reason;
};

static void outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                    enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)handoff; /* which is freed on return */
	*(struct ending *)context = (struct ending){outcome, reason};
}

/* Hands the transport of a new client off. The test has the client's end. */
static struct ferry_testing *connect_client(struct event_base *base,
                                            struct ferry_dispatcher *dispatcher,
                                            const char *service, struct ending *ending)
{
	struct ferry_testing *client;
	struct ferry_handoff *handoff;
	*ending = (struct ending){0};
	assert(ferry_testing_new(&client, base) == 0);
	assert(ferry_handoff_from_transport(&handoff, ferry_testing_get_transport(client)) == 0);
	assert(ferry_handoff_set_name(handoff, service) == 0);
	assert(ferry_dispatcher_hand_off(dispatcher, handoff, outcome, ending) == 0);
	assert(ferry_testing_pump(client) == 0);
	return client;
}

static void expect_answer(struct ferry_testing *client, const char *line, const char *answer)
{
	char bytes[64] = "";
	assert(ferry_testing_put(client, line, strlen(line)) == 0 && ferry_testing_pump(client) == 0);
	evbuffer_remove(ferry_testing_get_written(client), bytes, sizeof(bytes) - 1);
	assert(strcmp(bytes, answer) == 0);
	assert(ferry_testing_has_ended(client));
	ferry_testing_free(client);
}

int main(void)
{
	struct service service = {.base = event_base_new()};
	struct ferry_transport *ends[2];
	struct ferry_dispatcher *dispatcher;
	struct ending ending = {0};
	assert(ferry_testing_new_pair(ends, service.base) == 0);
	assert(ferry_dispatcher_new(&dispatcher, service.base, NULL, NULL) == 0);
	assert(ferry_dispatcher_add_worker(NULL, dispatcher, ends[0], NULL) == 0);
	assert(ferry_worker_new(&service.worker, ends[1], &worker_callbacks, &service) == 0);

	struct ferry_testing *client = connect_client(service.base, dispatcher, "greet", &ending);
	expect_answer(client, "Ann\n", "hello Ann\n");
	assert(ending.outcome == FERRY_HANDOFF_DONE);

	ferry_testing_free(connect_client(service.base, dispatcher, "other", &ending));
	assert(ending.outcome == FERRY_HANDOFF_REJECTED && ending.reason == -ENOENT);

	/* A client outlives the dispatcher. */
	client = connect_client(service.base, dispatcher, "greet", &ending);
	ferry_dispatcher_free(dispatcher);
	assert(ferry_testing_pump(client) == 0 && service.worker == NULL);
	assert(ending.outcome == FERRY_HANDOFF_KEPT);
	expect_answer(client, "Bob\n", "hello Bob\n");
	event_base_free(service.base);
	return EXIT_SUCCESS;
}
