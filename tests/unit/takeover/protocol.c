/* One end of a takeover is ferry's; the test writes the bytes of the other end, also malformed ones. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "listener_options.h"
#include "listening.h"
#include "recorder.h"
#include "takeover_pair.h"
#include "test.h"
#include "wire.h"

enum {
	HELLO = 32,
	REQUEST,
	LISTENER,
	END,
	ACCEPTING,
	RELEASED,
	WITHDRAWN,
	STATE,
	HEADER = 16,
	FRAME_MAX = 1024
};

static size_t put_frame(unsigned char *out, unsigned int type, const void *payload, size_t length,
                        unsigned int fds)
{
	const unsigned char header[HEADER] = {'F',
	                                      'R',
	                                      'Y',
	                                      1,
	                                      (unsigned char)type,
	                                      0,
	                                      0,
	                                      0,
	                                      (unsigned char)length,
	                                      (unsigned char)(length >> 8),
	                                      0,
	                                      0,
	                                      (unsigned char)fds,
	                                      0,
	                                      0,
	                                      0};
	memcpy(out, header, HEADER);
	if (length > 0)
		memcpy(out + HEADER, payload, length);
	return HEADER + length;
}

static void far_send(unsigned int type, const void *payload, size_t length, const int *fds,
                     unsigned int count)
{
	unsigned char frame[FRAME_MAX];
	size_t size = put_frame(frame, type, payload, length, count);
	ck_assert_int_eq(wire_send(takeover_fds[1], frame, size, fds, count), (ssize_t)size);
}

static void far_hello(unsigned int lowest, unsigned int highest)
{
	const unsigned char hello[8] = {
	    (unsigned char)lowest, 0, (unsigned char)highest, 0, 0, 0, 0, 0};
	far_send(HELLO, hello, sizeof(hello), NULL, 0);
}

/* Reads the next frame that our side sends, and returns its type. */
static unsigned char far_payload[FRAME_MAX];
static struct wire_read far_read;

static bool frame_is_there(void *argument)
{
	unsigned char header[HEADER];
	(void)argument;
	return recv(takeover_fds[1], header, HEADER, MSG_PEEK | MSG_DONTWAIT) == HEADER;
}

static unsigned int far_receive(void)
{
	unsigned char header[HEADER];
	struct wire_read rest;
	pump_until(frame_is_there, NULL);
	wire_receive(takeover_fds[1], header, HEADER, &far_read);
	ck_assert_int_eq(far_read.bytes, HEADER);
	ck_assert_uint_eq(far_read.fd_count, header[12]);
	size_t length = header[8] | (size_t)header[9] << 8;
	memset(far_payload, 0, sizeof(far_payload));
	if (length > 0) {
		wire_receive(takeover_fds[1], far_payload, length, &rest);
		ck_assert_int_eq(rest.bytes, (ssize_t)length);
		ck_assert_uint_eq(rest.fd_count, 0);
	}
	return header[4];
}

static int far_number(void)
{
	return (int)(far_payload[0] | (unsigned int)far_payload[1] << 8 |
	             (unsigned int)far_payload[2] << 16 | (unsigned int)far_payload[3] << 24);
}

static void open_far(void)
{
	open_set();
	make_pair(PAIR_UNIX, takeover_fds);
	serve_on(&old_end, old_set, takeover_fds[0]);
	ck_assert_uint_eq(far_receive(), HELLO);
}

static void close_far(void)
{
	close(takeover_fds[1]);
	close_all();
	ck_assert(!path_exists(socket_path));
}

static const unsigned char all_names[8] = {0};

