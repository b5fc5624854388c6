/* Either end of a takeover, and another process that sends anything: `ended` runs once at most, one
 * process owns the set, and no descriptor is left. */

#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/takeover.h"
#include "takeover/takeover.h"
#include "takeover/wire.h"

enum {
	NEW = 1,
	FREES = 2,
	FREES_SET = 4,
	ACCEPTS = 8,
	WITH_FILE = 16,
	WITH_STATE = 32,
	PAYLOAD_MAX = 128
};

static const char directory_template[] = "/tmp/ferry-fuzz-XXXXXX";
static char directory[sizeof(directory_template)];
static char path[sizeof(directory) + 2];

static struct {
	struct ferry_takeover *takeover; /* NULL once freed */
	struct ferry_socket_set *set;    /* offered, or received */
	unsigned int flags;
	unsigned int received, ended;
	int status;
	bool has_file; /* one was made */
	bool accepts;  /* the new process has sent ACCEPTING */
	/* LISTENERs sent to the new process; and those of them that describe their socket correctly. */
	unsigned int sent, listeners;
	/* The STATE that was sent to the new process before END. A raw message may be another one. */
	unsigned char state[PAYLOAD_MAX];
	size_t state_length;
	bool sent_state, sent_end, sent_raw;
} all;

/* ---- the callbacks ---- */

static void free_takeover(void)
{
	ferry_takeover_free(all.takeover);
	all.takeover = NULL;
}

/* The new process has all of the STATE, or none. */
static void check_state(struct ferry_takeover *takeover)
{
	size_t length;
	void *state = takeover_steal_state(takeover, &length);

	if (!all.sent_raw) {
		FUZZ_CHECK(length == all.state_length);
		FUZZ_CHECK(length == 0 || memcmp(state, all.state, length) == 0);
	}
	free(state);
}

static void on_received(struct ferry_takeover *takeover, struct ferry_socket_set *set,
                        void *context)
{
	(void)context;
	FUZZ_CHECK(takeover == all.takeover && all.received++ == 0 && all.ended == 0);
	FUZZ_CHECK(set != NULL && ferry_socket_set_count(set) <= all.listeners);
	all.set = set;
	check_state(takeover);
	for (size_t i = 0; i < ferry_socket_set_count(set); i++)
		FUZZ_CHECK(fcntl(ferry_socket_set_get_fd(set, i), F_GETFD) == FD_CLOEXEC);
	if ((all.flags & ACCEPTS) != 0) {
		FUZZ_CHECK(ferry_takeover_commit(takeover) == 0);
		all.accepts = true;
	}
	if ((all.flags & FREES) != 0)
		free_takeover();
}

static void on_ended(struct ferry_takeover *takeover, int status, void *context)
{
	(void)context;
	FUZZ_CHECK(takeover == all.takeover && all.ended++ == 0 && status <= 0);
	all.status = status;
	if ((all.flags & FREES_SET) != 0) {
		ferry_socket_set_free(all.set);
		all.set = NULL;
	}
	if ((all.flags & FREES) != 0)
		free_takeover();
}

static const struct ferry_takeover_callbacks callbacks = {.received = on_received,
                                                          .ended = on_ended};

/* ---- sockets that listen ---- */

/* A socket with a file, or with an abstract name that the kernel chooses. */
static int listen_on(bool file)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	FUZZ_CHECK(fd >= 0);
	memcpy(address.sun_path, path, sizeof(path));
	if (file) {
		unlink(path);
		all.has_file = true;
	}
	FUZZ_CHECK(
	    bind(fd, (struct sockaddr *)&address, file ? sizeof(address) : sizeof(sa_family_t)) == 0);
	FUZZ_CHECK(listen(fd, 1) == 0);
	return fd;
}

/* ---- the other process ---- */

static void send_hello(int socket)
{
	unsigned char payload[TAKEOVER_WIRE_HELLO_SIZE];

	takeover_wire_hello_put(payload);
	fuzz_send_message(socket, TAKEOVER_WIRE_HELLO, payload, sizeof(payload), 0, NULL, 0);
}

