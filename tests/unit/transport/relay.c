/* A relay: two transports with exact positions, each of which sends on what the other has received. Its peers see what
 * they would see over a direct connection. */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

/* ---- the relay ---- */

struct side {
	struct ferry_transport *transport; /* NULL once its connection is over */
	struct side *other;
	unsigned int fds, refused;
};

static struct side left, right;
static int client, server; /* the peers */

static void got_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct side *side = context;

	(void)transport;
	side->fds++;
	if (side->other->transport == NULL ||
	    ferry_transport_send_fd(side->other->transport, fd, FERRY_FD_TAKE) < 0) {
		side->refused++;
		close(fd);
	}
}

static void got_bytes(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct side *side = context;

	(void)transport;
	if (side->other->transport == NULL ||
	    ferry_transport_write_buffer(side->other->transport, input) < 0)
		evbuffer_drain(input, evbuffer_get_length(input));
}

static void got_end(struct ferry_transport *transport, void *context)
{
	struct side *side = context;

	if (side->other->transport == NULL)
		return;
	(void)ferry_transport_unregister_producer(side->other->transport);
	if (ferry_transport_peer_has_closed(transport))
		(void)ferry_transport_lose_connection(side->other->transport);
	else
		(void)ferry_transport_lose_write_connection(side->other->transport);
}

static void lost(struct ferry_transport *transport, int reason, void *context)
{
	struct side *side = context;

	(void)reason;
	ferry_transport_free(transport);
	side->transport = NULL;
	if (side->other->transport == NULL)
		return;
	(void)ferry_transport_unregister_producer(side->other->transport);
	(void)ferry_transport_lose_connection(side->other->transport);
}

static const struct ferry_protocol relay_protocol = {
    .data_received = got_bytes,
    .file_descriptor_received = got_fd,
    .read_connection_lost = got_end,
    .connection_lost = lost,
};

static void pause_source(void *context)
{
	struct side *source = context;
	if (source->transport != NULL)
		(void)ferry_transport_pause_reading(source->transport);
}

static void resume_source(void *context)
{
	struct side *source = context;
	if (source->transport != NULL)
		(void)ferry_transport_resume_reading(source->transport);
}

static const struct ferry_producer_callbacks source_callbacks = {
    .pause_producing = pause_source,
    .resume_producing = resume_source,
};

static void open_side(struct side *side, struct side *other, int fd)
{
	*side = (struct side){.transport = make_transport(fd), .other = other};
	ck_assert_int_eq(ferry_transport_set_fd_positions(side->transport, FERRY_FD_EXACT), 0);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(side->transport, WIRE_MAX_FDS), 0);
	ck_assert_int_eq(ferry_transport_register_producer(side->transport, &source_callbacks, other,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	ck_assert_int_eq(ferry_transport_set_protocol(side->transport, &relay_protocol, side), 0);
}

static void open_relay(void)
{
	int near[2], far[2];

	raise_descriptor_limit();
	make_pair(PAIR_UNIX, near);
	make_pair(PAIR_UNIX, far);
	client = near[0];
	server = far[0];
	open_side(&left, &right, near[1]);
	open_side(&right, &left, far[1]);
	pump_turns(2);
}

static void close_relay(void)
{
	ferry_transport_free(left.transport);
	ferry_transport_free(right.transport);
	if (client >= 0)
		close(client);
	if (server >= 0)
		close(server);
	pump_turns(1);
}

/* ---- random layouts ---- */

enum { ROUNDS = 20, MESSAGES = 50, LAYOUT_FDS = 400, PIECE_MAX = 3000 };

static struct {
	size_t bytes, at[LAYOUT_FDS];
	unsigned int fds;
} layout;

static void send_piece(int socket, size_t length, unsigned int count)
{
	unsigned char bytes[PIECE_MAX];
	int fds[WIRE_MAX_FDS] = {0};

	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(layout.bytes + i);
	for (unsigned int i = 0; i < count; i++)
		fds[i] = make_marked_fd(layout.fds + i);
	ssize_t taken = wire_send(socket, bytes, length, fds, count);
	for (unsigned int i = 0; i < count; i++)
		close(fds[i]);
	for (unsigned int i = 0; taken > 0 && i < count; i++)
		layout.at[layout.fds++] = layout.bytes;
	layout.bytes += taken > 0 ? (size_t)taken : 0;
}

/* The far end reads byte by byte: nothing can then be in front of a descriptor. */
static struct {
	int socket;
	size_t bytes;
	unsigned int fds;
} reader;

static bool layout_has_come(void *argument)
{
	struct wire_read got;
	unsigned char byte;

	(void)argument;
	for (wire_receive(reader.socket, &byte, 1, &got); got.bytes > 0;
	     wire_receive(reader.socket, &byte, 1, &got)) {
		ck_assert_uint_eq(byte, support_byte(reader.bytes));
		for (size_t i = 0; i < got.fd_count; i++, reader.fds++) {
			ck_assert_uint_eq(marked_number(got.fds[i]), reader.fds);
			ck_assert_uint_eq(layout.at[reader.fds], reader.bytes);
		}
		wire_close_fds(&got);
		reader.bytes++;
	}
	return reader.bytes == layout.bytes;
}

/* _i: from the client to the server, and back. */
LOOP_TEST(random_layouts_arrive_byte_exact, 2)
{
	open_relay();
	for (int round = 0; round < ROUNDS; round++) {
		memset(&layout, 0, sizeof(layout));
		memset(&reader, 0, sizeof(reader));
		reader.socket = _i == 0 ? server : client;
		for (uint32_t i = support_random_below(MESSAGES); i > 0; i--) {
			size_t max = support_random_below(6) == 0 ? PIECE_MAX : 200;
			send_piece(_i == 0 ? client : server, 1 + support_random_below((uint32_t)max),
			           support_random_below(2) == 0 ? support_random_below(8) : 0);
			if (support_random_below(4) == 0)
				pump_turns(1);
		}
		pump_until(layout_has_come, NULL);
		ck_assert_uint_eq(reader.fds, layout.fds);
	}
	close_relay();
}

/* ---- peers that tie a descriptor to a read ---- */

static bool is_readable(void *argument)
{
	struct pollfd entry = {.fd = *(int *)argument, .events = POLLIN};
	return poll(&entry, 1, 0) > 0;
}

static void read_plainly(int socket, unsigned char *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		pump_until(is_readable, &socket);
		ssize_t count = read(socket, bytes + done, length - done);
		ck_assert_int_gt(count, 0);
		done += (size_t)count;
	}
}

