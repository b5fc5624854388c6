/* The handoff as an object: its contents, the identity of its descriptor, and the owner of that
 * descriptor in each state. Handoffs of listeners too; bufferevents are in from_bufferevent.c and to_bufferevent.c. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "handoff/handoff.h"
#include "util/utf8.h"

#include "handoff_info.h"
#include "test.h"
#include "wire.h"

/* ---- counted system calls ---- */

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int __real_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status);
ssize_t __real_readlink(const char *path, char *buffer, size_t size);
ssize_t __wrap_readlink(const char *path, char *buffer, size_t size);

static unsigned int getsockopts, fstats, readlinks;
static bool no_cookies, no_proc;

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	getsockopts++;
	if (!no_cookies || name != SO_COOKIE)
		return __real_getsockopt(fd, level, name, value, length);
	errno = ENOPROTOOPT;
	return -1;
}

int __wrap_fstat(int fd, struct stat *status)
{
	fstats++;
	return __real_fstat(fd, status);
}

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size)
{
	readlinks++;
	if (!no_proc)
		return __real_readlink(path, buffer, size);
	errno = ENOENT;
	return -1;
}

static struct ferry_handoff *make_handoff(int fd)
{
	struct ferry_handoff *handoff = NULL;
	ck_assert_int_eq(ferry_handoff_new(&handoff, fd), 0);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), fd);
	return handoff;
}

/* A new handoff of a socket. */
static struct ferry_handoff *make_any(void)
{
	return make_handoff(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/* ---- the descriptor ---- */

TEST_CASE("descriptors");

TEST(a_descriptor_is_the_handoffs)
{
	int fd = dup(STDERR_FILENO);
	struct ferry_handoff *handoff = make_handoff(fd);
	ck_assert_uint_eq(handoff_info(handoff).id, 0);
	ck_assert_uint_eq(handoff_info(handoff).attempt, 0);
	ferry_handoff_free(handoff);
	ck_assert(!fd_is_open(fd));
	ferry_handoff_free(NULL);
}

TEST(a_stolen_descriptor_is_the_callers)
{
	int fd = dup(STDERR_FILENO);
	struct ferry_handoff *handoff = make_handoff(fd);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), fd);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), -ENOENT);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -ENOENT);
	ferry_handoff_free(handoff);
	ck_assert(fd_is_open(fd));
	close(fd);
}

TEST(a_closed_descriptor_is_refused)
{
	struct ferry_handoff *handoff = NULL;
	int fd = dup(STDERR_FILENO);
	ck_assert_int_eq(ferry_handoff_new(NULL, fd), -EINVAL);
	ck_assert_int_eq(ferry_handoff_new(&handoff, -1), -EBADF);
	close(fd);
	ck_assert_int_eq(ferry_handoff_new(&handoff, fd), -EBADF);
	ck_assert_ptr_null(handoff);
}