static void nothing_is_said_yet(struct takeover_end *end)
{
	char byte;
	(void)end;
	ck_assert_int_eq(recv(takeover_fds[1], &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
}

TEST_CASE("by hand", make_directory, remove_directory);

TEST(the_bytes_are_those_of_the_documentation)
{
	static const unsigned char hello[8] = {1, 0, 1, 0, 0, 0, 0, 0};
	static const unsigned char two[8 + 4 + 8] = {2,   0,   0, 0,   0,   0,   0,   0,   3,   'w',
	                                             'w', 'w', 7, 'c', 'o', 'n', 't', 'r', 'o', 'l'};
	struct stat file, parent;
	char inside[sizeof(socket_path)];
	uint64_t cookie, device, inode;
	socklen_t length = sizeof(cookie);
	open_set();
	make_pair(PAIR_UNIX, takeover_fds);
	serve_on(&old_end, old_set, takeover_fds[0]);
	ck_assert_uint_eq(far_receive(), HELLO);
	ck_assert_mem_eq(far_payload, hello, sizeof(hello));
	far_hello(1, 1);
	far_send(REQUEST, two, sizeof(two), NULL, 0);

	ck_assert_uint_eq(far_receive(), LISTENER); /* in the order of the set */
	ck_assert_uint_eq(far_read.fd_count, 1);
	ck_assert(same_file(far_read.fds[0], ferry_socket_set_get_fd(old_set, 0)));
	ck_assert_mem_eq(far_payload + 24, "\3\0\0\0\0\0\0\0www", 11);
	wire_close_fds(&far_read);

	ck_assert_uint_eq(far_receive(), LISTENER);
	ck_assert_uint_eq(far_read.fd_count, 2);
	ck_assert(same_file(far_read.fds[0], ferry_socket_set_get_fd(old_set, 1)));
	ck_assert_int_eq(getsockopt(far_read.fds[0], SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	ck_assert_mem_eq(far_payload, &cookie, 8); /* the tests run on little-endian machines */
	ck_assert_int_eq(lstat(socket_path, &file), 0);
	device = file.st_dev;
	inode = file.st_ino;
	ck_assert_mem_eq(far_payload + 8, &device, 8);
	ck_assert_mem_eq(far_payload + 16, &inode, 8);
	ck_assert_mem_eq(far_payload + 24, "\7\0\6\0\0\0\0\0controlsocket", 21);
	memcpy(inside, socket_path, sizeof(inside));
	*strrchr(inside, '/') = '\0';
	ck_assert_int_eq(stat(inside, &parent), 0);
	ck_assert_int_eq(fstat(far_read.fds[1], &file), 0);
	ck_assert_uint_eq(file.st_ino, parent.st_ino);
	wire_close_fds(&far_read);

	ck_assert_uint_eq(far_receive(), LISTENER);
	wire_close_fds(&far_read);
	ck_assert_uint_eq(far_receive(), END);
	ck_assert_int_eq(far_number(), 3);
	old_end.on_ended = nothing_is_said_yet;
	far_send(ACCEPTING, NULL, 0, NULL, 0);
	ck_assert_uint_eq(far_receive(), RELEASED);
	ck_assert_uint_eq(old_end.ended, 1);
	ck_assert_int_eq(old_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 1);
	close(takeover_fds[1]);
	close_all();
	ck_assert_int_eq(unlink(socket_path), 0); /* the owner removes the file */
}

static void accept_nothing(struct ferry_listener *listener, struct ferry_transport *transport,
                           void *context)
{
	(void)listener, (void)context;
	ferry_transport_free(transport);
}

TEST(a_lock_is_the_third_descriptor)
{
	char lock_path[sizeof(socket_path) + 8];
	struct ferry_listener *listener = NULL;
	struct stat named, sent;
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&old_set), 0);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, with_lock(), accept_nothing, NULL),
	    0);
	ck_assert_int_eq(ferry_socket_set_add_listener(old_set, "control", listener), 0);
	ferry_listener_free(listener);
	make_pair(PAIR_UNIX, takeover_fds);
	serve_on(&old_end, old_set, takeover_fds[0]);
	ck_assert_uint_eq(far_receive(), HELLO);
	far_hello(1, 1);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);

	ck_assert_uint_eq(far_receive(), LISTENER);
	ck_assert_uint_eq(far_read.fd_count, 3);
	ck_assert_mem_eq(far_payload + 24, "\7\0\6\0\1\0\0\0controlsocket", 21);
	ck_assert(same_file(far_read.fds[0], ferry_socket_set_find(old_set, "control")));
	snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
	ck_assert_int_eq(lstat(lock_path, &named), 0);
	ck_assert_int_eq(fstat(far_read.fds[2], &sent), 0);
	ck_assert_uint_eq(named.st_ino, sent.st_ino);
	wire_close_fds(&far_read);
	close_far();
	ck_assert(!path_exists(lock_path));
}

/* Messages that the old process must not get after HELLO, in the state TALKING. */
static const struct {
	unsigned int type;
	size_t length;
	const char *payload;
} bad_requests[] = {
    {HELLO, 8, "\1\0\1\0\0\0\0\0"},          {ACCEPTING, 0, ""},
    {REQUEST, 7, "\0\0\0\0\0\0\0"},          {REQUEST, 8, "\1\0\0\0\0\0\0\0"},
    {REQUEST, 9, "\0\0\0\0\0\0\0\0\0"},      {REQUEST, 11, "\1\0\0\0\0\0\0\0\3ww"},
    {REQUEST, 13, "\1\0\0\0\0\0\0\0\3wwww"}, {REQUEST, 12, "\1\0\0\0\0\0\0\0\3w\0w"},
    {REQUEST, 12, "\2\0\0\0\0\0\0\0\3www"},  {REQUEST, 12, "\377\377\377\377\0\0\0\0\3www"},
};

