#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

struct outcome outcome;
struct event_base *loop;
const char *folder;

enum { BYTES = 300000, FILE_BYTES = 200000, FDS = 3, MESSAGES = 20, LINES = 100 };

/* Keeps the first error. Returns the status. */
static int note(int status)
{
	if (status < 0 && outcome.error == 0)
		outcome.error = status;
	return status;
}

/* The part does not come further: the error is noted. */
static bool failed(int status)
{
	outcome.over |= note(status) < 0;
	return status < 0;
}

static unsigned char byte_at(size_t position)
{
	return (unsigned char)(position * 7 + position / 251);
}

static const unsigned char *make_bytes(size_t from, size_t length)
{
	static unsigned char bytes[BYTES];

	for (size_t i = 0; i < length; i++)
		bytes[i] = byte_at(from + i);
	return bytes;
}

static int get_pair(int fds[2])
{
	int status = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);

	return status < 0 ? -errno : 0;
}

/* NULL: the error is noted, and `fd` is closed. */
static struct ferry_transport *open_transport(int fd)
{
	struct ferry_transport *transport = NULL;

	if (failed(ferry_transport_new_socket(&transport, loop, fd)))
		close(fd);
	return transport;
}

/* Both, or none. */
static bool open_transports(struct ferry_transport *both[2])
{
	int fds[2];

	both[0] = both[1] = NULL;
	if (failed(get_pair(fds)))
		return false;
	both[0] = open_transport(fds[0]);
	both[1] = open_transport(fds[1]);
	if (both[0] != NULL && both[1] != NULL)
		return true;
	ferry_transport_free(both[0]);
	ferry_transport_free(both[1]);
	both[0] = both[1] = NULL;
	return false;
}

/* ---- bytes, descriptors and a file over a listener ---- */

static struct side {
	struct ferry_transport *transport; /* NULL: not yet, or lost and freed */
	size_t bytes;
	unsigned int fds;
	bool lost;
} client, server;
static struct ferry_listener *listener;
static size_t expected_bytes;
static unsigned int expected_fds;

static void settle_sides(void)
{
	if (!client.lost || server.transport != NULL)
		return;
	outcome.over = true;
	outcome.whole =
	    outcome.error == 0 && server.bytes == expected_bytes && server.fds == expected_fds;
}

static void on_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct side *side = context;
	unsigned char byte;
	(void)transport;

	while (evbuffer_remove(input, &byte, 1) == 1)
		outcome.wrong |= byte != byte_at(side->bytes++);
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct side *side = context;
	(void)transport;
	close(fd);
	side->fds++;
}

static void on_fds_lost(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	note(-EMFILE);
}

static void on_half_end(struct ferry_transport *transport, void *context)
{
	(void)context;
	note(ferry_transport_lose_connection(transport));
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct side *side = context;
	note(reason);
	side->lost = true;
	side->transport = NULL;
	ferry_transport_free(transport);
	settle_sides();
}

static const struct ferry_protocol protocol = {.data_received = on_data,
                                               .file_descriptor_received = on_fd,
                                               .file_descriptors_lost = on_fds_lost,
                                               .read_connection_lost = on_half_end,
                                               .connection_lost = on_lost};

static bool count_at(struct side *side)
{
	return note(ferry_transport_set_protocol(side->transport, &protocol, side)) == 0;
}

static void begin_sides(size_t bytes, unsigned int fds)
{
	client = server = (struct side){0};
	listener = NULL;
	expected_bytes = bytes;
	expected_fds = fds;
}

static void free_sides(void)
{
	ferry_listener_free(listener);
	ferry_transport_free(client.transport);
	ferry_transport_free(server.transport);
}