TEST(no_handoff_has_nothing)
{
	size_t length = 1;
	ck_assert_int_eq(ferry_handoff_get_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_handoff_steal_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_handoff_reject(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_name(NULL, "x"), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_bytes(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_blob(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_key(NULL, "x", 1), -EINVAL);
	struct ferry_handoff_info info;
	ck_assert_int_eq(ferry_handoff_get_info(NULL, &info), -EINVAL);
	ck_assert_ptr_nonnull(ferry_handoff_get_bytes(NULL, &length));
	ck_assert_uint_eq(length, 0);
	ck_assert_ptr_nonnull(ferry_handoff_get_blob(NULL, NULL));
	struct ferry_handoff *handoff = make_any();
	ck_assert_int_eq(ferry_handoff_get_info(handoff, NULL), -EINVAL);
	ferry_handoff_free(handoff);
}

/* ---- the identity ---- */

static const enum ferry_descriptor_kind kinds[] = {
    FERRY_DESCRIPTOR_SOCKET, FERRY_DESCRIPTOR_FILE,  FERRY_DESCRIPTOR_DIRECTORY,
    FERRY_DESCRIPTOR_PIPE,   FERRY_DESCRIPTOR_MEMFD, FERRY_DESCRIPTOR_EVENTFD,
    FERRY_DESCRIPTOR_EPOLL,  FERRY_DESCRIPTOR_DEVICE};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static int open_kind(enum ferry_descriptor_kind kind)
{
	int ends[2];

	switch (kind) {
	case FERRY_DESCRIPTOR_SOCKET:
		return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case FERRY_DESCRIPTOR_FILE:
		return make_file(10);
	case FERRY_DESCRIPTOR_DIRECTORY:
		return open("/", O_PATH);
	case FERRY_DESCRIPTOR_PIPE:
		make_pipe(ends);
		close(ends[1]);
		return ends[0];
	case FERRY_DESCRIPTOR_MEMFD:
		return memfd_create("x", 0);
	case FERRY_DESCRIPTOR_EVENTFD:
		return eventfd(0, 0);
	case FERRY_DESCRIPTOR_EPOLL:
		return epoll_create1(0);
	default:
		return open("/dev/null", O_RDWR);
	}
}

static void expect_identity(int fd, const struct handoff_wire_identity *expected)
{
	struct handoff_wire_identity identity;
	ck_assert_int_eq(handoff_identify(fd, &identity), 0);
	ck_assert_uint_eq(identity.kind, expected->kind);
	ck_assert_uint_eq(identity.cookie, expected->cookie);
	ck_assert_uint_eq(identity.device, expected->device);
}

TEST_CASE("identity");

/* _i: of kinds */
LOOP_TEST(a_copy_is_the_same_also_where_proc_is_missing, KINDS)
{
	struct handoff_wire_identity identity;
	int fd = open_kind(kinds[_i]);
	ck_assert_int_eq(handoff_identify(fd, &identity), 0);
	ck_assert_uint_ne(identity.cookie, 0);
	ck_assert(identity.device != 0 || kinds[_i] == FERRY_DESCRIPTOR_SOCKET);
	int copy = dup(fd);
	expect_identity(copy, &identity);
	no_proc = true;
	expect_identity(copy, &identity);
	no_proc = false;
	close(copy);
	close(fd);
}

/* _i: of kinds */
LOOP_TEST(another_one_is_another, KINDS)
{
	struct handoff_wire_identity identity, other;
	int fds[2] = {open_kind(kinds[_i]), open_kind(kinds[_i])};
	ck_assert_int_eq(handoff_identify(fds[0], &identity), 0);
	ck_assert_int_eq(handoff_identify(fds[1], &other), 0);
	/* Descriptors without a file system share one inode. */
	bool differs = kinds[_i] == FERRY_DESCRIPTOR_SOCKET || kinds[_i] == FERRY_DESCRIPTOR_FILE ||
	               kinds[_i] == FERRY_DESCRIPTOR_PIPE || kinds[_i] == FERRY_DESCRIPTOR_MEMFD;
	if (differs)
		ck_assert_uint_ne(identity.cookie, other.cookie);
	close(fds[0]);
	close(fds[1]);
}

/* _i: of kinds */
LOOP_TEST(the_kind_is_known_as_long_as_the_descriptor_is_there, KINDS)
{
	struct ferry_handoff *handoff = make_handoff(open_kind(kinds[_i]));
	ck_assert_int_eq(handoff_info(handoff).kind, kinds[_i]);
	close(ferry_handoff_steal_fd(handoff));
	enum ferry_descriptor_kind left = kinds[_i];
	if (left == FERRY_DESCRIPTOR_MEMFD)
		left = FERRY_DESCRIPTOR_FILE;
	else if (left == FERRY_DESCRIPTOR_EVENTFD || left == FERRY_DESCRIPTOR_EPOLL)
		left = FERRY_DESCRIPTOR_OTHER;
	ck_assert_int_eq(handoff_info(handoff).kind, left);
	ferry_handoff_free(handoff);
}

TEST(a_socket_costs_one_system_call)
{
	int fd = open_kind(FERRY_DESCRIPTOR_SOCKET);
	struct ferry_handoff *handoff = make_handoff(fd);
	ck_assert_uint_eq(getsockopts, 1);
	ck_assert_uint_eq(fstats + readlinks, 0);
	ck_assert_int_eq(handoff_info(handoff).kind, FERRY_DESCRIPTOR_SOCKET);
	ck_assert_uint_eq(getsockopts + fstats + readlinks, 1);
	ferry_handoff_free(handoff);
}

TEST(a_socket_without_a_cookie_is_known_by_its_inode)
{
	struct stat status;
	int fd = open_kind(FERRY_DESCRIPTOR_SOCKET);
	ck_assert_int_eq(__real_fstat(fd, &status), 0);
	no_cookies = true;
	expect_identity(
	    fd, &(struct handoff_wire_identity){FERRY_DESCRIPTOR_SOCKET, status.st_ino, status.st_dev});
	no_cookies = false;
	close(fd);
}

TEST(an_io_uring_is_refused)
{
	unsigned char parameters[120] = {0}; /* struct io_uring_params */
	struct ferry_handoff *handoff = NULL;
	int fd = (int)syscall(SYS_io_uring_setup, 1, parameters);
	if (fd < 0) {
		ck_assert(errno == ENOSYS || errno == EPERM);
		skip("io_uring: %s", strerror(errno));
		return;
	}
	ck_assert_int_eq(ferry_handoff_new(&handoff, fd), -EOPNOTSUPP);
	ck_assert_ptr_null(handoff);
	close(fd);
}

/* ---- name, bytes, blob ---- */

static const char *const names[] = {
    "",
    "www",
    "caf\xc3\xa9",
    "\xc2\x80 \xdf\xbf",
    "\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf",
    "\xf0\x90\x80\x80 \xf1\x80\x80\x80 \xf4\x8f\xbf\xbf",
};

static const char *const broken_names[] = {
    "\x80",             /* a continuation byte without a start */
    "a\xbf",            /* the same */
    "\xc3",             /* cut off */
    "\xc3(",            /* not continued */
    "\xe2\x82",         /* cut off */
    "\xe2\x82(",        /* cut off, before another character */
    "\xf0\x9f\x98",     /* cut off */
    "\xf0\x9f\x98(",    /* the same */
    "\xc0\xaf",         /* overlong forms */
    "\xc1\xbf",         /* … */
    "\xe0\x9f\xbf",     /* … */
    "\xf0\x8f\xbf\xbf", /* … */
    "\xed\xa0\x80",     /* a surrogate */
    "\xf4\x90\x80\x80", /* above U+10FFFF */
    "\xf5\x80\x80\x80", /* … */
    "\xff",             /* not a byte of UTF-8 */
};

TEST_CASE("contents");

TEST(names_are_utf8)
{
	struct ferry_handoff *handoff = make_any();
	ck_assert_str_eq(handoff_info(handoff).name, "");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ck_assert_int_eq(ferry_handoff_set_name(handoff, names[i]), 0);
		ck_assert_str_eq(handoff_info(handoff).name, names[i]);
		ck_assert_ptr_ne(handoff_info(handoff).name, names[i]);
	}
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "old"), 0);
	for (size_t i = 0; i < sizeof(broken_names) / sizeof(broken_names[0]); i++) {
		ck_assert_msg(ferry_handoff_set_name(handoff, broken_names[i]) == -EINVAL, "%zu", i);
		ck_assert_str_eq(handoff_info(handoff).name, "old");
	}
	ck_assert_int_eq(ferry_handoff_set_name(handoff, NULL), -EINVAL);
	ferry_handoff_free(handoff);
}

