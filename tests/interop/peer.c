/* The C end of the interop tests: one connection, made of ferry's public interface, whose other end is
 * Python. The peer checks its own end, prints its counts as one line of key=value pairs when the
 * connection ends, and exits with 0 only if every check passed.
 *
 *   peer MODE --listen|--connect PATH [NUMBER]
 *
 *   send-fds NUMBER        sends so many descriptors with lines between, then loses the connection
 *   receive-fds            receives descriptors and lines until the other end closes
 *   bulk-first NUMBER      sends so many bytes, then closes its sending half at once
 *   bulk-last NUMBER       sends so many bytes, and closes after the other end has, with a last word
 *
 * The i-th descriptor is that of an object that holds "descriptor i\n". A line of send-fds is
 * "FIRST LAST xxx\n": descriptors FIRST to LAST travel with the line's first byte. A line of the
 * other end is "i\n": descriptor i must have come no later. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include <ferry/ferry.h>

/* The peer ends itself at this deadline, in case that the test does not end it. */
enum { DEADLINE_SECONDS = 600, CHUNK = 65536, FILLER_MAX = 5000 };

static struct peer {
	struct event_base *base;
	struct ferry_listener *listener;
	struct ferry_transport *transport;
	const struct ferry_protocol *protocol;
	uint64_t number;

	bool failed;
	bool other_end_closed;
	unsigned int fds;
	uint64_t lines;
	uint64_t sent, received;
	uint32_t sent_crc, received_crc;
	uint32_t random;
} peer = {.random = 2463534242U};

static void fail(const char *what, int error)
{
	fprintf(stderr, "peer: %s: %s\n", what, strerror(error));
	peer.failed = true;
	event_base_loopbreak(peer.base);
}

static void expect(int status, const char *what)
{
	if (status < 0)
		fail(what, -status);
}

static uint32_t crc32_of(uint32_t crc, const unsigned char *data, size_t length)
{
	static uint32_t table[256];
	if (table[1] == 0)
		for (uint32_t i = 0; i < 256; i++) {
			table[i] = i;
			for (int bit = 0; bit < 8; bit++)
				table[i] = (table[i] >> 1) ^ ((table[i] & 1) != 0 ? 0xedb88320U : 0);
		}
	crc = ~crc;
	for (size_t i = 0; i < length; i++)
		crc = (crc >> 8) ^ table[(crc ^ data[i]) & 0xff];
	return ~crc;
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)context;
	struct ferry_transport_stats stats;
	expect(reason, "connection lost");
	expect(ferry_transport_get_stats(transport, &stats), "stats");
	printf("fds=%u lines=%" PRIu64 " sent=%" PRIu64 " sent_crc=%" PRIu32 " received=%" PRIu64
	       " received_crc=%" PRIu32 " fds_sent=%" PRIu64 " fds_received=%" PRIu64
	       " bytes_sent=%" PRIu64 " bytes_received=%" PRIu64 "\n",
	       peer.fds, peer.lines, peer.sent, peer.sent_crc, peer.received, peer.received_crc,
	       stats.fds_sent, stats.fds_received, stats.bytes_sent, stats.bytes_received);
	event_base_loopexit(peer.base, NULL);
}

static void count_sent(const void *data, size_t length)
{
	peer.sent += length;
	peer.sent_crc = crc32_of(peer.sent_crc, data, length);
	expect(ferry_transport_write(peer.transport, data, length), "write");
}

/* Takes `length` bytes out of the input, or all. */
static void count_received(struct evbuffer *input, size_t length)
{
	static unsigned char data[CHUNK];
	while (length > 0) {
		int count = evbuffer_remove(input, data, length < CHUNK ? length : CHUNK);
		if (count <= 0)
			return;
		peer.received += (uint64_t)count;
		peer.received_crc = crc32_of(peer.received_crc, data, (size_t)count);
		length -= (size_t)count;
	}
}

/* ---- send-fds ---- */

