/* Many transports at once, in one process or in several:
 *
 *     many [--transports N] [--processes P]
 *
 * Each two are the ends of a connection. One sends a kilobyte, and one in ten of them a descriptor in front of it; the
 * other sends all of it back. Then all are idle at once, in all processes, and end. Each byte and each descriptor must
 * arrive, each connection must end without an error, and no descriptor may be left. Prints what a transport has cost.
 *
 * Exit status: 0; 1 after a failure; 77 if the hard limit of descriptors is too low. */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/ferry.h"

enum { BYTES = 1024, WITH_FD = 10, SPARE_FDS = 100, PROCESSES_MAX = 64, BURST = 200 };

struct end {
	struct ferry_transport *transport; /* NULL: lost */
	size_t bytes;
	unsigned int fds;
	bool echoes;
};

static struct event_base *base;
static struct end *ends;
static unsigned int transports = 10000, processes = 1;
static unsigned int complete, lost, faults;

static void fail(const char *what, int status)
{
	if (faults++ < 10)
		printf("%s: %s\n", what, strerror(-status));
}

static void need(const char *what, int status)
{
	if (status < 0)
		fail(what, status);
}

static bool has_fd(const struct end *end)
{
	return (end - ends) / 2 % WITH_FD == 0;
}

/* ---- callbacks ---- */

static void on_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct end *end = context;

	end->bytes += evbuffer_get_length(input);
	if (end->echoes)
		need("write", ferry_transport_write_buffer(transport, input));
	evbuffer_drain(input, evbuffer_get_length(input));
	if (end->bytes != BYTES)
		return;
	complete++;
	if (end->fds != (has_fd(end) ? 1 : 0))
		fail("a descriptor is missing", -ENODATA);
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct end *end = context;

	end->fds++;
	if (end->echoes)
		need("send_fd", ferry_transport_send_fd(transport, fd, FERRY_FD_TAKE));
	else
		close(fd);
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct end *end = context;

	need("connection_lost", reason);
	end->transport = NULL;
	ferry_transport_free(transport);
	lost++;
}

static const struct ferry_protocol protocol = {
    .data_received = on_data, .file_descriptor_received = on_fd, .connection_lost = on_lost};

/* ---- one process ---- */

static bool open_end(struct end *end, int fd)
{
	int status = ferry_transport_new_socket(&end->transport, base, fd);

	if (status == 0)
		status = ferry_transport_set_protocol(end->transport, &protocol, end);
	need("a transport", status);
	return status == 0;
}

static bool open_two(unsigned int number)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
		fail("socketpair", -errno);
		return false;
	}
	ends[number + 1].echoes = true;
	return open_end(&ends[number], fds[0]) && open_end(&ends[number + 1], fds[1]);
}

static void start_exchange(struct end *end)
{
	static const char bytes[BYTES];

	if (has_fd(end))
		need("send_fd", ferry_transport_send_fd(end->transport, STDIN_FILENO, FERRY_FD_DUP));
	need("write", ferry_transport_write(end->transport, bytes, sizeof(bytes)));
}

static bool exchange_all(void)
{
	for (unsigned int i = 0; i < transports; i += 2) {
		if (!open_two(i))
			return false;
		start_exchange(&ends[i]);
		if (i % BURST == 0)
			event_base_loop(base, EVLOOP_NONBLOCK);
	}
	while (complete < transports && faults == 0)
		event_base_loop(base, EVLOOP_ONCE);
	return faults == 0;
}

static void end_all(void)
{
	for (unsigned int i = 0; i < transports; i += 2)
		need("lose_connection", ferry_transport_lose_connection(ends[i].transport));
	while (lost < transports && faults == 0)
		event_base_loop(base, EVLOOP_ONCE);
	for (int i = 0; i < 3; i++) /* freed bufferevents are finalised by the loop */
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static unsigned int count_open(void)
{
	unsigned int count = 0;

	for (unsigned int fd = 0; fd < transports + SPARE_FDS; fd++)
		count += fcntl((int)fd, F_GETFD) >= 0;
	return count;
}

/* `ready` is written, and `go` is awaited, when all transports are idle. */
static int run_process(int ready, int go)
{
	char byte = 'r';
	const unsigned int open_before = count_open();

	base = event_base_new();
	ends = calloc(transports, sizeof(*ends));
	const size_t heap_before = mallinfo2().uordblks;
	bool whole = exchange_all();
	const size_t heap = mallinfo2().uordblks - heap_before;
	if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) < 0)
		fail("a pipe", -errno);
	if (whole)
		end_all();
	event_base_free(base);
	free(ends);
	if (faults == 0 && count_open() != open_before)
		fail("the descriptors that are open are others than before", -EBADF);
	printf("%u transports, %zu bytes of heap each, %u faults\n", transports, heap / transports,
	       faults);
	return faults == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- several ---- */

static bool raise_limit(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	return limit.rlim_max >= transports + SPARE_FDS && setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* Returns the count of processes that are ready: one that has failed closes its end. */
static unsigned int await_all(int ready)
{
	unsigned int count = 0;
	char byte;

	while (count < processes && read(ready, &byte, 1) == 1)
		count++;
	return count;
}

static int run_all(void)
{
	int ready[2], go[2], status = EXIT_SUCCESS;

	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		return EXIT_FAILURE;
	for (unsigned int i = 0; i < processes; i++) {
		fflush(stdout);
		if (fork() == 0) {
			close(go[1]);
			exit(run_process(ready[1], go[0]));
		}
	}
	close(ready[1]);
	printf("%u transports are open at once\n", await_all(ready[0]) * transports);
	close(go[1]); /* the end of file is the word */
	for (int one; wait(&one) > 0;)
		if (one != 0)
			status = EXIT_FAILURE;
	return status;
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		unsigned int number = (unsigned int)strtoul(argv[i + 1], NULL, 10);
		*(strcmp(argv[i], "--processes") == 0 ? &processes : &transports) = number;
	}
	if (argc % 2 == 0 || transports < 2 || transports % 2 != 0 || processes < 1 ||
	    processes > PROCESSES_MAX) {
		fputs("usage: many [--transports N] [--processes P]\n", stderr);
		return 2;
	}
	if (!raise_limit()) {
		puts("SKIPPED: the hard limit of descriptors is too low");
		return 77;
	}
	return run_all();
}
