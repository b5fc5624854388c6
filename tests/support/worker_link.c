#include "worker_link.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "handoff_info.h"
#include "support.h"
#include "wire.h"

static const uint64_t epoch = UINT64_C(0x1122334455667788);

int worker_ends[2] = {-1, -1};

/* The results of the worker's next calls. 0: as in the kernel; positive: at most so many bytes;
 * negative: an error. */
static int worker_script[8];

unsigned int script_next, script_length;

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

static ssize_t send_less(int fd, const struct msghdr *message, int flags, size_t max)
{
	struct iovec vectors[80];
	struct msghdr less = *message;
	less.msg_iov = vectors;
	less.msg_iovlen = 0;
	for (size_t i = 0; i < message->msg_iovlen && max > 0; i++) {
		struct iovec *vector = &vectors[less.msg_iovlen++];
		*vector = message->msg_iov[i];
		if (vector->iov_len > max)
			vector->iov_len = max;
		max -= vector->iov_len;
	}
	return __real_sendmsg(fd, &less, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (fd != worker_ends[0] || script_next == script_length)
		return __real_sendmsg(fd, message, flags);
	int step = worker_script[script_next++];
	if (step < 0) {
		errno = -step;
		return -1;
	}
	return step == 0 ? __real_sendmsg(fd, message, flags)
	                 : send_less(fd, message, flags, (size_t)step);
}

void plan_send(int step)
{
	if (script_next == script_length)
		script_next = script_length = 0;
	worker_script[script_length++] = step;
}

struct worker_notes worker_notes;

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	ck_assert_ptr_eq(context, &worker_notes);
	ck_assert_ptr_eq(worker, worker_notes.worker);
	ck_assert_uint_eq(worker_notes.lost, 0);
	int fd = ferry_handoff_get_fd(handoff);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	worker_notes.received++;
	worker_notes.id = handoff_info(handoff).id;
	if (worker_notes.on_handoff != NULL)
		worker_notes.on_handoff(handoff);
}

static void drain_requested(struct ferry_worker *worker, void *context)
{
	ck_assert_ptr_eq(context, &worker_notes);
	ck_assert_ptr_eq(worker, worker_notes.worker);
	worker_notes.drains++;
	if (worker_notes.on_event != NULL)
		worker_notes.on_event();
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	ck_assert_ptr_eq(context, &worker_notes);
	ck_assert_ptr_eq(worker, worker_notes.worker);
	worker_notes.lost++;
	ck_assert_uint_eq(worker_notes.lost, 1);
	worker_notes.reason = reason;
	if (worker_notes.on_event != NULL)
		worker_notes.on_event();
}

const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = handoff_received,
    .drain_requested = drain_requested,
    .dispatcher_lost = dispatcher_lost,
};

int bev_options = BEV_OPT_CLOSE_ON_FREE;

void open_worker_with(const struct ferry_worker_callbacks *table)
{
	struct ferry_transport *transport = NULL;
	make_pair(PAIR_UNIX, worker_ends);
	worker_notes.fd = -1;
	struct bufferevent *bev = bufferevent_socket_new(base, worker_ends[0], bev_options);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_worker_new(&worker_notes.worker, transport, table, &worker_notes), 0);
}

void free_worker(void)
{
	struct ferry_worker *worker = worker_notes.worker;
	worker_notes.worker = NULL;
	ferry_worker_free(worker);
}

void close_dispatcher(void)
{
	if (worker_ends[1] >= 0)
		close(worker_ends[1]);
	worker_ends[1] = -1;
}

void close_worker(void)
{
	free_worker();
	close_dispatcher();
	if (worker_notes.fd >= 0)
		close(worker_notes.fd);
	worker_notes.fd = -1;
}

struct ferry_worker_stats worker_stats(void)
{
	struct ferry_worker_stats result;
	ck_assert_int_eq(ferry_worker_get_stats(worker_notes.worker, &result), 0);
	return result;
}

static unsigned char frame[FRAME_MAX + 64];

void put_number(size_t offset, uint64_t value, size_t size)
{
	for (size_t i = 0; i < size; i++)
		frame[offset + i] = (unsigned char)(value >> (8 * i));
}

size_t put_header(unsigned int type, size_t length, size_t fds)
{
	memset(frame, 0, HEADER);
	put_number(0, 0x01595246, 4); /* "FRY" 1 */
	put_number(4, type, 2);
	put_number(8, length, 4);
	put_number(12, fds, 2);
	return HEADER + length;
}

