/* One operation, again and again, in one process without waiting: what gate.py counts instructions and system calls
 * of.
 *
 *   bench_operations round_trip|descriptor|message|file|handoff|return COUNT
 *
 *   round_trip  64 bytes there and back between two transports
 *   descriptor  one descriptor with its byte, and its close
 *   message     a message of 64 bytes with one descriptor
 *   file        a file of 64 KiB by a file producer, and its bytes read at the other end
 *   handoff     a connection with its head to a worker, the claim, the end, and all closes
 *   return      a connection from its worker back, and to a worker again */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/ferry.h"

enum { MESSAGE = 64, FILE_SIZE = 64 * 1024 };

static struct event_base *base;
static const char message[MESSAGE];
static uint64_t done;
static int given; /* the descriptor that is sent */

static struct ferry_transport *new_transport(int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	struct ferry_transport *transport = NULL;

	bench_need(bev != NULL && ferry_transport_new(&transport, bev) == 0, "transport");
	return transport;
}

static void until(uint64_t count)
{
	while (done < count)
		event_base_loop(base, EVLOOP_ONCE);
}

/* ---- streams ---- */

static struct ferry_transport *near_end, *far_end;
static uint64_t bytes_received;

static void echo(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)context;
	if (evbuffer_get_length(input) < MESSAGE)
		return;
	evbuffer_drain(input, MESSAGE);
	if (transport == near_end)
		done++;
	else
		ferry_transport_try_write(transport, message, MESSAGE);
}

static void take_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	close(fd);
	done++;
}

static void drop(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	bytes_received += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void open_streams(const struct ferry_protocol *protocol)
{
	int fds[2];

	bench_pair(BENCH_UNIX, fds);
	near_end = new_transport(fds[0]);
	far_end = new_transport(fds[1]);
	ferry_transport_set_protocol(near_end, protocol, NULL);
	ferry_transport_set_protocol(far_end, protocol, NULL);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static void round_trips(uint64_t count)
{
	static const struct ferry_protocol protocol = {.data_received = echo};

	open_streams(&protocol);
	for (uint64_t i = 0; i < count; i++) {
		ferry_transport_try_write(near_end, message, MESSAGE);
		until(i + 1);
	}
}

static void descriptors(uint64_t count)
{
	static const struct ferry_protocol protocol = {.data_received = drop,
	                                               .file_descriptor_received = take_fd};

	open_streams(&protocol);
	for (uint64_t i = 0; i < count; i++) {
		bench_need(ferry_transport_send_fd(near_end, given, FERRY_FD_DUP) == 0 &&
		               ferry_transport_write(near_end, "x", 1) == 0,
		           "send_fd");
		until(i + 1);
	}
}

static void file_sent(struct ferry_file_producer *producer, int status, uint64_t sent,
                      void *context)
{
	(void)producer, (void)context;
	bench_need(status == 0 && sent == FILE_SIZE, "the file");
	done++;
}

static void files(uint64_t count)
{
	static const struct ferry_protocol protocol = {.data_received = drop};
	static const struct ferry_file_callbacks callbacks = {.finished = file_sent};
	int file = bench_file(FILE_SIZE);

	open_streams(&protocol);
	for (uint64_t i = 0; i < count; i++) {
		bench_need(ferry_transport_send_file(NULL, near_end, file, FERRY_FD_DUP, 0, FILE_SIZE, 0,
		                                     &callbacks, NULL) == 0,
		           "send_file");
		until(i + 1);
		while (bytes_received < (i + 1) * FILE_SIZE)
			event_base_loop(base, EVLOOP_ONCE);
	}
}

/* ---- messages ---- */

static void count_message(struct ferry_message_stream *stream, struct ferry_message *received,
                          void *context)
{
	(void)stream, (void)context;
	bench_need(ferry_message_get_fd_count(received) == 1, "a descriptor");
	done++;
}

static struct ferry_message_stream *new_stream(int fd)
{
	static const struct ferry_message_callbacks callbacks = {.message_received = count_message};
	struct ferry_message_stream *stream = NULL;

	bench_need(ferry_message_stream_new(&stream, new_transport(fd), &callbacks, NULL) == 0,
	           "stream");
	return stream;
}

static void messages(uint64_t count)
{
	int fds[2];

	bench_pair(BENCH_UNIX, fds);
	struct ferry_message_stream *stream = new_stream(fds[0]);
	new_stream(fds[1]);
	event_base_loop(base, EVLOOP_NONBLOCK);
	for (uint64_t i = 0; i < count; i++) {
		bench_need(
		    ferry_message_stream_send(stream, 1, message, MESSAGE, &given, 1, FERRY_FD_DUP) == 0,
		    "send");
		until(i + 1);
	}
}

/* ---- handoffs ---- */

static const char head[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
static struct ferry_dispatcher *dispatcher;
static bool returns; /* the worker returns what it gets */
static struct ferry_handoff *returned;

static void outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                    enum ferry_handoff_outcome how, int reason, void *context)
{
	(void)from, (void)handoff, (void)reason, (void)context;
	bench_need(how == FERRY_HANDOFF_DONE, "outcome");
	done++;
}

static void handoff_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                             struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)worker, (void)context;
	returned = handoff;
	done++;
}