TEST(a_character_that_is_cut_off_is_not_completed_by_the_next_bytes)
{
	static const char text[] = "\xf0\x9f\x98\x80";
	for (size_t length = 1; length < 4; length++)
		ck_assert(!utf8_is_valid(text, length));
	ck_assert(utf8_is_valid(text, 4));
	ck_assert(utf8_is_valid(text, 0));
	ck_assert(utf8_is_valid("a\0b", 3));
}

TEST(a_name_has_255_bytes_at_most)
{
	char name[FERRY_HANDOFF_NAME_MAX + 2];
	struct ferry_handoff *handoff = make_any();
	memset(name, 'x', sizeof(name) - 1);
	name[FERRY_HANDOFF_NAME_MAX + 1] = '\0';
	ck_assert_int_eq(ferry_handoff_set_name(handoff, name), -EMSGSIZE);
	ck_assert_str_eq(handoff_info(handoff).name, "");
	name[FERRY_HANDOFF_NAME_MAX] = '\0';
	ck_assert_int_eq(ferry_handoff_set_name(handoff, name), 0);
	ck_assert_str_eq(handoff_info(handoff).name, name);
	ferry_handoff_free(handoff);
}

typedef int setter(struct ferry_handoff *handoff, const void *bytes, size_t length);
typedef const void *getter(const struct ferry_handoff *handoff, size_t *length);