void send_frame(size_t length, const int *fds, size_t fd_count)
{
	size_t sent = 0;
	while (sent < length) {
		ssize_t n =
		    wire_send(worker_ends[1], frame + sent, length - sent, fds, sent == 0 ? fd_count : 0);
		if (n == -EAGAIN)
			pump_turns(1);
		else
			ck_assert_int_gt(n, 0);
		sent += n > 0 ? (size_t)n : 0;
	}
}

void send_plain(unsigned int type, size_t length)
{
	memset(frame + HEADER, 0, length);
	send_frame(put_header(type, length, 0), NULL, 0);
}

void send_hello(unsigned int min, unsigned int max, size_t length)
{
	memset(frame + HEADER, 0, length > HELLO_SIZE ? length : HELLO_SIZE);
	put_header(HELLO, length, 0);
	put_number(HEADER, min, 2);
	put_number(HEADER + 2, max, 2);
	put_number(HEADER + 8, epoch, 8);
	send_frame(HEADER + length, NULL, 0);
}

static void identify(struct parcel *parcel)
{
	struct stat status;
	socklen_t length = sizeof(parcel->cookie);
	if (getsockopt(parcel->fd, SOL_SOCKET, SO_COOKIE, &parcel->cookie, &length) == 0) {
		parcel->kind = FERRY_DESCRIPTOR_SOCKET;
		return;
	}
	ck_assert_int_eq(fstat(parcel->fd, &status), 0);
	parcel->cookie = status.st_ino;
	parcel->device = status.st_dev;
	parcel->kind = S_ISREG(status.st_mode)    ? FERRY_DESCRIPTOR_FILE
	               : S_ISFIFO(status.st_mode) ? FERRY_DESCRIPTOR_PIPE
	                                          : FERRY_DESCRIPTOR_DEVICE;
}

struct parcel make_parcel(uint64_t id, int fd)
{
	struct parcel parcel = {.id = id, .attempt = 1, .fd = fd, .name = 3, .blob = 2, .bytes = 4};
	identify(&parcel);
	return parcel;
}

static unsigned char filling(char part, size_t i)
{
	return part == 'n' ? (unsigned char)('a' + i % 26) : support_byte(i + (unsigned char)part);
}

static size_t fill_in(size_t at, char part, size_t length)
{
	for (size_t i = 0; i < length; i++)
		frame[at + i] = filling(part, i);
	return at + length;
}

size_t put_handoff(const struct parcel *parcel)
{
	size_t at = HEADER;
	put_number(at, parcel->id, 8);
	put_number(at + 8, epoch, 8);
	put_number(at + 16, parcel->cookie, 8);
	put_number(at + 24, parcel->device, 8);
	put_number(at + 32, parcel->kind, 1);
	put_number(at + 33, parcel->attempt, 1);
	put_number(at + 34, parcel->name, 2);
	put_number(at + 36, parcel->blob, 4);
	put_number(at + 40, parcel->bytes, 4);
	put_number(at + 44, 0, 4);
	at = fill_in(at + HANDOFF_SIZE, 'n', parcel->name);
	frame[at] = '\0';
	at = fill_in(at + 1, 'o', parcel->blob);
	at = fill_in(at, 'b', parcel->bytes);
	return put_header(HANDOFF, at - HEADER, 1);
}

void give_parcel(const struct parcel *parcel)
{
	send_frame(put_handoff(parcel), &parcel->fd, 1);
}

static unsigned char arrived[1 << 20];

size_t arrived_length, taken;

uint64_t get_number(const unsigned char *at, size_t size)
{
	uint64_t result = 0;
	while (size-- > 0)
		result = result << 8 | at[size];
	return result;
}

void take_in(void)
{
	ssize_t n;
	do {
		ck_assert_uint_lt(arrived_length, sizeof(arrived));
		n = recv(worker_ends[1], arrived + arrived_length, sizeof(arrived) - arrived_length,
		         MSG_DONTWAIT);
		arrived_length += n > 0 ? (size_t)n : 0;
	} while (n > 0);
}