/* A memfd: no file system has a share in it. */
static void send_a_file(void)
{
	struct ferry_file_producer *producer = NULL;
	int fd = memfd_create("ferry-test", MFD_CLOEXEC);

	if (note(fd < 0 ? -errno : 0) < 0)
		return;
	ssize_t length = pwrite(fd, make_bytes(BYTES, FILE_BYTES), FILE_BYTES, 0);
	if (note(length == FILE_BYTES ? 0 : -ENOSPC) < 0 ||
	    note(ferry_transport_send_file(&producer, client.transport, fd, FERRY_FD_TAKE, 0,
	                                   FERRY_TO_END, 0, NULL, NULL)) < 0)
		close(fd);
}

/* Nothing behind what could not be sent. */
static void send_all(void)
{
	for (unsigned int i = 0; i < FDS; i++)
		note(ferry_transport_send_fd(client.transport, STDIN_FILENO, FERRY_FD_DUP));
	if (note(ferry_transport_write(client.transport, make_bytes(0, BYTES), BYTES)) == 0)
		send_a_file();
	note(ferry_transport_lose_connection(client.transport));
}

static void on_accepted(struct ferry_listener *from, struct ferry_transport *transport,
                        void *context)
{
	(void)from, (void)context;
	server.transport = transport;
	if (!count_at(&server)) {
		ferry_transport_free(transport);
		server.transport = NULL;
	}
}

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)connector, (void)context;
	client.transport = transport;
	if (failed(status))
		return;
	if (count_at(&client))
		send_all();
	else
		outcome.over = true;
}

static void connect_and_send(void)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	char path[300];

	begin_sides(BYTES + FILE_BYTES, FDS);
	options.lock = true;
	snprintf(path, sizeof(path), "%s/socket", folder);
	if (!failed(ferry_listener_new_unix(&listener, loop, path, &options, on_accepted, NULL)))
		failed(ferry_connector_new_unix(NULL, loop, path, &(struct timeval){.tv_sec = 50},
		                                on_connected, NULL));
}

/* ---- a full pipe ---- */

enum { TURNS_FULL = 50 };
static unsigned int turns;

static int get_pipe(int fds[2])
{
	return pipe2(fds, O_CLOEXEC) < 0 ? -errno : 0;
}

/* Both ends are paused at first. */
static void fill_pipe(void)
{
	int there[2], back[2];

	begin_sides(BYTES, 0);
	turns = 0;
	if (failed(get_pipe(there)))
		return;
	if (failed(get_pipe(back))) {
		close(there[0]);
		close(there[1]);
		return;
	}
	(void)fcntl(there[1], F_SETPIPE_SZ, 4096);
	if (failed(ferry_transport_new_pipes(&client.transport, loop, back[0], there[1]))) {
		close(back[0]);
		close(there[1]);
	}
	if (failed(ferry_transport_new_pipes(&server.transport, loop, there[0], back[1]))) {
		close(there[0]);
		close(back[1]);
	}
	if (outcome.over || !count_at(&client) || !count_at(&server) ||
	    note(ferry_transport_pause_reading(server.transport)) < 0) {
		outcome.over = true;
		return;
	}
	note(ferry_transport_write(client.transport, make_bytes(0, BYTES), BYTES));
	note(ferry_transport_lose_write_connection(client.transport));
}

/* The pipe is full for many turns of the loop. */
static bool pipe_is_empty(void)
{
	if (++turns >= TURNS_FULL && !outcome.over && server.transport != NULL &&
	    ferry_transport_resume_reading(server.transport) == -ENOMEM)
		turns = TURNS_FULL - 1; /* once more in the next turn */
	return outcome.over;
}

/* ---- messages ---- */

static struct ferry_message_stream *streams[2];
static unsigned int messages, message_fds;

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	(void)stream, (void)context;
	messages++;
	message_fds += (unsigned int)ferry_message_get_fd_count(message);
	if (ferry_message_get_fds_lost(message) > 0)
		note(-EMFILE);
}

static void on_stream_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	struct ferry_message_stream **own = context;
	note(reason);
	*own = NULL;
	ferry_message_stream_free(stream);
	outcome.over = streams[0] == NULL && streams[1] == NULL;
	outcome.whole = outcome.error == 0 && messages == MESSAGES && message_fds == MESSAGES * FDS;
}