LOOP_TEST(a_malformed_request_gets_nothing, COUNT(bad_requests))
{
	open_far();
	far_hello(1, 1);
	far_send(bad_requests[_i].type, bad_requests[_i].payload, bad_requests[_i].length, NULL, 0);
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(far_number(), -EPROTO);
	ck_assert_uint_eq(old_end.ended, 1);
	ck_assert_int_eq(old_end.status, -EPROTO);
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 4);
	close_far();
}

TEST(hello_comes_first)
{
	open_far();
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(old_end.status, -EPROTO);
	close_far();
}

TEST(bytes_that_are_no_message_change_nothing)
{
	open_far();
	far_hello(1, 1);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(far_receive(), LISTENER);
		wire_close_fds(&far_read);
	}
	ck_assert_uint_eq(far_receive(), END);
	ck_assert_int_eq(wire_send(takeover_fds[1], "garbage garbage garbage", 23, NULL, 0), 23);
	pump_until_count(&old_end.ended, 1);
	ck_assert_int_eq(old_end.status, -EPROTO);
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 4);
	close_far(); /* fails if the old process did not remove its file */
}

LOOP_TEST(versions_must_meet, 3)
{
	static const struct {
		unsigned int lowest, highest;
		int status;
	} hellos[] = {{2, 3, -EPROTONOSUPPORT}, {0, 1, -EPROTO}, {2, 1, -EPROTO}};
	open_far();
	far_hello(hellos[_i].lowest, hellos[_i].highest);
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(far_number(), hellos[_i].status);
	ck_assert_int_eq(old_end.status, hellos[_i].status);
	close_far();
}

TEST(a_later_version_and_its_messages_are_welcome)
{
	static const unsigned char longer[12] = {1, 0, 9, 0, 0, 0, 0, 0, 7, 7, 7, 7};
	open_far();
	far_send(HELLO, longer, sizeof(longer), NULL, 0);
	far_send(77, longer, sizeof(longer), NULL, 0);
	far_send(1, longer, sizeof(longer), NULL, 0);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(far_receive(), LISTENER);
		wire_close_fds(&far_read);
	}
	ck_assert_uint_eq(far_receive(), END);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0); /* a second request is an error */
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(old_end.status, -EPROTO);
	close_far();
}

/* The new process does not read, and its socket is full: the old process withdraws, but cannot send
 * WITHDRAWN. */
TEST(files_are_left_when_the_withdrawal_cannot_be_sent)
{
	open_set();
	raise_descriptor_limit();
	make_pair(PAIR_UNIX, takeover_fds);
	wire_shrink(takeover_fds[0]);
	serve_on(&old_end, old_set, takeover_fds[0]);
	pump_turns(3);
	far_hello(1, 1);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	pump_turns(10);
	/* The test's own bytes fill the socket. */
	wire_fill(takeover_fds[0]);
	free_takeover(&old_end);
	ferry_socket_set_free(old_set);
	old_set = NULL;
	ck_assert(path_exists(socket_path));
	ck_assert_int_eq(unlink(socket_path), 0);
	close(takeover_fds[1]);
	close_all();
}

static void free_set(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
	(void)buffer, (void)info, (void)context;
	ferry_socket_set_free(old_set);
	old_set = NULL;
}

/* A callback on the output frees the set while WITHDRAWN is written. _i: the channel is full */
LOOP_TEST(a_set_may_be_freed_while_its_takeover_fails, 2)
{
	open_set();
	make_pair(PAIR_UNIX, takeover_fds);
	struct ferry_transport *transport = make_transport(takeover_fds[0]);
	ck_assert_int_eq(ferry_takeover_serve(&old_end.takeover, old_set, transport,
	                                      &takeover_end_callbacks, &old_end),
	                 0);
	ck_assert_uint_eq(far_receive(), HELLO);
	far_hello(1, 1);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(far_receive(), LISTENER);
		wire_close_fds(&far_read);
	}
	ck_assert_uint_eq(far_receive(), END);
	if (_i == 1)
		wire_fill(takeover_fds[0]);
	evbuffer_add_cb(bufferevent_get_output(ferry_transport_get_bufferevent(transport)), free_set,
	                NULL);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	pump_until_count(&old_end.ended, 1);
	pump_turns(3);
	ck_assert_uint_eq(old_end.ended, 1);
	ck_assert_int_eq(old_end.status, -EPROTO);
	ck_assert_ptr_null(old_set);
	close_far();
}

static void open_far_old(void)
{
	open_set();
	make_pair(PAIR_UNIX, takeover_fds);
	request_on(&new_end, takeover_fds[0], NULL, 0);
	ck_assert_uint_eq(far_receive(), HELLO);
	ck_assert_uint_eq(far_receive(), REQUEST);
	ck_assert_mem_eq(far_payload, all_names, sizeof(all_names));
	far_hello(1, 1);
}