static const struct {
	setter *set;
	getter *get;
} contents[] = {{ferry_handoff_set_bytes, ferry_handoff_get_bytes},
                {ferry_handoff_set_blob, ferry_handoff_get_blob}};

static void expect_content(int which, const struct ferry_handoff *handoff, size_t length)
{
	size_t found = 1;
	const unsigned char *bytes = contents[which].get(handoff, &found);
	ck_assert_uint_eq(found, length);
	ck_assert_ptr_nonnull(bytes);
	ck_assert_ptr_eq(contents[which].get(handoff, NULL), bytes);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq(bytes[i], support_byte(i));
	/* Bytes and blob are independent. */
	contents[!which].get(handoff, &found);
	ck_assert_uint_eq(found, 0);
}

/* _i: of contents */
LOOP_TEST(bytes_and_blob_have_64_kib_at_most, 2)
{
	static unsigned char bytes[FERRY_HANDOFF_BYTES_MAX + 1];
	static const size_t lengths[] = {0, 1, FERRY_HANDOFF_BYTES_MAX, 0, 5};
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = support_byte(i);

	struct ferry_handoff *handoff = make_any();
	expect_content(_i, handoff, 0);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		ck_assert_int_eq(contents[_i].set(handoff, bytes, lengths[i]), 0);
		expect_content(_i, handoff, lengths[i]);
	}
	ck_assert_int_eq(contents[_i].set(handoff, bytes, sizeof(bytes)), -EMSGSIZE);
	ck_assert_int_eq(contents[_i].set(handoff, bytes, SIZE_MAX), -EMSGSIZE);
	ck_assert_int_eq(contents[_i].set(handoff, NULL, 1), -EINVAL);
	expect_content(_i, handoff, 5);
	ck_assert_int_eq(contents[_i].set(handoff, NULL, 0), 0);
	expect_content(_i, handoff, 0);
	ferry_handoff_free(handoff);
}

TEST(bytes_that_were_read_may_be_dropped)
{
	struct ferry_handoff *handoff = make_any();
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "read", 4), 0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "www"), 0);
	handoff_drop_bytes(handoff);
	expect_content(0, handoff, 0);
	ck_assert_str_eq(handoff_info(handoff).name, "www");
	ferry_handoff_free(handoff);
}

/* ---- keys ---- */

static uint64_t hash_of(struct ferry_handoff *handoff, const void *key, size_t length)
{
	ck_assert_int_eq(ferry_handoff_set_key(handoff, key, length), 0);
	ck_assert(handoff->has_key);
	return handoff->key;
}

TEST(the_same_key_is_the_same_number)
{
	struct ferry_handoff *handoff = make_any();
	ck_assert(!handoff->has_key);
	uint64_t hash = hash_of(handoff, "192.0.2.1", 9);
	ck_assert_uint_ne(hash_of(handoff, "192.0.2.1", 8), hash);
	ck_assert_uint_ne(hash_of(handoff, "", 0), hash);
	ck_assert_uint_eq(hash_of(handoff, "192.0.2.1", 9), hash);
	ck_assert_int_eq(ferry_handoff_set_key(handoff, NULL, 9), -EINVAL);
	ck_assert_uint_eq(handoff->key, hash);
	ck_assert_int_eq(ferry_handoff_set_key(handoff, NULL, 0), 0);
	ferry_handoff_free(handoff);
}