static const struct ferry_message_callbacks message_callbacks = {.message_received = on_message,
                                                                 .connection_lost = on_stream_lost};

static void send_messages(void)
{
	static const int fds[FDS] = {STDIN_FILENO, STDIN_FILENO, STDIN_FILENO};
	struct ferry_transport *both[2];

	streams[0] = streams[1] = NULL;
	messages = message_fds = 0;
	if (!open_transports(both))
		return;
	for (int i = 0; i < 2; i++)
		if (failed(ferry_message_stream_new(&streams[i], both[i], &message_callbacks, &streams[i])))
			ferry_transport_free(both[i]);
	if (outcome.over)
		return;
	for (uint16_t i = 0; i < MESSAGES && outcome.error == 0; i++)
		note(ferry_message_stream_send(streams[0], i, "message", 7, fds, FDS, FERRY_FD_DUP));
	note(ferry_transport_lose_connection(ferry_message_stream_get_transport(streams[0])));
}

static void free_streams(void)
{
	ferry_message_stream_free(streams[0]);
	ferry_message_stream_free(streams[1]);
}

/* ---- a handoff that comes back, is parked and wakes ---- */

static struct ferry_dispatcher *dispatcher;
static struct ferry_worker *worker;
static struct ferry_parking *parking;
static int peer;

static void drop(struct ferry_handoff *handoff)
{
	outcome.over = true;
	ferry_handoff_free(handoff);
}

static void on_handoff(struct ferry_worker *from, struct ferry_handoff *handoff, void *context)
{
	struct ferry_handoff_info info;
	struct ferry_handoff *back = NULL;
	(void)context;

	note(ferry_handoff_get_info(handoff, &info));
	int fd = note(ferry_handoff_steal_fd(handoff));
	if (fd >= 0 && note(ferry_handoff_new(&back, fd)) < 0)
		close(fd);
	if (back != NULL && note(ferry_worker_return(from, info.id, back)) < 0)
		ferry_handoff_free(back);
	outcome.over |= back == NULL || outcome.error < 0;
}

static void on_return_failed(struct ferry_worker *from, uint64_t id, struct ferry_handoff *handoff,
                             void *context)
{
	(void)from, (void)id, (void)context;
	note(-ECONNRESET);
	drop(handoff);
}

static void on_dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)context;
	note(reason < 0 ? reason : -ECONNRESET);
	outcome.over = true;
	worker = NULL;
	ferry_worker_free(from);
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = on_handoff,
                                                               .return_failed = on_return_failed,
                                                               .dispatcher_lost =
                                                                   on_dispatcher_lost};

static void on_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *by,
                        struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)by, (void)context;
	if (note(ferry_parking_park(parking, handoff, -1, &(struct timeval){50, 0}, NULL)) < 0)
		drop(handoff);
	else if (write(peer, "x", 1) != 1)
		note(-errno);
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {.handoff_returned =
                                                                           on_returned};

static void on_woken(struct ferry_parking *from, struct ferry_handoff *handoff,
                     const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)context;
	note(event->error);
	outcome.whole = outcome.error == 0 && event->reason == FERRY_PARKING_INPUT;
	drop(handoff);
}

static const struct ferry_parking_callbacks parking_callbacks = {.handoff_woken = on_woken};

/* Without a return: the handoff ends here. */
static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome what, int reason, void *context)
{
	(void)from, (void)handoff, (void)what, (void)context;
	note(reason < 0 ? reason : -ECANCELED);
	outcome.over = true;
}

static bool add_worker(void)
{
	struct ferry_transport *both[2];

	if (!open_transports(both))
		return false;
	if (!failed(ferry_dispatcher_add_worker(NULL, dispatcher, both[0], NULL)))
		both[0] = NULL;
	if (!failed(ferry_worker_new(&worker, both[1], &worker_callbacks, NULL)))
		both[1] = NULL;
	ferry_transport_free(both[0]);
	ferry_transport_free(both[1]);
	return !outcome.over;
}