static int make_object(unsigned int number)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "descriptor %u\n", number);
	int fds[2];

	if (number % 2 == 0) {
		int fd = memfd_create("interop", MFD_CLOEXEC);
		if (fd >= 0 && pwrite(fd, text, (size_t)length, 0) != length)
			fail("memfd", errno);
		return fd;
	}
	if (pipe(fds) < 0)
		return -1;
	if (write(fds[1], text, (size_t)length) != length)
		fail("pipe", errno);
	close(fds[1]);
	return fds[0];
}

static void send_object(unsigned int number)
{
	const bool take = number % 3 != 0;
	const int fd = make_object(number);
	if (fd < 0) {
		fail("object", errno);
		return;
	}
	int status = ferry_transport_send_fd(peer.transport, fd, take ? FERRY_FD_TAKE : FERRY_FD_DUP);
	expect(status, "send_fd");
	if (!take || status != 0)
		close(fd);
}

static void send_line(unsigned int first, unsigned int last)
{
	char line[FILLER_MAX + 64];
	int length = snprintf(line, sizeof(line), "%u %u ", first, last);
	size_t filler = first * 379 % FILLER_MAX;
	memset(line + length, 'x', filler);
	line[(size_t)length + filler] = '\n';
	count_sent(line, (size_t)length + filler + 1);
	peer.lines++;
}

static void send_fds(struct ferry_transport *transport, void *context)
{
	(void)context;
	unsigned int first = 0;
	for (unsigned int i = 0; i < peer.number && !peer.failed; i++) {
		send_object(i);
		/* Some descriptors share a byte, one to four of them. */
		if (i - first == first / 3 % 4 || i + 1 == peer.number) {
			send_line(first, i);
			first = i + 1;
		}
	}
	expect(ferry_transport_lose_connection(transport), "lose_connection");
}

static const struct ferry_protocol send_fds_protocol = {
    .connection_made = send_fds,
    .connection_lost = connection_lost,
};

/* ---- receive-fds ---- */

static void receive_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	char text[32] = "";
	unsigned int number = UINT32_MAX;
	if (read(fd, text, sizeof(text) - 1) < 0 || sscanf(text, "descriptor %u", &number) != 1 ||
	    number != peer.fds)
		fail("another descriptor than the next", EBADF);
	close(fd);
	peer.fds++;
}

static void receive_lines(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	struct evbuffer_ptr end;
	while ((end = evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF)).pos >= 0) {
		char text[16] = "";
		evbuffer_copyout(input, text, (size_t)end.pos < 15 ? (size_t)end.pos : 15);
		if (strtoul(text, NULL, 10) >= peer.fds)
			fail("a line before its descriptor", EPROTO);
		count_received(input, (size_t)end.pos + 1);
		peer.lines++;
	}
}

static const struct ferry_protocol receive_fds_protocol = {
    .file_descriptor_received = receive_fd,
    .data_received = receive_lines,
    .connection_lost = connection_lost,
};

/* ---- bulk ---- */

static const struct ferry_protocol bulk_last_protocol;

static void fill(unsigned char *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		peer.random ^= peer.random << 13;
		peer.random ^= peer.random >> 17;
		peer.random ^= peer.random << 5;
		data[i] = (unsigned char)(peer.random >> 11);
	}
}

/* All is sent. bulk-last closes second, and shows that its half works after the other is closed. */
static void close_sending_half(void)
{
	if (peer.protocol == &bulk_last_protocol) {
		if (!peer.other_end_closed)
			return;
		count_sent("last word", strlen("last word"));
	}
	expect(ferry_transport_lose_write_connection(peer.transport), "lose_write_connection");
}

static void produce(void *context)
{
	(void)context;
	static unsigned char data[CHUNK];
	const uint64_t left = peer.number - peer.sent;

	fill(data, CHUNK);
	count_sent(data, left < CHUNK ? (size_t)left : CHUNK);
	if (peer.sent == peer.number) {
		expect(ferry_transport_unregister_producer(peer.transport), "unregister_producer");
		close_sending_half();
	}
}