/* A dispatcher compares whole hashes and takes them modulo a number: all bits must vary. */
TEST(keys_that_differ_in_a_bit_differ_in_half_of_the_number)
{
	enum { KEYS = 4096 };
	unsigned int ones[64] = {0};
	struct ferry_handoff *handoff = make_any();
	for (uint32_t address = 0; address < KEYS; address++) {
		uint32_t other = address ^ 1;
		uint64_t difference =
		    hash_of(handoff, &address, sizeof(address)) ^ hash_of(handoff, &other, sizeof(other));
		for (int bit = 0; bit < 64; bit++)
			ones[bit] += (unsigned int)(difference >> bit & 1);
	}
	for (int bit = 0; bit < 64; bit++)
		ck_assert_msg(ones[bit] > KEYS / 2 - KEYS / 8 && ones[bit] < KEYS / 2 + KEYS / 8,
		              "bit %d: %u of %d", bit, ones[bit], KEYS);
	ferry_handoff_free(handoff);
}

/* ---- states ---- */

static const struct {
	enum handoff_state state;
	int steal; /* the result of steal_fd; 0: the descriptor */
} states[] = {
    {HANDOFF_OWN, 0},          {HANDOFF_QUEUED, -EBUSY},    {HANDOFF_SENT, -EBUSY},
    {HANDOFF_CLAIMED, -EBUSY}, {HANDOFF_ENDED, -EBUSY},     {HANDOFF_NOTIFIED, 0},
    {HANDOFF_RECEIVED, 0},     {HANDOFF_REJECTED, -ENOENT},
};
enum { STATES = sizeof(states) / sizeof(states[0]) };

TEST_CASE("states");

/* _i: of states */
LOOP_TEST(only_its_owner_takes_the_descriptor, STATES)
{
	struct bufferevent *bev = NULL;
	struct evconnlistener *listener = NULL;
	struct ferry_handoff *handoff = make_any();
	int fd = ferry_handoff_get_fd(handoff);

	handoff->state = states[_i].state;
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), fd);
	if (states[_i].steal < 0) {
		ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, 0), states[_i].steal);
		ck_assert_int_eq(ferry_handoff_to_listener(&listener, handoff, base, NULL, NULL, 0),
		                 states[_i].steal);
		ck_assert_int_eq(ferry_handoff_steal_fd(handoff), states[_i].steal);
		ck_assert_ptr_null(bev);
		ck_assert_ptr_null(listener);
		ck_assert_int_eq(ferry_handoff_get_fd(handoff), fd);
	} else {
		ck_assert_int_eq(ferry_handoff_steal_fd(handoff), fd);
		close(fd);
	}
	handoff->state = HANDOFF_OWN;
	ferry_handoff_free(handoff);
}

/* _i: of states but the first */
LOOP_TEST_FROM(a_handoff_with_another_owner_is_neither_changed_nor_freed, 1, STATES)
{
	struct ferry_handoff *handoff = make_any();
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "old"), 0);
	handoff->state = states[_i].state;
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "new"), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_key(handoff, "x", 1), -EINVAL);
	ferry_handoff_free(handoff);
	ck_assert(fd_is_open(ferry_handoff_get_fd(handoff)));
	ck_assert_str_eq(handoff_info(handoff).name, "old");
	ck_assert(!handoff->has_key);
	handoff_destroy(handoff);
}

/* _i: of states */
LOOP_TEST(only_a_received_handoff_is_rejected_and_only_once, STATES)
{
	struct ferry_handoff *handoff = make_any();
	handoff->state = states[_i].state;
	if (handoff->state != HANDOFF_RECEIVED) {
		ck_assert_int_eq(ferry_handoff_reject(handoff, 7), -EINVAL);
		ck_assert_int_eq(handoff->state, states[_i].state);
		ck_assert_int_eq(handoff->reason, 0);
	} else {
		ck_assert_int_eq(ferry_handoff_reject(handoff, -7), 0);
		ck_assert_int_eq(handoff->state, HANDOFF_REJECTED);
		ck_assert_int_eq(handoff->reason, -7);
		/* The worker may still answer the client. */
		ck_assert(fd_is_open(ferry_handoff_get_fd(handoff)));
		ck_assert_int_eq(ferry_handoff_reject(handoff, 8), -EINVAL);
		ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -ENOENT);
		ck_assert_int_eq(handoff->reason, -7);
	}
	handoff_destroy(handoff);
}