/* As Python's multiprocessing and OpenSSH's multiplexing: a message of a known length by read(2), which drops
 * descriptors; then a byte with a descriptor by recvmsg(2). Many are in the sockets at once. */
TEST(a_peer_that_reads_up_to_the_byte_of_a_descriptor_gets_the_descriptor)
{
	enum { EXCHANGES = 100, LENGTH = 40 };
	unsigned char message[LENGTH], byte;
	struct wire_read got;

	open_relay();
	for (uint32_t i = 0; i < EXCHANGES; i++) {
		int fd = make_marked_fd(i);
		memset(message, (int)i, sizeof(message));
		ck_assert_int_eq(wire_send(client, message, sizeof(message), NULL, 0), LENGTH);
		ck_assert_int_eq(wire_send(client, "x", 1, &fd, 1), 1);
		close(fd);
	}
	for (uint32_t i = 0; i < EXCHANGES; i++) {
		read_plainly(server, message, sizeof(message));
		ck_assert_uint_eq(message[0], i);
		ck_assert_uint_eq(message[LENGTH - 1], i);
		pump_until(is_readable, &server);
		wire_receive(server, &byte, 1, &got);
		ck_assert_int_eq(got.bytes, 1);
		ck_assert_uint_eq(got.fd_count, 1);
		ck_assert_uint_eq(marked_number(got.fds[0]), i);
		wire_close_fds(&got);
	}
	close_relay();
}

/* ---- many descriptors ---- */

static size_t fds_come, bytes_come;

static bool count_what_comes(void *argument)
{
	size_t wanted = *(size_t *)argument;
	struct wire_read got;
	char bytes[512];

	for (wire_receive(server, bytes, sizeof(bytes), &got); got.bytes > 0;
	     wire_receive(server, bytes, sizeof(bytes), &got)) {
		bytes_come += (size_t)got.bytes;
		fds_come += got.fd_count;
		wire_close_fds(&got);
	}
	return bytes_come >= wanted;
}

static int send_copies(int socket, unsigned int count)
{
	int fds[WIRE_MAX_FDS] = {0};

	for (unsigned int i = 0; i < count; i++)
		fds[i] = STDERR_FILENO;
	return (int)wire_send(socket, "x", 1, fds, count);
}

/* More than the high-water mark of descriptors, with one byte. */
LOOP_TEST(a_message_with_many_descriptors_passes, 3)
{
	static const unsigned int counts[] = {64, 65, WIRE_MAX_FDS};
	size_t wanted = 1;

	open_relay();
	fds_come = bytes_come = 0;
	ck_assert_int_eq(send_copies(client, counts[_i]), 1);
	pump_until(count_what_comes, &wanted);
	ck_assert_uint_eq(fds_come, counts[_i]);
	close_relay();
}

/* The relay is paused because the server does not read; the client goes, and a write of the server finds that. */
TEST(what_a_gone_peer_has_sent_passes_a_paused_relay)
{
	enum { EACH = 64 };
	size_t wanted = 0;
	int stalled = 0;

	open_relay();
	fds_come = bytes_come = 0;
	while (stalled < 5) {
		if (send_copies(client, EACH) == 1)
			wanted++, stalled = 0;
		else
			stalled++;
		pump_turns(1);
	}
	close(client);
	client = -1;
	ck_assert_int_eq(wire_send(server, "z", 1, NULL, 0), 1);
	pump_turns(5);

	pump_until(count_what_comes, &wanted);

	ck_assert_uint_eq(fds_come, wanted * EACH);
	ck_assert_uint_eq(left.refused, 0);
	close_relay();
}

/* ---- ends ---- */

static int hang_up_of(int socket)
{
	struct pollfd entry = {.fd = socket};
	return poll(&entry, 1, 0) > 0 ? entry.revents : 0;
}

static bool is_hung_up(void *argument)
{
	return (hang_up_of(*(int *)argument) & POLLHUP) != 0;
}

TEST(a_close_of_one_peer_is_a_close_for_the_other)
{
	open_relay();
	ck_assert_int_eq(wire_send(client, "bye", 3, NULL, 0), 3);
	close(client);
	client = -1;
	pump_until(is_hung_up, &server);
	ck_assert_uint_eq(wire_drain(server), 3);
	close_relay();
}

TEST(a_half_close_of_one_peer_is_a_half_close_for_the_other)
{
	char byte;

	open_relay();
	ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
	pump_until(is_readable, &server);
	ck_assert_int_eq(read(server, &byte, 1), 0);
	ck_assert_int_eq(hang_up_of(server), 0);
	/* The other direction still works. */
	ck_assert_int_eq(wire_send(server, "x", 1, NULL, 0), 1);
	pump_until(is_readable, &client);
	ck_assert_int_eq(read(client, &byte, 1), 1);
	close_relay();
}