/* Writes the payload of a LISTENER. The test then changes one byte of it. */
static size_t put_listener(unsigned char *payload, int fd, const char *name, const char *file)
{
	uint64_t cookie;
	socklen_t length = sizeof(cookie);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	memset(payload, 0, 32);
	memcpy(payload, &cookie, sizeof(cookie));
	payload[24] = (unsigned char)strlen(name);
	payload[26] = (unsigned char)strlen(file);
	snprintf((char *)payload + 32, FRAME_MAX - 32, "%s%s", name, file);
	return 32 + strlen(name) + strlen(file);
}

static void expect_new_ended(int status)
{
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, status);
	close_far();
}

LOOP_TEST(a_socket_that_differs_from_its_declaration_is_refused, 16)
{
	unsigned char payload[FRAME_MAX];
	int fds[2];
	open_far_old();
	fds[0] = fds[1] = ferry_socket_set_find(old_set, "www");
	int connected[2];
	make_pair(PAIR_TCP, connected);
	size_t length = put_listener(payload, fds[0], "www", "");
	switch (_i) {
	case 0: /* another cookie */
		payload[0] ^= 1;
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 1: /* a socket that does not listen */
		length = put_listener(payload, connected[0], "www", "");
		far_send(LISTENER, payload, length, connected, 1);
		break;
	case 2: /* without a descriptor */
		far_send(LISTENER, payload, length, NULL, 0);
		break;
	case 3: /* with one descriptor too many */
		far_send(LISTENER, payload, length, fds, 2);
		break;
	case 4: /* a file without its directory */
		length = put_listener(payload, fds[0], "www", "socket");
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 5: /* a file in another directory */
		length = put_listener(payload, fds[0], "www", "../socket");
		far_send(LISTENER, payload, length, fds, 2);
		break;
	case 6: /* shorter than its lengths */
		far_send(LISTENER, payload, length - 1, fds, 1);
		break;
	case 7: /* a zero in a name */
		payload[33] = 0;
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 8: /* END with a wrong count of LISTENERs */
		far_send(LISTENER, payload, length, fds, 1);
		far_send(END, "\2\0\0\0\0\0\0\0", 8, NULL, 0);
		break;
	case 9: /* RELEASED before the new process has committed */
		far_send(RELEASED, NULL, 0, NULL, 0);
		break;
	case 10: /* WITHDRAWN without a reason */
		far_send(WITHDRAWN, "\0\0\0\0\0\0\0\0", 8, NULL, 0);
		break;
	case 11: /* a number cut short */
		far_send(END, "\0\0\0\0", 4, NULL, 0);
		break;
	case 12: /* a file name longer than an address */
		length = put_listener(payload, fds[0], "www",
		                      "0123456789012345678901234567890123456789012345678901234567890123456"
		                      "78901234567890123456789012345678901234567");
		far_send(LISTENER, payload, length, fds, 2);
		break;
	case 13: /* a lock for a socket without a file */
		payload[28] = 1;
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 14: /* a lock without its descriptor */
		length = put_listener(payload, fds[0], "www", "socket");
		payload[28] = 1;
		far_send(LISTENER, payload, length, fds, 2);
		break;
	default: /* shorter than the shortest LISTENER */
		far_send(LISTENER, payload, 31, fds, 1);
		break;
	}
	close(connected[0]);
	close(connected[1]);
	expect_new_ended(-EPROTO);
}

TEST(a_state_comes_once_and_before_the_end_of_the_sockets)
{
	open_far_old();
	far_send(STATE, "one", 3, NULL, 0);
	far_send(STATE, "two", 3, NULL, 0);
	expect_new_ended(-EPROTO);
}

TEST(a_state_after_the_end_of_the_sockets_is_refused)
{
	open_far_old();
	far_send(END, "\0\0\0\0\0\0\0\0", 8, NULL, 0);
	pump_until_count(&new_end.received, 1);
	far_send(STATE, "late", 4, NULL, 0);
	expect_new_ended(-EPROTO);
}

TEST(a_withdrawal_gives_its_reason)
{
	open_far_old();
	far_send(WITHDRAWN, "\xf3\xff\xff\xff\0\0\0\0", 8, NULL, 0);
	expect_new_ended(-EACCES);
}

TEST(an_old_process_that_ends_too_early_ends_the_takeover)
{
	open_far_old();
	close(takeover_fds[1]);
	takeover_fds[1] = dup(STDERR_FILENO);
	expect_new_ended(-ECONNRESET);
}

TEST(a_lost_descriptor_ends_the_takeover)
{
	unsigned char payload[FRAME_MAX];
	open_far_old();
	int fd = ferry_socket_set_find(old_set, "www");
	size_t length = put_listener(payload, fd, "www", "");
	far_send(LISTENER, payload, length, &fd, 1);
	limit_descriptors(0);
	pump_until_count(&new_end.ended, 1);
	unlimit_descriptors();
	expect_new_ended(-EMFILE);
}