static const struct ferry_producer_callbacks producer = {.resume_producing = produce};

static void start_producing(struct ferry_transport *transport, void *context)
{
	(void)context;
	expect(ferry_transport_register_producer(transport, &producer, NULL, FERRY_PRODUCER_PULL),
	       "register_producer");
}

static void receive_bytes(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	count_received(input, SIZE_MAX);
}

static void other_end_closed(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	peer.other_end_closed = true;
	if (peer.protocol == &bulk_last_protocol && peer.sent == peer.number)
		close_sending_half();
}

static const struct ferry_protocol bulk_first_protocol = {
    .connection_made = start_producing,
    .data_received = receive_bytes,
    .read_connection_lost = other_end_closed,
    .connection_lost = connection_lost,
};

static const struct ferry_protocol bulk_last_protocol = {
    .connection_made = start_producing,
    .data_received = receive_bytes,
    .read_connection_lost = other_end_closed,
    .connection_lost = connection_lost,
};

/* ---- the connection ---- */

static void use(struct ferry_transport *transport)
{
	peer.transport = transport;
	expect(ferry_transport_set_protocol(transport, peer.protocol, NULL), "set_protocol");
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	(void)context;
	ferry_listener_free(listener);
	peer.listener = NULL;
	use(transport);
}

static void connected(struct ferry_connector *connector, int status,
                      struct ferry_transport *transport, void *context)
{
	(void)connector, (void)context;
	if (status == 0)
		use(transport);
	else
		fail("connect", -status);
}

static void overdue(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what, (void)context;
	fail("deadline", ETIMEDOUT);
}

static int open_fds(void)
{
	int count = 0;
	DIR *directory = opendir("/proc/self/fd");
	while (directory != NULL && readdir(directory) != NULL)
		count++;
	if (directory != NULL)
		closedir(directory);
	return count;
}

static void start(bool listen, const char *path)
{
	if (!listen) {
		expect(ferry_connector_new_unix(NULL, peer.base, path, NULL, connected, NULL), "connect");
		return;
	}
	expect(ferry_listener_new_unix(&peer.listener, peer.base, path, NULL, accepted, NULL),
	       "listen");
	puts("ready");
	fflush(stdout);
}

static const struct {
	const char *name;
	const struct ferry_protocol *protocol;
} modes[] = {
    {"send-fds", &send_fds_protocol},
    {"receive-fds", &receive_fds_protocol},
    {"bulk-first", &bulk_first_protocol},
    {"bulk-last", &bulk_last_protocol},
};

int main(int argc, char **argv)
{
	const int fds_before = open_fds();
	for (size_t i = 0; argc >= 4 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(argv[1], modes[i].name) == 0)
			peer.protocol = modes[i].protocol;
	if (peer.protocol == NULL) {
		fprintf(stderr, "usage: peer MODE --listen|--connect PATH [NUMBER]\n");
		return 2;
	}
	peer.number = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
	peer.base = event_base_new();
	if (peer.base == NULL)
		return 1;
	struct event *deadline = event_new(peer.base, -1, 0, overdue, NULL);
	event_add(deadline, &(struct timeval){.tv_sec = DEADLINE_SECONDS});

	start(strcmp(argv[2], "--listen") == 0, argv[3]);
	if (!peer.failed)
		event_base_dispatch(peer.base);

	ferry_listener_free(peer.listener);
	ferry_transport_free(peer.transport);
	event_base_loop(peer.base, EVLOOP_NONBLOCK);
	event_free(deadline);
	event_base_free(peer.base);
	if (open_fds() != fds_before) {
		fprintf(stderr, "peer: %d descriptors before, %d after\n", fds_before, open_fds());
		peer.failed = true;
	}
	return peer.failed ? 1 : 0;
}
