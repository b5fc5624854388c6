/* Descriptions on the wire, byte by byte: those that ferry writes, and the treatment of those that are broken
 * or false. Whatever arrives, no descriptor stays open but those that the caller got. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor_inbox.h"
#include "samples.h"
#include "test.h"
#include "wire.h"

ssize_t __real_readlink(const char *path, char *buffer, size_t size);
ssize_t __wrap_readlink(const char *path, char *buffer, size_t size);

static bool no_proc;

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size)
{
	if (no_proc) {
		errno = ENOENT;
		return -1;
	}
	return __real_readlink(path, buffer, size);
}

enum {
	TYPE = 0x0102,
	HEADER = 16,
	FIXED = 32,
	NAME_LONGEST = 255,
	PAYLOAD_MAX = 2 * (FIXED + NAME_LONGEST)
};
enum { APPEND = 1, LISTENING = 2, CONNECTED = 4, COARSE = 8 };

static struct descriptor_inbox inbox;
static int far_end = -1;
static unsigned int warnings;

static void count_warnings(enum ferry_log_level level, const char *line)
{
	ck_assert_int_eq(level, FERRY_LOG_WARNING);
	ck_assert_ptr_nonnull(strstr(line, "descriptors: the peer sent "));
	warnings++;
}

static void open_inbox(void)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	far_end = ends[0];
	open_message_stream(ends[1], &inbox);
	warnings = 0;
	ferry_log_set_cb(count_warnings);
}

static void close_inbox(void)
{
	ferry_log_set_cb(NULL);
	inbox_close(&inbox);
	close(far_end);
}

/* ---- by hand ---- */

static void put(unsigned char *bytes, uint64_t number, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(number >> (8 * i));
}

static int option(int fd, int name)
{
	int value = 0;
	socklen_t length = sizeof(value);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, name, &value, &length), 0);
	return value;
}

static void describe_socket(unsigned char *payload, int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	if (option(fd, SO_ACCEPTCONN))
		payload[3] |= LISTENING;
	if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0)
		payload[3] |= CONNECTED;
	put(payload + 4, (uint64_t)option(fd, SO_DOMAIN), 2);
	put(payload + 6, (uint64_t)option(fd, SO_TYPE), 2);
	put(payload + 8, (uint64_t)option(fd, SO_PROTOCOL), 2);
	put(payload + 16, cookie_of(fd), 8);
}

static void describe_inode(unsigned char *payload, int fd)
{
	struct stat status;
	ck_assert_int_eq(fstat(fd, &status), 0);
	put(payload + 16, status.st_ino, 8);
	put(payload + 24, status.st_dev, 8);
}

/* Writes the true description, by docs/descriptor.md. Returns its length. */
static size_t describe(unsigned char *payload, const struct sample *sample, const char *name)
{
	int flags = fcntl(sample->fd, F_GETFL);
	memset(payload, 0, FIXED);
	payload[0] = 1;
	payload[1] = (unsigned char)sample->kind;
	payload[2] = (unsigned char)((flags & O_PATH) ? 4 : flags & O_ACCMODE);
	payload[3] = (flags & O_APPEND) ? APPEND : 0;
	payload[10] = (unsigned char)strlen(name);
	if (sample->kind == FERRY_DESCRIPTOR_SOCKET)
		describe_socket(payload, sample->fd);
	else
		describe_inode(payload, sample->fd);
	memcpy(payload + FIXED, name, strlen(name) + 1);
	return FIXED + strlen(name);
}

static void put_message(const unsigned char *payload, size_t length, const int *fds, size_t count)
{
	unsigned char frame[HEADER + PAYLOAD_MAX] = {'F', 'R', 'Y', 1};
	put(frame + 4, TYPE, 2);
	put(frame + 8, length, 4);
	put(frame + 12, count, 2);
	memcpy(frame + HEADER, payload, length);
	ck_assert_int_eq(wire_send(far_end, frame, HEADER + length, fds, count),
	                 (ssize_t)(HEADER + length));
}