/* A new process requests all sockets, or "a", or "b", which does not exist. */
static void send_request(int socket, unsigned int how)
{
	static const unsigned char names[] = {1, 'a', 1, 'b'};
	unsigned char payload[TAKEOVER_WIRE_REQUEST_SIZE + sizeof(names)];
	const uint32_t count = how % 3;

	takeover_wire_request_put(payload, count);
	memcpy(payload + TAKEOVER_WIRE_REQUEST_SIZE, names, sizeof(names));
	fuzz_send_message(socket, TAKEOVER_WIRE_REQUEST, payload,
	                  TAKEOVER_WIRE_REQUEST_SIZE + 2 * (size_t)count, 0, NULL, 0);
}

/* An old process sends a LISTENER. `how` may change one byte of it. */
static void send_listener(int socket, unsigned int how, struct fuzz_input *input)
{
	const bool file = (how & 1) != 0 && (all.flags & NEW) != 0;
	unsigned char payload[TAKEOVER_WIRE_LISTENER_SIZE + 2] = {0};
	struct takeover_wire_listener listener = {.name_length = 1};
	struct stat status;
	int fds[2] = {listen_on(file), open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC)};
	socklen_t cookie_length = sizeof(listener.cookie);

	FUZZ_CHECK(getsockopt(fds[0], SOL_SOCKET, SO_COOKIE, &listener.cookie, &cookie_length) == 0);
	if (file) {
		FUZZ_CHECK(fds[1] >= 0 && stat(path, &status) == 0);
		listener.device = status.st_dev;
		listener.inode = status.st_ino;
		listener.file_name_length = 1;
	}
	takeover_wire_listener_put(payload, &listener);
	payload[TAKEOVER_WIRE_LISTENER_SIZE] = 'a';
	payload[TAKEOVER_WIRE_LISTENER_SIZE + 1] = 's'; /* the file's name */
	size_t length = TAKEOVER_WIRE_LISTENER_SIZE + 1 + (size_t)listener.file_name_length;
	bool is_true = true;
	if ((how & 2) != 0) {
		size_t at = fuzz_byte(input) % length;
		unsigned int change = fuzz_byte(input);
		payload[at] = (unsigned char)(payload[at] + change);
		is_true = at >= sizeof(listener.cookie) || change == 0;
	}
	if (fuzz_send_message(socket, TAKEOVER_WIRE_LISTENER, payload, length, 1 + file, fds,
	                      1 + file)) {
		all.sent++;
		all.listeners += is_true;
	}
	close(fds[0]);
	close(fds[1]);
}

static void send_state(int socket, struct fuzz_input *input)
{
	unsigned char payload[PAYLOAD_MAX];
	const size_t length = fuzz_byte(input) % sizeof(payload);

	for (size_t i = 0; i < length; i++)
		payload[i] = fuzz_byte(input);
	if (fuzz_send_message(socket, TAKEOVER_WIRE_STATE, payload, length, 0, NULL, 0) &&
	    !all.sent_state && !all.sent_end) {
		all.sent_state = true;
		all.state_length = length;
		memcpy(all.state, payload, length);
	}
}

static void send_number(int socket, enum takeover_wire_type type, int32_t number)
{
	unsigned char payload[TAKEOVER_WIRE_NUMBER_SIZE];

	takeover_wire_number_put(payload, number);
	fuzz_send_message(socket, (uint16_t)type, payload, sizeof(payload), 0, NULL, 0);
}

static void say(int socket, unsigned int how, struct fuzz_input *input)
{
	switch (how % 8) {
	case 0:
		if (how >> 3 == 0)
			send_hello(socket);
		else
			send_state(socket, input);
		break;
	case 1:
		send_request(socket, how >> 3);
		break;
	case 2:
		send_listener(socket, how >> 3, input);
		break;
	case 3:
		all.sent_end = true;
		send_number(socket, TAKEOVER_WIRE_END, (int32_t)all.sent + (how >> 3 == 3));
		break;
	case 4:
		fuzz_send_message(socket, TAKEOVER_WIRE_ACCEPTING, NULL, 0, 0, NULL, 0);
		break;
	case 5:
		fuzz_send_message(socket, TAKEOVER_WIRE_RELEASED, NULL, 0, 0, NULL, 0);
		break;
	case 6:
		send_number(socket, TAKEOVER_WIRE_WITHDRAWN, -ECANCELED);
		break;
	default:
		fuzz_turns(2);
		break;
	}
}