TEST(a_stolen_handoff_is_not_rejected)
{
	struct ferry_handoff *handoff = make_any();
	handoff->state = HANDOFF_RECEIVED;
	close(ferry_handoff_steal_fd(handoff));
	ck_assert_int_eq(ferry_handoff_reject(handoff, 7), -ENOENT);
	ck_assert_int_eq(handoff->state, HANDOFF_RECEIVED);
	handoff_destroy(handoff);
}

TEST(only_a_socket_of_ones_own_is_stated_to_be_a_stream_of_inet)
{
	struct ferry_handoff *handoff = make_handoff(open_kind(FERRY_DESCRIPTOR_SOCKET));
	ck_assert_int_eq(ferry_handoff_set_inet_stream(NULL), -EINVAL);
	ck_assert(!handoff_info(handoff).inet_stream);
	ck_assert_int_eq(ferry_handoff_set_inet_stream(handoff), 0);
	ck_assert(handoff_info(handoff).inet_stream);
	handoff->state = HANDOFF_RECEIVED;
	ck_assert_int_eq(ferry_handoff_set_inet_stream(handoff), -EINVAL);
	handoff_destroy(handoff);

	handoff = make_handoff(open_kind(FERRY_DESCRIPTOR_FILE));
	ck_assert_int_eq(ferry_handoff_set_inet_stream(handoff), -ENOTSOCK);
	ck_assert(!handoff_info(handoff).inet_stream);
	ferry_handoff_free(handoff);
}

TEST(a_frame_is_seen_as_a_handoff)
{
	static const char variable[] = "www\0blobread";
	unsigned char payload[HANDOFF_WIRE_HANDOFF_SIZE + sizeof(variable) - 1];
	struct handoff_wire_handoff frame = {
	    .id = 5, .epoch = 6, .attempt = 2, .name_length = 3, .blob_length = 4, .bytes_length = 4};
	int fd = open_kind(FERRY_DESCRIPTOR_SOCKET);
	ck_assert_int_eq(handoff_identify(fd, &frame.identity), 0);
	handoff_wire_handoff_put(payload, &frame);
	memcpy(payload + HANDOFF_WIRE_HANDOFF_SIZE, variable, sizeof(variable) - 1);
	ck_assert_ptr_null(handoff_wire_handoff_get(payload, sizeof(payload), &frame));

	struct ferry_handoff handoff;
	size_t length;
	memset(&handoff, 0xa5, sizeof(handoff));
	handoff_view(&handoff, &frame, fd);
	ck_assert_int_eq(handoff.state, HANDOFF_RECEIVED);
	ck_assert_uint_eq(handoff_info(&handoff).id, 5);
	ck_assert_uint_eq(handoff_info(&handoff).attempt, 2);
	ck_assert_int_eq(ferry_handoff_get_fd(&handoff), fd);
	ck_assert_int_eq(handoff_info(&handoff).kind, FERRY_DESCRIPTOR_SOCKET);
	ck_assert_str_eq(handoff_info(&handoff).name, "www");
	ck_assert_mem_eq(ferry_handoff_get_blob(&handoff, &length), "blob", 4);
	ck_assert_uint_eq(length, 4);
	ck_assert_mem_eq(ferry_handoff_get_bytes(&handoff, &length), "read", 4);
	ck_assert_uint_eq(length, 4);
	ck_assert(!handoff.has_key);

	handoff_drop_bytes(&handoff); /* does not free the payload */
	ferry_handoff_get_bytes(&handoff, &length);
	ck_assert_uint_eq(length, 0);
	handoff_close_fd(&handoff);
	ck_assert(!fd_is_open(fd));
	handoff_close_fd(&handoff);
	ck_assert_int_eq(ferry_handoff_get_fd(&handoff), -ENOENT);
}

/* ---- listeners ---- */

static unsigned int accepted;
static void *accepted_context;

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int length, void *context)
{
	(void)listener, (void)address, (void)length;
	accepted++;
	accepted_context = context;
	close(fd);
}

static int make_listening_socket(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

static int connect_client(int listening)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&address, &length), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
	return fd;
}

static struct evconnlistener *make_listener(int fd)
{
	struct evconnlistener *listener =
	    evconnlistener_new(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 0, fd);
	ck_assert_ptr_nonnull(listener);
	return listener;
}