static void give_back(struct ferry_worker *worker, uint64_t id, int fd)
{
	struct ferry_handoff *handoff = NULL;

	bench_need(ferry_handoff_new(&handoff, fd) == 0 &&
	               ferry_worker_return(worker, id, handoff) == 0,
	           "return");
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)context;
	struct ferry_handoff_info info = {0};

	ferry_handoff_get_info(handoff, &info);
	int fd = ferry_handoff_steal_fd(handoff);
	bench_need(fd >= 0, "steal_fd");
	ferry_handoff_free(handoff);
	if (returns) {
		give_back(worker, info.id, fd);
		return;
	}
	close(fd);
	ferry_worker_done(worker, info.id);
}

static void open_channel(void)
{
	static const struct ferry_dispatcher_callbacks at_dispatcher = {.handoff_returned =
	                                                                    handoff_returned};
	static const struct ferry_worker_callbacks at_worker = {.handoff_received = handoff_received};
	struct ferry_dispatcher_stats stats = {0};
	struct ferry_worker *worker = NULL;
	int fds[2];

	bench_pair(BENCH_UNIX, fds);
	bench_need(ferry_dispatcher_new(&dispatcher, base, &at_dispatcher, NULL) == 0 &&
	               ferry_dispatcher_add_worker(NULL, dispatcher, new_transport(fds[0]), NULL) ==
	                   0 &&
	               ferry_worker_new(&worker, new_transport(fds[1]), &at_worker, NULL) == 0,
	           "dispatcher and worker");
	while (stats.credits == 0) {
		event_base_loop(base, EVLOOP_ONCE);
		ferry_dispatcher_get_stats(dispatcher, &stats);
	}
}

static void hand_off(struct ferry_handoff *handoff)
{
	bench_need(ferry_dispatcher_hand_off(dispatcher, handoff, outcome, NULL) == 0, "hand_off");
}

static struct ferry_handoff *new_handoff(int *client)
{
	struct ferry_handoff *handoff = NULL;
	int fds[2];

	bench_pair(BENCH_UNIX, fds);
	*client = fds[0];
	bench_need(ferry_handoff_new(&handoff, fds[1]) == 0 &&
	               ferry_handoff_set_bytes(handoff, head, sizeof(head) - 1) == 0,
	           "handoff");
	return handoff;
}

static void handoffs(uint64_t count)
{
	int client;

	open_channel();
	for (uint64_t i = 0; i < count; i++) {
		hand_off(new_handoff(&client));
		until(i + 1);
		close(client);
	}
}

static void returned_handoffs(uint64_t count)
{
	int client;

	returns = true;
	open_channel();
	returned = new_handoff(&client);
	for (uint64_t i = 0; i < count; i++) {
		hand_off(returned);
		until(i + 1);
	}
	close(client);
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"round_trip", "descriptor", "message", "file",
	                                    "handoff",    "return",     NULL};
	static void (*const operations[])(uint64_t) = {round_trips, descriptors, messages,
	                                               files,       handoffs,    returned_handoffs};

	if (argc != 3) {
		fprintf(stderr, "usage: %s round_trip|descriptor|message|file|handoff|return COUNT\n",
		        argv[0]);
		return 2;
	}
	int operation = bench_choice(argv[1], names);
	base = event_base_new();
	given = open("/dev/null", O_RDONLY | O_CLOEXEC);
	bench_need(base != NULL && given >= 0, "start");
	operations[operation](bench_number(argv[2]));
	return 0;
}