/* Sends a message and returns the result of receiving it. Nothing stays open. A failure logs one warning, and
 * the connection stays. */
static int receive(const unsigned char *payload, size_t length, const int *fds, size_t count)
{
	int before = count_open_fds();
	unsigned int told = warnings;
	put_message(payload, length, fds, count);
	int status = inbox_wait(&inbox);
	ck_assert_int_eq(count_open_fds(), before + (status == 0));
	ck_assert_uint_eq(warnings, told + (status != 0));
	inbox_discard(&inbox);
	ck_assert_int_eq(count_open_fds(), before);
	ck_assert_uint_eq(inbox.lost, 0);
	return status;
}

static int receive_one(const unsigned char *payload, size_t length, int fd)
{
	return receive(payload, length, &fd, 1);
}

/* ---- the bytes ---- */

TEST_CASE("bytes");

/* _i: of samples */
LOOP_TEST(the_bytes_of_a_description_are_as_documented, SAMPLES)
{
	unsigned char expected[PAYLOAD_MAX], frame[HEADER + PAYLOAD_MAX];
	struct wire_read result;
	struct sample sample;
	int ends[2];
	if (!sample_make(&sample, _i))
		return;
	size_t length = describe(expected, &sample, "€");
	make_pair(PAIR_UNIX, ends);
	struct ferry_message_stream *stream = open_message_stream(ends[0], NULL);
	ck_assert_int_eq(ferry_descriptor_send(stream, TYPE, sample.fd, "€", FERRY_FD_DUP), 0);
	pump_turns(2);
	wire_receive(ends[1], frame, sizeof(frame), &result);
	ck_assert_int_eq(result.bytes, (ssize_t)(HEADER + length));
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_int_eq(frame[4] | frame[5] << 8, TYPE);
	ck_assert_mem_eq(frame + HEADER, expected, length);
	wire_close_fds(&result);
	close(ends[1]);
	ferry_message_stream_free(stream);
	pump_turns(3);
	sample_close(&sample);
}

/* The example in docs/descriptor.md. */
TEST(the_bytes_of_a_listener_are_as_documented)
{
	static const unsigned char expected[16] = {1, 12, 2, 2, 2, 0, 1, 0, 6, 0, 3};
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_TCP4_LISTENING));
	open_inbox();
	size_t length = describe(payload, &sample, "www");
	ck_assert_mem_eq(payload, expected, sizeof(expected));
	ck_assert_int_eq(receive_one(payload, length, sample.fd), 0);
	close_inbox();
	sample_close(&sample);
}

/* ---- broken ---- */

TEST_CASE("broken");

TEST(every_other_length_is_refused)
{
	unsigned char payload[PAYLOAD_MAX] = {0};
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_TCP4));
	open_inbox();
	size_t length = describe(payload, &sample, "a name");
	for (size_t i = 0; i < length + 300; i++)
		ck_assert_int_eq(receive_one(payload, i, sample.fd), i == length ? 0 : -EPROTO);
	close_inbox();
	sample_close(&sample);
}

/* Whether a changed byte may be accepted: a byte of the name, or the flag of a sender without /proc. */
static bool may_pass(const unsigned char *payload, size_t at, unsigned char value)
{
	if (at >= FIXED)
		return value >= 1 && value < 0x80;
	return at == 3 && (payload[3] ^ value) == COARSE &&
	       (payload[1] == FERRY_DESCRIPTOR_FILE || payload[1] == FERRY_DESCRIPTOR_OTHER);
}

static void mutate(unsigned char *payload, size_t length, size_t at, unsigned char value, int fd)
{
	unsigned char byte = payload[at];
	bool passes = value == byte || may_pass(payload, at, value);
	payload[at] = value;
	int status = receive_one(payload, length, fd);
	if (passes ? status != 0 : (status != -EPROTO && status != -EBADMSG))
		ck_abort_msg("byte %zu was %u, is %u: %d", at, byte, value, status);
	payload[at] = byte;
}