static void act(unsigned int how)
{
	if (how % 4 == 0)
		free_takeover();
	else if (how % 4 == 1 && all.received > 0)
		all.accepts |= ferry_takeover_commit(all.takeover) == 0;
	else if (how % 4 == 2 && (all.received > 0 || (all.flags & NEW) == 0)) {
		ferry_socket_set_free(all.set);
		all.set = NULL;
	}
}

static void step(int socket, struct fuzz_input *input)
{
	unsigned int step = fuzz_byte(input);

	all.sent_raw |= (step & 7) < 2;
	if (fuzz_peer_step(socket, step, input))
		return;
	if ((step & 7) == 7)
		act(step >> 3);
	else
		say(socket, step >> 3, input);
}

/* ---- this process ---- */

static int on_state_requested(struct ferry_takeover *takeover, struct evbuffer *state,
                              void *context)
{
	(void)context;
	FUZZ_CHECK(takeover == all.takeover && evbuffer_add(state, "state", 5) == 0);
	if ((all.flags & FREES) != 0)
		free_takeover();
	return 0;
}

static void begin(int socket)
{
	if ((all.flags & NEW) != 0) {
		FUZZ_CHECK(ferry_takeover_request(&all.takeover, fuzz_transport(socket), NULL, 0,
		                                  &callbacks, NULL) == 0);
		return;
	}
	FUZZ_CHECK(ferry_socket_set_new(&all.set) == 0);
	FUZZ_CHECK(ferry_socket_set_add(all.set, "a", listen_on((all.flags & WITH_FILE) != 0),
	                                FERRY_FD_TAKE) == 0);
	if ((all.flags & WITH_FILE) != 0)
		FUZZ_CHECK(ferry_socket_set_own_path(all.set, "a") == 0);
	FUZZ_CHECK(ferry_takeover_serve(&all.takeover, all.set, fuzz_transport(socket), &callbacks,
	                                NULL) == 0);
	if ((all.flags & WITH_STATE) != 0)
		takeover_set_state_cb(all.takeover, on_state_requested);
}

/* A new process that has its set and has not committed waits for its owner. */
static bool is_due(void)
{
	return all.takeover != NULL && all.ended == 0 && !((all.flags & NEW) != 0 && all.received > 0);
}

static void end(int socket)
{
	close(socket);
	while (is_due())
		FUZZ_CHECK(event_base_loop(fuzz_base, EVLOOP_ONCE) == 0);
	fuzz_turns(2);
	/* Sockets that were handed over have left the set. Otherwise nothing has changed. */
	if (all.set != NULL && (all.flags & NEW) == 0)
		FUZZ_CHECK(ferry_socket_set_count(all.set) == !(all.ended > 0 && all.status == 0));
	free_takeover();
	ferry_socket_set_free(all.set);
	/* This process removes neither a file that was handed over nor one that was only offered. */
	bool is_others = (all.flags & NEW) != 0 ? !all.accepts : all.ended > 0 && all.status == 0;
	if (all.has_file && is_others)
		FUZZ_CHECK(access(path, F_OK) == 0);
	unlink(path);
}

/* For each input: libFuzzer ends without atexit(3). */
static void make_directory(void)
{
	memcpy(directory, directory_template, sizeof(directory));
	FUZZ_CHECK(mkdtemp(directory) != NULL);
	snprintf(path, sizeof(path), "%s/s", directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	int ends[2];

	if (size > FUZZ_INPUT_MAX)
		return 0;
	make_directory();
	fuzz_begin();
	fuzz_pair(ends);
	memset(&all, 0, sizeof(all));
	all.flags = fuzz_byte(&input);
	begin(ends[0]);
	while (input.left > 0)
		step(ends[1], &input);
	end(ends[1]);
	fuzz_end();
	FUZZ_CHECK(rmdir(directory) == 0);
	return 0;
}