bool look_at(size_t *at, struct answer *answer)
{
	const unsigned char *header = arrived + *at;
	if (arrived_length - *at < HEADER)
		return false;
	ck_assert_uint_eq(get_number(header, 4), 0x01595246);
	size_t length = (size_t)get_number(header + 8, 4);
	ck_assert_uint_eq(get_number(header + 12, 2), 0);
	if (arrived_length - *at < HEADER + length)
		return false;
	*answer = (struct answer){.type = (unsigned int)get_number(header + 4, 2),
	                          .length = length,
	                          .payload = header + HEADER};
	*at += HEADER + length;
	if (answer->type >= CLAIM && answer->type <= DONE) {
		ck_assert_uint_eq(length, ANSWER_SIZE);
		answer->id = get_number(answer->payload, 8);
		answer->epoch = get_number(answer->payload + 8, 8);
		answer->reason = (int)(int32_t)get_number(answer->payload + 16, 4);
	}
	return true;
}

bool next_answer(struct answer *answer)
{
	take_in();
	return look_at(&taken, answer);
}

static bool has_answer(void *unused)
{
	(void)unused;
	struct answer answer;
	size_t at = taken;
	take_in();
	return look_at(&at, &answer);
}

struct answer expect_frame(unsigned int type)
{
	struct answer answer = {0};
	pump_until(has_answer, NULL);
	ck_assert(next_answer(&answer));
	ck_assert_uint_eq(answer.type, type);
	return answer;
}

void expect_answer(unsigned int type, uint64_t id, int reason)
{
	struct answer answer = expect_frame(type);
	ck_assert_uint_eq(answer.id, id);
	ck_assert_uint_eq(answer.epoch, epoch);
	ck_assert_int_eq(answer.reason, reason);
}

void expect_silence(void)
{
	struct answer answer = {0};
	pump_turns(5);
	ck_assert(!next_answer(&answer));
}

unsigned int count_waiting(unsigned int type)
{
	struct answer answer;
	unsigned int count = 0;
	take_in();
	for (size_t at = taken; look_at(&at, &answer);)
		count += answer.type == type;
	return count;
}

void greet(void)
{
	expect_frame(HELLO);
	send_hello(1, 1, HELLO_SIZE);
}

void open_worker(void)
{
	open_worker_with(&worker_callbacks);
	greet();
}

void expect_worker_lost(int reason)
{
	pump_until_count(&worker_notes.lost, 1);
	ck_assert_int_eq(worker_notes.reason, reason);
	pump_turns(3);
}

struct client make_client(void)
{
	int pair[2];
	make_pair(PAIR_UNIX, pair);
	return (struct client){pair[0], pair[1]};
}

void give_client(struct client *client, uint64_t id)
{
	struct parcel parcel = make_parcel(id, client->near);
	give_parcel(&parcel);
	close(client->near);
	client->near = -1;
}

static bool client_has_ended(void *argument)
{
	struct client *client = argument;
	char byte;
	return recv(client->far, &byte, 1, MSG_DONTWAIT) == 0;
}

void expect_closed(struct client *client)
{
	pump_until(client_has_ended, client);
	close(client->far);
}

void expect_open(struct client *client)
{
	ck_assert(!client_has_ended(client));
}

void steal_descriptor(struct ferry_handoff *handoff)
{
	ck_assert_int_eq(worker_notes.fd, -1);
	worker_notes.fd = ferry_handoff_steal_fd(handoff);
	ck_assert_int_ge(worker_notes.fd, 0);
}

struct parcel expected;

static void check_part(const void *data, size_t length, char part, size_t expected_length)
{
	const unsigned char *bytes = data;
	ck_assert_uint_eq(length, expected_length);
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != filling(part, i))
			ck_abort_msg("another byte at %zu of part %c", i, part);
}

void check_parcel(struct ferry_handoff *handoff)
{
	size_t length = 1;
	const char *name = handoff_info(handoff).name;
	check_part(name, strlen(name), 'n', expected.name);
	const void *bytes = ferry_handoff_get_bytes(handoff, &length);
	check_part(bytes, length, 'b', expected.bytes);
	const void *blob = ferry_handoff_get_blob(handoff, &length);
	check_part(blob, length, 'o', expected.blob);
	ck_assert_uint_eq(handoff_info(handoff).id, expected.id);
	ck_assert_uint_eq(handoff_info(handoff).attempt, expected.attempt);
	ck_assert(same_file(ferry_handoff_get_fd(handoff), expected.fd));
}

void give_burst(struct client *clients)
{
	for (uint64_t i = 0; i < BURST; i++) {
		clients[i] = make_client();
		give_client(&clients[i], i + 1);
	}
}