/* _i: of samples */
LOOP_TEST(every_byte_counts, SAMPLES)
{
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	if (!sample_make(&sample, _i))
		return;
	open_inbox();
	size_t length = describe(payload, &sample, "ab");
	for (size_t at = 0; at < length; at++) {
		for (unsigned int bit = 0; bit < 8; bit++)
			mutate(payload, length, at, (unsigned char)(payload[at] ^ 1u << bit), sample.fd);
		mutate(payload, length, at, 0xff, sample.fd);
		mutate(payload, length, at, 0, sample.fd);
		mutate(payload, length, at, (unsigned char)(payload[at] + 1), sample.fd);
	}
	close_inbox();
	sample_close(&sample);
}

TEST(noise_is_refused)
{
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_UNIX_STREAM));
	open_inbox();
	for (int i = 0; i < 500; i++) {
		size_t length = support_random_below(100);
		for (size_t j = 0; j < length; j++)
			payload[j] = (unsigned char)support_random();
		if (length > FIXED && i % 2 == 0) { /* its form is valid */
			payload[0] = 1;
			payload[10] = (unsigned char)(length - FIXED);
			memset(payload + 11, 0, 5);
		}
		ck_assert_int_lt(receive_one(payload, length, sample.fd), 0);
	}
	close_inbox();
	sample_close(&sample);
}

/* ---- lies ---- */

TEST_CASE("lies");

/* Sends every description with every descriptor. */
TEST(a_description_of_another_descriptor_is_refused)
{
	static unsigned char payloads[SAMPLES][PAYLOAD_MAX];
	static struct sample samples[SAMPLES];
	size_t lengths[SAMPLES];
	open_inbox();
	/* Only one sample at a time can have a directory of its own: it is closed when the next is made. */
	for (int i = 0; i < SAMPLES; i++) {
		if (i == SAMPLE_DIRECTORY || i == SAMPLE_INOTIFY || !sample_make(&samples[i], i)) {
			samples[i].fd = -1;
			continue;
		}
		lengths[i] = describe(payloads[i], &samples[i], "x");
	}
	for (int said = 0; said < SAMPLES; said++)
		for (int sent = 0; sent < SAMPLES; sent++)
			if (samples[said].fd >= 0 && samples[sent].fd >= 0)
				ck_assert_int_eq(receive_one(payloads[said], lengths[said], samples[sent].fd),
				                 said == sent ? 0 : -EBADMSG);
	for (int i = 0; i < SAMPLES; i++)
		if (samples[i].fd >= 0)
			sample_close(&samples[i]);
	close_inbox();
}

/* Descriptions with one false field. */
static const struct {
	int which;
	size_t at;
	unsigned char value;
} lies[] = {
    {SAMPLE_FILE_READ, 1, FERRY_DESCRIPTOR_SOCKET},
    {SAMPLE_FILE_READ, 1, FERRY_DESCRIPTOR_MEMFD},
    {SAMPLE_MEMFD, 1, FERRY_DESCRIPTOR_FILE},
    {SAMPLE_EVENTFD, 1, FERRY_DESCRIPTOR_TIMERFD},
    {SAMPLE_EVENTFD, 1, FERRY_DESCRIPTOR_OTHER},
    {SAMPLE_TERMINAL, 1, FERRY_DESCRIPTOR_DEVICE},
    {SAMPLE_DEVICE, 1, FERRY_DESCRIPTOR_TTY},
    {SAMPLE_UNIX_STREAM, 1, FERRY_DESCRIPTOR_FILE},
    {SAMPLE_FILE_READ, 2, O_RDWR},
    {SAMPLE_FILE_BOTH, 2, O_RDONLY},
    {SAMPLE_PIPE_READ, 2, O_WRONLY},
    {SAMPLE_PATH, 2, O_RDONLY},
    {SAMPLE_FILE_WRITE, 3, APPEND},
    {SAMPLE_FILE_APPEND, 3, 0},
    {SAMPLE_FILE_READ, 3, LISTENING},
    {SAMPLE_TCP4, 3, LISTENING},
    {SAMPLE_TCP4, 3, LISTENING | CONNECTED},
    {SAMPLE_TCP4, 3, 0},
    {SAMPLE_TCP4_LISTENING, 3, CONNECTED},
    {SAMPLE_TCP4_LISTENING, 3, 0},
    {SAMPLE_TCP4_NEW, 3, CONNECTED},
    {SAMPLE_TCP4_NEW, 3, LISTENING},
    {SAMPLE_UDP4_BOUND, 3, CONNECTED},
    {SAMPLE_UNIX_LISTENING, 3, CONNECTED},
    {SAMPLE_TCP4, 4, AF_INET6},
    {SAMPLE_UNIX_STREAM, 6, SOCK_SEQPACKET},
    {SAMPLE_TCP4, 8, IPPROTO_UDP},
};

