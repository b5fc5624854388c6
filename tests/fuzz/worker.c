/* A worker, and a dispatcher that sends anything: its callback runs once for each claim that was sent,
 * its counters add up, each return is sent or fails, and dispatcher_lost runs once. */

#include "fuzz.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/worker.h"
#include "handoff/handoff.h"
#include "handoff/wire.h"
#include "message/wire.h"

enum { NARROW = 1, FREES = 2, CLOSES = 4, EPOCH = 7, HANDOFF_MAX = 256 };

static struct told {
	struct ferry_worker *worker; /* NULL once freed */
	unsigned int flags, received, claims;
	unsigned int returned, returns, failed; /* accepted, sent as a whole, failed */
	uint64_t id;                            /* of the last one */
	uint8_t answers; /* the callback's actions for the next handoffs, two bits each */
	bool lost;
	int socket; /* the other end */
	size_t said_length, looked_at;
	unsigned char said[1024 * 1024]; /* the bytes read there, then those only peeked at */
} told;

/* Counts the claims and returns that the kernel has taken: read ones, and those that wait at the other end. */
static unsigned int count_claims(void)
{
	ssize_t waiting = recv(told.socket, told.said + told.said_length,
	                       sizeof(told.said) - told.said_length, MSG_PEEK | MSG_DONTWAIT);
	size_t left = told.said_length + (waiting > 0 ? (size_t)waiting : 0) - told.looked_at;
	struct message_header header;

	while (left >= MESSAGE_HEADER_SIZE) {
		const unsigned char *at = told.said + told.looked_at;
		FUZZ_CHECK(message_header_get(at, &header) == NULL);
		size_t size = MESSAGE_HEADER_SIZE + (size_t)header.length;
		if (left < size)
			break;
		told.looked_at += size;
		left -= size;
		told.claims += header.type == HANDOFF_WIRE_CLAIM;
		told.returns += header.type == HANDOFF_WIRE_RETURN;
	}
	return told.claims;
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)context;
	struct ferry_handoff_info info;
	size_t length;

	FUZZ_CHECK(worker == told.worker && !told.lost);
	FUZZ_CHECK(ferry_handoff_get_info(handoff, &info) == 0);
	FUZZ_CHECK(ferry_handoff_get_fd(handoff) >= 0);
	FUZZ_CHECK(strlen(info.name) <= FERRY_HANDOFF_NAME_MAX);
	FUZZ_CHECK(ferry_handoff_get_bytes(handoff, &length) != NULL || length == 0);
	FUZZ_CHECK(ferry_handoff_get_blob(handoff, &length) != NULL || length == 0);
	/* The kernel has the whole claim. A look at the socket ends at the descriptor of a return. */
	told.received++;
	FUZZ_CHECK(told.returned > 0 || count_claims() == told.received);
	told.id = info.id;
	if ((told.answers & 3) == 1)
		close(ferry_handoff_steal_fd(handoff));
	else if ((told.answers & 3) == 2)
		FUZZ_CHECK(ferry_handoff_reject(handoff, -1) == 0);
	else if ((told.answers & 3) == 3)
		ferry_worker_done(worker, told.id);
	told.answers = (uint8_t)(told.answers >> 2 | told.answers << 6);
	if ((told.flags & FREES) != 0 && told.received == 3) {
		ferry_worker_free(worker);
		told.worker = NULL;
	}
}

static void drain_requested(struct ferry_worker *worker, void *context)
{
	(void)context;
	FUZZ_CHECK(worker == told.worker && !told.lost);
}

static void recall_requested(struct ferry_worker *worker, const struct timeval *spread,
                             void *context)
{
	(void)context;
	FUZZ_CHECK(worker == told.worker && !told.lost);
	FUZZ_CHECK(spread->tv_sec >= 0 && spread->tv_usec >= 0 && spread->tv_usec < 1000000);
}

static void return_failed(struct ferry_worker *worker, uint64_t id, struct ferry_handoff *handoff,
                          void *context)
{
	(void)id, (void)context;
	FUZZ_CHECK(worker == told.worker && !told.lost);
	FUZZ_CHECK(ferry_handoff_get_fd(handoff) >= 0);
	told.failed++;
	ferry_handoff_free(handoff);
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)context;
	FUZZ_CHECK(worker == told.worker && !told.lost && reason <= 0);
	told.lost = true;
}

static const struct ferry_worker_callbacks callbacks = {
    .handoff_received = handoff_received,
    .drain_requested = drain_requested,
    .recall_requested = recall_requested,
    .return_failed = return_failed,
    .dispatcher_lost = dispatcher_lost,
};

/* ---- the dispatcher ---- */

static void send_hello(int socket)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];

	handoff_wire_hello_put(
	    payload,
	    &(struct handoff_wire_hello){HANDOFF_WIRE_VERSION_MIN, HANDOFF_WIRE_VERSION_MAX, 0, EPOCH});
	fuzz_send_message(socket, HANDOFF_WIRE_HELLO, payload, sizeof(payload), 0, NULL, 0);
}

static int make_fd(unsigned int how)
{
	int fds[2];

	if ((how & 1) == 0)
		return memfd_create("fuzz", MFD_CLOEXEC);
	fuzz_pair(fds);
	close(fds[1]);
	return fds[0];
}