TEST_CASE("listeners");

TEST(a_listener_goes_there_and_back)
{
	struct ferry_handoff *handoff = NULL;
	struct evconnlistener *other = NULL;
	int mark;
	struct evconnlistener *listener = make_listener(make_listening_socket());
	ck_assert_int_eq(ferry_handoff_from_listener(&handoff, listener), 0);
	int fd = ferry_handoff_get_fd(handoff);
	ck_assert_int_ne(fd, evconnlistener_get_fd(listener));
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(handoff_info(handoff).kind, FERRY_DESCRIPTOR_SOCKET);

	/* While no process accepts, connections wait in the backlog, also after the old listener is freed. */
	int first = connect_client(fd);
	pump_turns(5);
	evconnlistener_free(listener);
	int second = connect_client(fd);
	pump_turns(5);
	ck_assert_uint_eq(accepted, 0);

	ck_assert_int_eq(
	    ferry_handoff_to_listener(&other, handoff, base, on_accept, &mark, LEV_OPT_CLOSE_ON_FREE),
	    0);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), -ENOENT);
	ferry_handoff_free(handoff);
	ck_assert_int_eq(evconnlistener_get_fd(other), fd);
	pump_until_count(&accepted, 2);
	ck_assert_ptr_eq(accepted_context, &mark);
	evconnlistener_free(other);
	ck_assert(!fd_is_open(fd));
	close(first);
	close(second);
}

TEST(a_listener_without_a_callback_waits_for_one)
{
	struct evconnlistener *listener = NULL;
	int fd = make_listening_socket();
	ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0); /* blocking */
	struct ferry_handoff *handoff = make_handoff(fd);
	ck_assert_int_eq(
	    ferry_handoff_to_listener(&listener, handoff, base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	int client = connect_client(fd);
	pump_turns(5);
	evconnlistener_set_cb(listener, on_accept, NULL);
	ck_assert_int_eq(evconnlistener_enable(listener), 0);
	pump_until_count(&accepted, 1);
	evconnlistener_free(listener);
	close(client);
}

TEST(a_listener_that_cannot_be_handed_off_goes_on)
{
	struct ferry_handoff *handoff = NULL;
	struct evconnlistener *listener = make_listener(make_listening_socket());
	ck_assert_int_eq(ferry_handoff_from_listener(NULL, listener), -EINVAL);
	ck_assert_int_eq(ferry_handoff_from_listener(&handoff, NULL), -EINVAL);
	limit_descriptors(0);
	int status = ferry_handoff_from_listener(&handoff, listener);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	ck_assert_ptr_null(handoff);
	int client = connect_client(evconnlistener_get_fd(listener));
	pump_until_count(&accepted, 1);
	close(client);
	evconnlistener_free(listener);

	listener = evconnlistener_new(base, NULL, NULL, 0, 0, -1);
	ck_assert_int_eq(ferry_handoff_from_listener(&handoff, listener), -EBADF);
	evconnlistener_free(listener);
}

TEST(a_socket_that_does_not_listen_makes_no_listener)
{
	struct evconnlistener *listener = NULL;
	struct ferry_handoff *handoff = make_any();
	ck_assert_int_eq(ferry_handoff_to_listener(NULL, handoff, base, on_accept, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_listener(&listener, NULL, base, on_accept, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_listener(&listener, handoff, NULL, on_accept, NULL, 0),
	                 -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_listener(&listener, handoff, base, on_accept, NULL, 0),
	                 -EINVAL);
	ck_assert(fd_is_open(ferry_handoff_get_fd(handoff)));
	close(ferry_handoff_steal_fd(handoff));
	ck_assert_int_eq(ferry_handoff_to_listener(&listener, handoff, base, on_accept, NULL, 0),
	                 -ENOENT);
	ferry_handoff_free(handoff);

	handoff = make_handoff(make_file(1));
	ck_assert_int_eq(ferry_handoff_to_listener(&listener, handoff, base, on_accept, NULL, 0),
	                 -ENOTSOCK);
	ck_assert_ptr_null(listener);
	ferry_handoff_free(handoff);
}