TEST(one_false_word_is_enough)
{
	unsigned char payload[PAYLOAD_MAX];
	open_inbox();
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct sample sample;
		ck_assert(sample_make(&sample, lies[i].which));
		size_t length = describe(payload, &sample, "x");
		ck_assert_int_eq(receive_one(payload, length, sample.fd), 0);
		payload[lies[i].at] = lies[i].value;
		int status = receive_one(payload, length, sample.fd);
		if (status != -EBADMSG)
			ck_abort_msg("lie %zu: %d", i, status);
		sample_close(&sample);
	}
	close_inbox();
}

/* A false sender claims to have no /proc, to pass one kind off as another. */
TEST(coarseness_is_no_cover)
{
	static const struct {
		int which;
		enum ferry_descriptor_kind said;
		int status;
	} words[] = {
	    {SAMPLE_MEMFD, FERRY_DESCRIPTOR_FILE, 0},
	    {SAMPLE_EPOLL, FERRY_DESCRIPTOR_OTHER, 0},
	    {SAMPLE_MEMFD, FERRY_DESCRIPTOR_OTHER, -EBADMSG},
	    {SAMPLE_EPOLL, FERRY_DESCRIPTOR_FILE, -EBADMSG},
	    {SAMPLE_UNIX_STREAM, FERRY_DESCRIPTOR_OTHER, -EBADMSG},
	    {SAMPLE_PIPE_READ, FERRY_DESCRIPTOR_FILE, -EBADMSG},
	    {SAMPLE_TERMINAL, FERRY_DESCRIPTOR_OTHER, -EBADMSG},
	    {SAMPLE_EPOLL, FERRY_DESCRIPTOR_EVENTFD, -EPROTO}, /* never known without /proc */
	    {SAMPLE_EPOLL, FERRY_DESCRIPTOR_EPOLL, -EPROTO},
	    {SAMPLE_MEMFD, FERRY_DESCRIPTOR_MEMFD, -EPROTO},
	    {SAMPLE_UNIX_STREAM, FERRY_DESCRIPTOR_SOCKET, -EPROTO},
	};
	unsigned char payload[PAYLOAD_MAX];
	open_inbox();
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct sample sample;
		ck_assert(sample_make(&sample, words[i].which));
		size_t length = describe(payload, &sample, "x");
		payload[1] = (unsigned char)words[i].said;
		payload[3] |= COARSE;
		int status = receive_one(payload, length, sample.fd);
		if (status != words[i].status)
			ck_abort_msg("word %zu: %d", i, status);
		sample_close(&sample);
	}
	close_inbox();
}