/* A correct handoff, except for one byte that `how` may change. */
static void send_handoff(int socket, unsigned int how, struct fuzz_input *input)
{
	unsigned char payload[HANDOFF_MAX] = {0};
	struct handoff_wire_handoff handoff = {.epoch = EPOCH, .attempt = 1};
	int fd = make_fd(how);

	FUZZ_CHECK(fd >= 0 && handoff_identify(fd, &handoff.identity) == 0);
	handoff.id = fuzz_byte(input);
	unsigned int lengths = fuzz_byte(input);
	handoff.name_length = lengths & 3;
	handoff.blob_length = lengths >> 2 & 7;
	handoff.bytes_length = lengths >> 5;
	handoff_wire_handoff_put(payload, &handoff);
	memset(payload + HANDOFF_WIRE_HANDOFF_SIZE, 'n', handoff.name_length);
	size_t length = HANDOFF_WIRE_HANDOFF_SIZE + (size_t)handoff.name_length + 1 +
	                handoff.blob_length + handoff.bytes_length;
	if ((how & 2) != 0) {
		size_t at = fuzz_byte(input) % length;
		payload[at] = (unsigned char)(payload[at] + fuzz_byte(input));
	}
	fuzz_send_message(socket, HANDOFF_WIRE_HANDOFF, payload, length, 1, &fd, (how & 4) == 0);
	close(fd);
}

/* False: there is nothing to read now. */
static bool read_answers(size_t most)
{
	if (most > sizeof(told.said) - told.said_length)
		most = sizeof(told.said) - told.said_length;
	ssize_t received = recv(told.socket, told.said + told.said_length, most, MSG_DONTWAIT);
	told.said_length += received > 0 ? (size_t)received : 0;
	return received > 0;
}

/* ---- the script ---- */

static void give_back(struct fuzz_input *input)
{
	static const char bytes[255 * 16];
	struct ferry_handoff *handoff;

	FUZZ_CHECK(ferry_handoff_new(&handoff, make_fd(1)) == 0);
	FUZZ_CHECK(ferry_handoff_set_bytes(handoff, bytes, (size_t)fuzz_byte(input) * 16) == 0);
	int status = ferry_worker_return(told.worker, told.id, handoff);
	if (status == 0)
		told.returned++;
	else
		ferry_handoff_free(handoff);
}

static void use_worker(unsigned int how, struct fuzz_input *input)
{
	if ((how & 16) != 0)
		give_back(input);
	else if (how % 4 == 0)
		ferry_worker_set_credits(told.worker, fuzz_byte(input));
	else if (how % 4 == 1)
		ferry_worker_drain(told.worker);
	else if (how % 4 == 2)
		ferry_worker_done(told.worker, told.id);
	else
		told.answers = fuzz_byte(input);
}

static void step(int socket, struct fuzz_input *input)
{
	unsigned int step = fuzz_byte(input);

	if (fuzz_peer_step(socket, step, input))
		return;
	else if ((step & 7) == 4)
		send_handoff(socket, step >> 3, input);
	else if ((step & 7) == 5)
		send_hello(socket);
	else if ((step & 7) == 6)
		read_answers((size_t)(step >> 3) * 8);
	else
		use_worker(step >> 3, input);
}

static void check_sums(void)
{
	struct ferry_worker_stats stats;

	FUZZ_CHECK(ferry_worker_get_stats(told.worker, &stats) == 0);
	FUZZ_CHECK(stats.claimed == told.received);
	if ((told.flags & CLOSES) == 0) {
		FUZZ_CHECK(count_claims() >= stats.claimed);
		FUZZ_CHECK(told.claims <= stats.claimed + stats.unclaimed);
		FUZZ_CHECK(told.returned == told.returns + told.failed);
	}
	FUZZ_CHECK(stats.received == stats.claimed + stats.refused + stats.lost + stats.unclaimed);
	FUZZ_CHECK(stats.lost == 0);
}

/* Claims that wait for room are sent when the other end reads, or never if it is closed. */
static void end(void)
{
	if ((told.flags & CLOSES) != 0) {
		close(told.socket);
		told.socket = -1;
	} else {
		shutdown(told.socket, SHUT_WR);
	}
	while (told.worker != NULL && !told.lost) {
		if (told.socket >= 0)
			read_answers(sizeof(told.said));
		FUZZ_CHECK(event_base_loop(fuzz_base, EVLOOP_ONCE) == 0);
	}
	while (told.socket >= 0 && read_answers(sizeof(told.said)))
		;
	if (told.worker != NULL)
		check_sums();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	int ends[2];

	if (size > FUZZ_INPUT_MAX)
		return 0;
	fuzz_begin();
	fuzz_pair(ends);
	memset(&told, 0, offsetof(struct told, said));
	told.flags = fuzz_byte(&input);
	told.socket = ends[1];
	if ((told.flags & NARROW) != 0) /* claims have to wait for room */
		FUZZ_CHECK(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &(int){1}, sizeof(int)) == 0);
	FUZZ_CHECK(ferry_worker_new(&told.worker, fuzz_transport(ends[0]), &callbacks, NULL) == 0);
	while (input.left > 0 && told.worker != NULL)
		step(ends[1], &input);
	end();
	ferry_worker_free(told.worker);
	if (told.socket >= 0)
		close(told.socket);
	fuzz_end();
	return 0;
}