static void hand_off(void)
{
	struct ferry_handoff *handoff = NULL;
	int fds[2];

	dispatcher = NULL;
	worker = NULL;
	parking = NULL;
	peer = -1;
	if (failed(ferry_dispatcher_new(&dispatcher, loop, &dispatcher_callbacks, NULL)) ||
	    failed(ferry_parking_new(&parking, loop, &parking_callbacks, NULL)) ||
	    failed(ferry_parking_set_fd_reserve(parking, 0)) || !add_worker() || failed(get_pair(fds)))
		return;
	peer = fds[1];
	if (failed(ferry_handoff_new(&handoff, fds[0])))
		close(fds[0]);
	else if (failed(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, NULL)))
		ferry_handoff_free(handoff);
}

static void free_handoffs(void)
{
	ferry_dispatcher_free(dispatcher);
	ferry_worker_free(worker);
	ferry_parking_free(parking);
	if (peer >= 0)
		close(peer);
}

/* ---- a process ---- */

static struct ferry_supervisor *supervisor;

static void on_channel(struct ferry_supervisor *from, struct ferry_supervisor_worker *process,
                       struct ferry_transport *transport, void *context)
{
	(void)from, (void)process, (void)context;
	ferry_transport_free(transport);
}

static void on_process_ended(struct ferry_supervisor *from, struct ferry_supervisor_worker *process,
                             int status, void *context)
{
	(void)process, (void)context;
	note(status == 0 ? 0 : -ECHILD);
	outcome.whole = outcome.error == 0;
	note(ferry_supervisor_stop(from, FERRY_SUPERVISOR_KILL));
}

/* It is started again. */
static void on_start_failed(struct ferry_supervisor *from, unsigned int place, int error,
                            void *context)
{
	(void)from, (void)place, (void)context;
	note(error);
}

static void on_state(struct ferry_supervisor *from, enum ferry_supervisor_state state,
                     void *context)
{
	(void)from, (void)context;
	outcome.over |= state == FERRY_SUPERVISOR_STOPPED;
}

static const struct ferry_supervisor_callbacks supervisor_callbacks = {
    .channel_opened = on_channel,
    .worker_ended = on_process_ended,
    .start_failed = on_start_failed,
    .state_changed = on_state};

static void run_process(void)
{
	static const char *const argv[] = {"/bin/true", NULL};
	struct ferry_supervisor_options options = FERRY_SUPERVISOR_OPTIONS_INIT;

	supervisor = NULL;
	options.name = "true";
	options.argv = argv;
	options.longest_pause = (struct timeval){.tv_usec = 200000};
	failed(ferry_supervisor_new(&supervisor, loop, &options, &supervisor_callbacks, NULL));
}

static void free_supervisor(void)
{
	ferry_supervisor_free(supervisor);
}

/* ---- a takeover ---- */

static struct ferry_takeover *takeovers[2]; /* the old process's, the new one's */
static struct ferry_socket_set *sets[2];

static void on_received(struct ferry_takeover *takeover, struct ferry_socket_set *set,
                        void *context)
{
	(void)context;
	sets[1] = set;
	note(ferry_takeover_commit(takeover));
}

static void on_takeover_ended(struct ferry_takeover *takeover, int status, void *context)
{
	struct ferry_takeover **own = context;
	note(status);
	*own = NULL;
	ferry_takeover_free(takeover);
	outcome.over = takeovers[0] == NULL && takeovers[1] == NULL;
	outcome.whole = outcome.error == 0 && sets[1] != NULL && ferry_socket_set_count(sets[1]) == 1;
}

static const struct ferry_takeover_callbacks takeover_callbacks = {.received = on_received,
                                                                   .ended = on_takeover_ended};