/* Without /proc this end accepts only kinds that fstat(2) does not distinguish. */
TEST(without_proc_only_kinds_that_look_alike_pass)
{
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	open_inbox();
	ck_assert(sample_make(&sample, SAMPLE_EVENTFD));
	size_t length = describe(payload, &sample, "x");
	no_proc = true;
	for (int kind = 0; kind <= FERRY_DESCRIPTOR_DEVICE; kind++) {
		bool alike = kind == FERRY_DESCRIPTOR_OTHER ||
		             (kind >= FERRY_DESCRIPTOR_EVENTFD && kind <= FERRY_DESCRIPTOR_EPOLL);
		payload[1] = (unsigned char)kind;
		int status = receive_one(payload, length, sample.fd);
		ck_assert_int_eq(status, alike ? 0 : -EBADMSG);
	}
	sample_close(&sample);
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	length = describe(payload, &sample, "x");
	for (int kind = 0; kind <= FERRY_DESCRIPTOR_DEVICE; kind++) {
		bool alike = kind == FERRY_DESCRIPTOR_FILE || kind == FERRY_DESCRIPTOR_MEMFD ||
		             kind == FERRY_DESCRIPTOR_PIDFD;
		payload[1] = (unsigned char)kind;
		int status = receive_one(payload, length, sample.fd);
		ck_assert_int_eq(status, alike ? 0 : -EBADMSG);
	}
	no_proc = false;
	sample_close(&sample);
	close_inbox();
}

/* ---- how many ---- */

TEST_CASE("number");

TEST(another_number_than_one_is_refused)
{
	static const size_t counts[] = {0, 2, 3, WIRE_MAX_FDS};
	unsigned char payload[PAYLOAD_MAX];
	int fds[WIRE_MAX_FDS];
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_FILE_READ));
	open_inbox();
	size_t length = describe(payload, &sample, "x");
	for (size_t i = 0; i < WIRE_MAX_FDS; i++)
		fds[i] = sample.fd;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		ck_assert_int_eq(receive(payload, length, fds, counts[i]), -EPROTO);
	ck_assert_int_eq(receive_one(payload, length, sample.fd), 0);
	close_inbox();
	sample_close(&sample);
}

/* The receiver of sendfileobj does not check for this. */
TEST(a_descriptor_that_was_lost_is_reported)
{
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_FILE_READ));
	open_inbox();
	size_t length = describe(payload, &sample, "x");
	pump_turns(2); /* release memory first: it would leak in the process that sets the limit */
	put_message(payload, length, &sample.fd, 1);
	limit_descriptors(0);
	int status = inbox_wait(&inbox);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	ck_assert_uint_eq(warnings, 1);
	ck_assert_uint_eq(inbox.lost, 0);
	ck_assert_int_eq(receive_one(payload, length, sample.fd), 0);
	close_inbox();
	sample_close(&sample);
}

/* A message without the descriptors that it declares ends the connection, as any message does. */
TEST(a_message_that_declares_descriptors_it_lacks_ends_the_connection)
{
	unsigned char frame[HEADER + PAYLOAD_MAX] = {'F', 'R', 'Y', 1};
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_FILE_READ));
	open_inbox();
	ferry_log_set_cb(NULL);
	size_t length = describe(frame + HEADER, &sample, "x");
	put(frame + 8, length, 4);
	put(frame + 12, 1, 2);
	ck_assert_int_gt(wire_send(far_end, frame, HEADER + length, NULL, 0), 0);
	pump_until_count(&inbox.lost, 1);
	ck_assert_int_eq(inbox.reason, -EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_inbox();
	sample_close(&sample);
}

/* ---- names ---- */

