/* Tests a protocol of messages, without a socket of another process: the test puts messages with
 * descriptors in, and takes the answers out.
 *
 *     cc testing_messages.c -o testing_messages $(pkg-config --cflags --libs ferry-testing)
 *
 * The checks are assert(3); any framework does. The protocol is usually in a file of its own.
 */

#undef NDEBUG /* the checks are there in every build */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <ferry/ferry.h>
#include <ferry/testing.h>

/* The protocol: it keeps one descriptor. STORE brings it, FETCH gets a copy of it, and the type of an
 * answer is an errno value. */
enum { STORE = 1, FETCH = 2 };

struct store {
	int fd;                /* -1: none */
	unsigned int answered; /* answers that the kernel has */
	int reason;            /* of the end of the connection; 1 before that */
};

static void answer_sent(struct ferry_message_stream *stream, int status, void *context)
{
	(void)stream;
	((struct store *)context)->answered += status == 0;
}

static void answer(struct ferry_message_stream *stream, struct store *store, int error, int fd)
{
	if (ferry_message_stream_send(stream, (uint16_t)error, NULL, 0, &fd, fd >= 0, FERRY_FD_DUP) <
	        0 ||
	    ferry_message_stream_notify_sent(stream, answer_sent, store) < 0)
		ferry_message_stream_abort_connection(stream);
}

static void received(struct ferry_message_stream *stream, struct ferry_message *message,
                     void *context)
{
	struct store *store = context;
	int type = ferry_message_get_type(message);
	if (type == STORE && ferry_message_get_fd_count(message) == 1 && store->fd < 0) {
		store->fd = ferry_message_steal_fd(message, 0); /* -ENOENT: it was lost on the way */
		answer(stream, store, store->fd < 0 ? EMFILE : 0, -1);
	} else if (type == FETCH) {
		answer(stream, store, store->fd < 0 ? ENOENT : 0, store->fd);
	} else {
		answer(stream, store, EINVAL, -1);
	}
}

static void lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream; /* its owner frees it: here the test */
	((struct store *)context)->reason = reason;
}

static const struct ferry_message_callbacks protocol = {.message_received = received,
                                                        .connection_lost = lost};

/* Puts a message, and takes the answer. */
static struct ferry_testing_message ask(struct ferry_testing *far, uint16_t type, int fd)
{
	struct ferry_testing_message message;
	assert(ferry_testing_put_message(far, type, NULL, 0, &fd, fd >= 0) == 0);
	assert(ferry_testing_pump(far) == 0);
	assert(ferry_testing_take_message(far, &message) == 0);
	return message;
}

static void a_descriptor_comes_back(struct ferry_testing *far, struct store *store)
{
	int ends[2];
	char byte;
	assert(ask(far, FETCH, -1).type == ENOENT);
	assert(pipe(ends) == 0);
	assert(ask(far, STORE, ends[1]).type == 0);
	close(ends[1]); /* stays the test's: the store has its own */
	struct ferry_testing_message answer = ask(far, FETCH, -1);
	assert(answer.type == 0 && answer.fd_count == 1);
	assert(write(answer.fds[0], "x", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'x');
	close(answer.fds[0]);
	close(ends[0]);
	assert(store->answered == 3);
}

static void a_second_descriptor_is_refused_and_closed(struct ferry_testing *far,
                                                      struct store *store)
{
	(void)store;
	int ends[2];
	char byte;
	assert(ask(far, STORE, STDIN_FILENO).type == 0);
	assert(pipe(ends) == 0);
	assert(ask(far, STORE, ends[1]).type == EINVAL);
	close(ends[1]);
	assert(read(ends[0], &byte, 1) == 0); /* the end: nobody has the other one any more */
	close(ends[0]);
}

static void answers_wait_for_a_slow_client(struct ferry_testing *far, struct store *store)
{
	struct ferry_testing_message message;
	assert(ferry_testing_set_full(far, true) == 0);
	assert(ferry_testing_put_message(far, FETCH, NULL, 0, NULL, 0) == 0);
	assert(ferry_testing_pump(far) == 0 && store->answered == 0);
	assert(ferry_testing_take_message(far, &message) == -EAGAIN);
	assert(ferry_testing_set_full(far, false) == 0 && ferry_testing_pump(far) == 0);
	assert(ferry_testing_take_message(far, &message) == 0 && store->answered == 1);
}

static void what_is_no_message_ends_the_connection(struct ferry_testing *far, struct store *store)
{
	assert(ferry_testing_put(far, "GET / HTTP/1.1\r\n", 16) == 0 && ferry_testing_pump(far) == 0);
	assert(store->reason == -EPROTO && ferry_testing_has_ended(far));
}

int main(void)
{
	static void (*const tests[])(struct ferry_testing *, struct store *) = {
	    a_descriptor_comes_back, a_second_descriptor_is_refused_and_closed,
	    answers_wait_for_a_slow_client, what_is_no_message_ends_the_connection};
	struct event_base *base = event_base_new();
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct store store = {.fd = -1, .reason = 1};
		struct ferry_message_stream *stream;
		struct ferry_testing *far;
		assert(ferry_testing_new(&far, base) == 0);
		struct ferry_transport *transport = ferry_testing_get_transport(far);
		assert(ferry_message_stream_new(&stream, transport, &protocol, &store) == 0);
		tests[i](far, &store);
		ferry_message_stream_free(stream); /* and the transport */
		ferry_testing_free(far);
		if (store.fd >= 0)
			close(store.fd);
	}
	event_base_free(base);
	return EXIT_SUCCESS;
}
