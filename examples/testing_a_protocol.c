/* Tests a protocol. Its transport is a real one, and the test holds the far end of it: it puts bytes,
 * descriptors and ends in, pumps the loop until nothing more happens, and takes what was written.
 *
 *     cc testing_a_protocol.c -o testing_a_protocol $(pkg-config --cflags --libs ferry-testing)
 *
 * The checks are assert(3); any framework does. The protocol is usually in a file of its own.
 */

#undef NDEBUG /* the checks are there in every build */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <ferry/ferry.h>
#include <ferry/testing.h>

/* The protocol: it answers each line with the size of the file that came with it, or -1. */
struct session {
	int fd;     /* of the line that has not ended yet; -1: none */
	int reason; /* of the end of the connection; 1 before that */
};

static void close_file(struct session *session)
{
	if (session->fd >= 0)
		close(session->fd);
	session->fd = -1;
}

static void fd_received(struct ferry_transport *transport, int fd, void *context)
{
	struct session *session = context;
	(void)transport;
	close_file(session); /* the last one counts */
	session->fd = fd;
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct session *session = context;
	char *line, answer[32];
	while ((line = evbuffer_readln(input, NULL, EVBUFFER_EOL_LF)) != NULL) {
		struct stat file = {.st_size = -1};
		(void)fstat(session->fd, &file); /* EBADF for -1 */
		close_file(session);
		free(line);
		(void)snprintf(answer, sizeof(answer), "%lld\n", (long long)file.st_size);
		if (ferry_transport_write(transport, answer, strlen(answer)) < 0)
			ferry_transport_abort_connection(transport);
	}
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct session *session = context;
	(void)transport; /* its owner frees it: here the test */
	close_file(session);
	session->reason = reason;
}

static const struct ferry_protocol protocol = {.file_descriptor_received = fd_received,
                                               .data_received = data_received,
                                               .connection_lost = connection_lost};

/* Whether that is all that the protocol has written since the last call. */
static bool wrote(struct ferry_testing *far, const char *text)
{
	char bytes[256];
	int length = evbuffer_remove(ferry_testing_get_written(far), bytes, sizeof(bytes));
	return length == (int)strlen(text) && memcmp(bytes, text, strlen(text)) == 0;
}

static void put(struct ferry_testing *far, const char *text)
{
	assert(ferry_testing_put(far, text, strlen(text)) == 0 && ferry_testing_pump(far) == 0);
}

static void lines_arrive_in_pieces(struct ferry_testing *far, struct session *session)
{
	(void)session;
	put(far, "on");
	assert(wrote(far, ""));
	put(far, "e\ntwo\n");
	assert(wrote(far, "-1\n-1\n"));
}

static void a_descriptor_belongs_to_its_line(struct ferry_testing *far, struct session *session)
{
	FILE *file = tmpfile();
	(void)session;
	assert(file != NULL && fputs("12345", file) >= 0 && fflush(file) == 0);
	int fd = fileno(file); /* stays the test's */
	assert(ferry_testing_put_fds(far, "fir", 3, &fd, 1) == 0);
	put(far, "st\nsecond\n");
	assert(wrote(far, "5\n-1\n"));
	fclose(file);
}

static void an_early_end_leaves_nothing_open(struct ferry_testing *far, struct session *session)
{
	int fd = STDIN_FILENO;
	assert(ferry_testing_put_fds(far, "no end", 6, &fd, 1) == 0);
	assert(ferry_testing_put_eof(far) == 0 && ferry_testing_pump(far) == 0);
	assert(session->reason == 0 && session->fd < 0);
	assert(ferry_testing_has_ended(far));
}

static void a_reset_is_reported(struct ferry_testing *far, struct session *session)
{
	assert(ferry_testing_put_reset(far) == 0 && ferry_testing_pump(far) == 0);
	assert(session->reason == -ECONNRESET);
}

static void answers_wait_for_a_slow_client(struct ferry_testing *far, struct session *session)
{
	(void)session;
	assert(ferry_testing_set_full(far, true) == 0);
	put(far, "one\n");
	assert(wrote(far, ""));
	assert(ferry_testing_set_full(far, false) == 0 && ferry_testing_pump(far) == 0);
	assert(wrote(far, "-1\n"));
}

int main(void)
{
	static void (*const tests[])(struct ferry_testing *, struct session *) = {
	    lines_arrive_in_pieces, a_descriptor_belongs_to_its_line, an_early_end_leaves_nothing_open,
	    a_reset_is_reported, answers_wait_for_a_slow_client};
	struct event_base *base = event_base_new();
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct session session = {.fd = -1, .reason = 1};
		struct ferry_testing *far;
		assert(ferry_testing_new(&far, base) == 0);
		struct ferry_transport *transport = ferry_testing_get_transport(far);
		assert(ferry_transport_set_protocol(transport, &protocol, &session) == 0);
		tests[i](far, &session);
		ferry_transport_free(transport);
		ferry_testing_free(far);
		close_file(&session);
	}
	event_base_free(base);
	return EXIT_SUCCESS;
}