static const struct {
	const char *bytes;
	bool valid;
} names[] = {
    {"", true},
    {"a", true},
    {"\x7f", true},
    {"/etc/passwd\n\x01", true},
    {"\xc2\x80", true},         /* U+0080 */
    {"\xdf\xbf", true},         /* U+07FF */
    {"\xe0\xa0\x80", true},     /* U+0800 */
    {"\xed\x9f\xbf", true},     /* U+D7FF */
    {"\xee\x80\x80", true},     /* U+E000 */
    {"\xef\xbf\xbf", true},     /* U+FFFF */
    {"\xf0\x90\x80\x80", true}, /* U+10000 */
    {"\xf4\x8f\xbf\xbf", true}, /* U+10FFFF */
    {"\x80", false},
    {"\xbf", false},
    {"\xc0\x80", false}, /* a zero, too long */
    {"\xc0\xaf", false},
    {"\xc1\xbf", false},
    {"\xe0\x80\x80", false},
    {"\xe0\x9f\xbf", false},
    {"\xf0\x80\x80\x80", false},
    {"\xf0\x8f\xbf\xbf", false},
    {"\xed\xa0\x80", false}, /* surrogates */
    {"\xed\xbf\xbf", false},
    {"\xf4\x90\x80\x80", false}, /* U+110000 */
    {"\xf5\x80\x80\x80", false},
    {"\xf8\x88\x80\x80\x80", false},
    {"\xfe", false},
    {"\xff", false},
    {"\xc3", false}, /* cut off */
    {"\xe2\x82", false},
    {"\xf0\x9f\x92", false},
    {"\xc3(", false},
    {"\xe2(\xa1", false},
    {"\xe2\x82(", false},
    {"good \xe2\x82\xac, bad \xff", false},
};

TEST_CASE("names");

TEST(names_are_utf8_at_both_ends)
{
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	int ends[2];
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	open_inbox();
	make_pair(PAIR_UNIX, ends);
	struct ferry_message_stream *stream = open_message_stream(ends[0], NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *name = names[i].bytes;
		ck_assert_int_eq(ferry_descriptor_send(stream, TYPE, sample.fd, name, FERRY_FD_DUP),
		                 names[i].valid ? 0 : -EINVAL);
		pump_turns(2);
		ck_assert_uint_eq(wire_drain(ends[1]), names[i].valid ? HEADER + FIXED + strlen(name) : 0);
		size_t length = describe(payload, &sample, name);
		ck_assert_int_eq(receive_one(payload, length, sample.fd), names[i].valid ? 0 : -EPROTO);
	}
	ferry_message_stream_free(stream);
	pump_turns(3);
	close(ends[1]);
	close_inbox();
	sample_close(&sample);
}

TEST(a_name_has_no_zero_byte_in_it)
{
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	open_inbox();
	for (size_t at = 0; at < 4; at++) {
		size_t length = describe(payload, &sample, "name");
		payload[FIXED + at] = '\0';
		ck_assert_int_eq(receive_one(payload, length, sample.fd), -EPROTO);
	}
	close_inbox();
	sample_close(&sample);
}

static void keep(struct descriptor_inbox *box, struct ferry_message *message)
{
	box->status = ferry_descriptor_receive(&box->descriptor, message);
}

TEST(the_longest_name_arrives)
{
	char name[NAME_LONGEST + 1];
	unsigned char payload[PAYLOAD_MAX];
	struct sample sample;
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	open_inbox();
	inbox.hook = keep;
	for (size_t i = 0; i < NAME_LONGEST; i += 3)
		memcpy(name + i, "€", 3);
	name[NAME_LONGEST] = '\0';
	size_t length = describe(payload, &sample, name);
	put_message(payload, length, &sample.fd, 1);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	ck_assert_str_eq(ferry_descriptor_get_name(inbox.descriptor), name);
	inbox_discard(&inbox);
	/* Cuts through the last character. */
	payload[10] = NAME_LONGEST - 1;
	ck_assert_int_eq(receive_one(payload, length - 1, sample.fd), -EPROTO);
	/* The name is one byte longer than its length field can express. */
	payload[10] = 0;
	payload[length] = 'x';
	ck_assert_int_eq(receive_one(payload, length + 1, sample.fd), -EPROTO);
	close_inbox();
	sample_close(&sample);
}