/* A socket with a name by the kernel. */
static bool fill_set(void)
{
	const struct sockaddr nameless = {.sa_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (failed(fd < 0 ? -errno : 0))
		return false;
	if (bind(fd, &nameless, sizeof(sa_family_t)) == 0 && listen(fd, 5) == 0 &&
	    !failed(ferry_socket_set_new(&sets[0])) &&
	    !failed(ferry_socket_set_add(sets[0], "www", fd, FERRY_FD_TAKE)))
		return true;
	close(fd);
	return false;
}

static void take_over(void)
{
	const char *names[] = {"www"};
	struct ferry_transport *both[2];

	takeovers[0] = takeovers[1] = NULL;
	sets[0] = sets[1] = NULL;
	if (!fill_set() || !open_transports(both))
		return;
	if (!failed(ferry_takeover_serve(&takeovers[0], sets[0], both[0], &takeover_callbacks,
	                                 &takeovers[0])))
		both[0] = NULL;
	if (both[0] == NULL && !failed(ferry_takeover_request(&takeovers[1], both[1], names, 1,
	                                                      &takeover_callbacks, &takeovers[1])))
		both[1] = NULL;
	ferry_transport_free(both[0]);
	ferry_transport_free(both[1]);
}

static void free_takeovers(void)
{
	for (int i = 0; i < 2; i++) {
		ferry_takeover_free(takeovers[i]);
		ferry_socket_set_free(sets[i]);
	}
}

/* ---- lines, without callbacks ---- */

static struct ferry_poller *poller;
static struct ferry_channel *channel;
static int listening;
static unsigned int lines;

/* Returns the connection, or a negative errno. */
static int connect_to(const struct ferry_address *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, &address->name.any, address->length) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

static void send_lines(void)
{
	struct ferry_address address;
	struct ferry_channel *acceptor = NULL;
	char text[320];

	poller = NULL;
	channel = NULL;
	listening = -1;
	lines = 0;
	snprintf(text, sizeof(text), "unix:%s/lines", folder);
	unlink(text + strlen("unix:"));
	if (failed(ferry_poller_new(&poller)) || failed(ferry_address_parse(&address, text)))
		return;
	listening = ferry_address_listen(&address, 0);
	if (failed(listening) || failed(ferry_poller_add_server(&acceptor, poller, listening)) ||
	    failed(ferry_channel_set_lines(acceptor, "\n", 1, 100)))
		return;
	int fd = connect_to(&address);
	if (failed(fd))
		return;
	if (failed(ferry_channel_new_socket(&channel, poller, fd))) {
		close(fd);
		return;
	}
	note(ferry_poller_register(poller, channel));
	for (int i = 0; i < LINES; i++)
		note(ferry_channel_write(channel, "hello\n", 6));
	outcome.over |= outcome.error < 0;
}

static bool lines_have_come(void)
{
	struct ferry_channel_event events[16];
	int count = outcome.over ? 0 : ferry_poller_poll(poller, &(struct timeval){0}, events, 16);

	for (int i = 0; i < count; i++) {
		lines += events[i].kind == FERRY_CHANNEL_LINE;
		outcome.wrong |= events[i].kind == FERRY_CHANNEL_LINE && events[i].length != 5;
		outcome.over |= events[i].kind == FERRY_CHANNEL_CLOSED;
		if (events[i].kind == FERRY_CHANNEL_CLOSED)
			note(events[i].reason < 0 ? events[i].reason : -ECONNRESET);
	}
	outcome.whole = outcome.error == 0 && lines == LINES;
	outcome.over |= outcome.whole;
	return outcome.over;
}

static void free_poller(void)
{
	char path[300];

	ferry_poller_free(poller);
	if (listening >= 0)
		close(listening);
	snprintf(path, sizeof(path), "%s/lines", folder);
	unlink(path);
}

const struct part parts[] = {
    {"streams", connect_and_send, NULL, free_sides},
    {"full pipe", fill_pipe, pipe_is_empty, free_sides},
    {"messages", send_messages, NULL, free_streams},
    {"handoff", hand_off, NULL, free_handoffs},
    {"process", run_process, NULL, free_supervisor},
    {"takeover", take_over, NULL, free_takeovers},
    {"lines", send_lines, lines_have_come, free_poller},
};
const size_t part_count = sizeof(parts) / sizeof(parts[0]);
