/* A dispatcher, and workers that send any answers: each handoff has one outcome, and the dispatcher's
 * counters add up. */

#include "fuzz.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ferry/dispatcher.h"
#include "handoff/wire.h"
#include "util/little_endian.h"

enum { WORKERS = 4, HANDOFFS = 24, IDS = 16, QUEUE = 8, NEVER_SECONDS = 100000 };

static struct {
	struct ferry_dispatcher *dispatcher;
	unsigned int handed_off, outcomes, workers_lost;
	unsigned int outcomes_of[HANDOFFS];
	bool full;
	int copies[HANDOFFS]; /* of what was handed off */

	struct {
		struct ferry_dispatcher_worker *worker; /* NULL: none, or gone */
		int socket;                             /* of its own end; -1: none */
		uint64_t epoch;
		uint64_t ids[IDS]; /* of the handoffs that it has read */
		uint64_t inodes[IDS];
		unsigned int id_count;
	} peers[WORKERS];
} all;

/* ---- the callbacks ---- */

static void on_outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	unsigned int *count = context;

	(void)reason;
	FUZZ_CHECK(dispatcher == all.dispatcher && ++*count == 1);
	FUZZ_CHECK(outcome >= FERRY_HANDOFF_DONE && outcome <= FERRY_HANDOFF_KEPT);
	/* The worker that has claimed it has the only copy. */
	if (outcome == FERRY_HANDOFF_DONE || outcome == FERRY_HANDOFF_KEPT)
		FUZZ_CHECK(ferry_handoff_get_fd(handoff) == -ENOENT);
	if (outcome == FERRY_HANDOFF_EXPIRED)
		FUZZ_CHECK(ferry_handoff_get_fd(handoff) >= 0);
	all.outcomes++;
}

/* In place of the outcome. */
static void handoff_returned(struct ferry_dispatcher *dispatcher,
                             struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)worker, (void)context;
	struct ferry_handoff_info info;

	FUZZ_CHECK(ferry_handoff_get_info(handoff, &info) == 0);
	unsigned int *count = info.context;
	FUZZ_CHECK(dispatcher == all.dispatcher && ++*count == 1);
	FUZZ_CHECK(ferry_handoff_get_fd(handoff) >= 0);
	all.outcomes++;
	ferry_handoff_free(handoff);
}

static void worker_lost(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
                        int reason, void *context)
{
	(void)context;
	unsigned int i = 0;

	FUZZ_CHECK(dispatcher == all.dispatcher && reason <= 0);
	while (i < WORKERS && all.peers[i].worker != worker)
		i++;
	FUZZ_CHECK(i < WORKERS); /* it was there, and not lost before */
	all.peers[i].worker = NULL;
	all.workers_lost++;
}

static void full_changed(struct ferry_dispatcher *dispatcher, bool full, void *context)
{
	(void)context;
	FUZZ_CHECK(full != all.full && full == ferry_dispatcher_is_full(dispatcher));
	all.full = full;
}

static const struct ferry_dispatcher_callbacks callbacks = {
    .worker_lost = worker_lost,
    .full_changed = full_changed,
    .handoff_returned = handoff_returned,
};

static void check_sums(void)
{
	struct ferry_dispatcher_stats stats;

	FUZZ_CHECK(ferry_dispatcher_get_stats(all.dispatcher, &stats) == 0);
	FUZZ_CHECK(stats.accepted == all.handed_off);
	FUZZ_CHECK(stats.accepted == stats.done + stats.rejected + stats.expired + stats.kept +
	                                 stats.queued + stats.outstanding + stats.returned);
	FUZZ_CHECK(stats.sent == stats.outstanding + stats.done + stats.rejected + stats.kept +
	                             stats.lost + stats.fenced + stats.refused + stats.returned);
	FUZZ_CHECK(stats.claimed >= stats.done + stats.kept);
	FUZZ_CHECK(all.outcomes <=
	           stats.done + stats.rejected + stats.expired + stats.kept + stats.returned);
}

/* ---- the dispatcher's owner ---- */

static void close_peer(unsigned int i)
{
	if (all.peers[i].socket >= 0)
		close(all.peers[i].socket);
	all.peers[i].socket = -1;
}

static void remove_worker(unsigned int i)
{
	struct ferry_dispatcher_worker *worker = all.peers[i].worker;

	all.peers[i].worker = NULL;
	ferry_dispatcher_worker_remove(worker);
}

static void add_worker(unsigned int i)
{
	int ends[2];

	if (all.peers[i].worker != NULL)
		return;
	close_peer(i);
	fuzz_pair(ends);
	all.peers[i].socket = ends[1];
	all.peers[i].id_count = 0;
	FUZZ_CHECK(ferry_dispatcher_add_worker(&all.peers[i].worker, all.dispatcher,
	                                       fuzz_transport(ends[0]), NULL) == 0);
}

static void hand_off(void)
{
	struct ferry_handoff *handoff = NULL;

	if (all.handed_off == HANDOFFS)
		return;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	FUZZ_CHECK(ferry_handoff_new(&handoff, fd) == 0);
	ferry_handoff_set_key(handoff, &all.handed_off, sizeof(all.handed_off));
	int copy = dup(fd);
	int status = ferry_dispatcher_hand_off(all.dispatcher, handoff, on_outcome,
	                                       &all.outcomes_of[all.handed_off]);
	FUZZ_CHECK(status == 0 || status == -ENOBUFS);
	if (status != 0) {
		ferry_handoff_free(handoff);
		close(copy);
		return;
	}
	all.copies[all.handed_off++] = copy;
}

static void act(unsigned int how, unsigned int i)
{
	if (how % 8 == 0)
		remove_worker(i);
	else if (how % 8 == 1)
		ferry_dispatcher_worker_drain(all.peers[i].worker);
	else if (how % 8 == 2)
		add_worker(i);
	else if (how % 8 == 3)
		close_peer(i);
	else
		hand_off();
}

/* ---- the workers ---- */

static void note_handoff(unsigned int i, const unsigned char *payload)
{
	unsigned int at = all.peers[i].id_count++ % IDS;

	all.peers[i].ids[at] = little_endian_get(payload, 8);
	all.peers[i].inodes[at] = little_endian_get(payload + 16, 8);
}

static void look(unsigned int i)
{
	struct fuzz_message message;

	while (all.peers[i].socket >= 0 && fuzz_receive_message(all.peers[i].socket, &message)) {
		if (message.type == HANDOFF_WIRE_HELLO)
			all.peers[i].epoch = little_endian_get(message.payload + 8, 8);
		else if (message.type == HANDOFF_WIRE_HANDOFF)
			note_handoff(i, message.payload);
	}
}

/* An answer about a handoff that it has read, or another has; correct except perhaps for the epoch. */
static void answer(unsigned int i, unsigned int how, struct fuzz_input *input)
{
	unsigned int about = fuzz_byte(input);
	unsigned char payload[HANDOFF_WIRE_ANSWER_SIZE];
	const struct handoff_wire_answer content = {
	    .id = all.peers[(about & 64) != 0 ? (i + 1) % WORKERS : i].ids[about % IDS],
	    .epoch = all.peers[i].epoch + (about >> 7),
	    .reason = -1,
	};

	handoff_wire_answer_put(payload, &content);
	fuzz_send_message(all.peers[i].socket, (uint16_t)(HANDOFF_WIRE_CLAIM + how % 4), payload,
	                  sizeof(payload), 0, NULL, 0);
}

static int find_copy(uint64_t inode)
{
	struct stat status;

	for (unsigned int i = 0; i < all.handed_off; i++)
		if (fstat(all.copies[i], &status) == 0 && status.st_ino == inode)
			return all.copies[i];
	return STDIN_FILENO;
}

/* Correct except perhaps for the epoch, the descriptor, and the number of bytes. */
static void give_back(unsigned int i, struct fuzz_input *input)
{
	unsigned int about = fuzz_byte(input), bytes = fuzz_byte(input) * 16;
	unsigned char payload[HANDOFF_WIRE_HANDOFF_SIZE + 1 + 255 * 16] = {0};
	uint64_t inode = all.peers[i].inodes[about % IDS];
	int fd = find_copy(inode + ((about & 64) != 0));
	const struct handoff_wire_handoff content = {
	    .id = all.peers[i].ids[about % IDS],
	    .epoch = all.peers[i].epoch + (about >> 7),
	    .bytes_length = bytes,
	};

	handoff_wire_handoff_put(payload, &content);
	fuzz_send_message(all.peers[i].socket, HANDOFF_WIRE_RETURN, payload,
	                  HANDOFF_WIRE_HANDOFF_SIZE + 1 + bytes, 1, &fd, 1);
}

static void send_credits(unsigned int i, struct fuzz_input *input)
{
	unsigned char payload[HANDOFF_WIRE_CREDITS_SIZE];

	handoff_wire_credits_put(payload, fuzz_byte(input));
	fuzz_send_message(all.peers[i].socket, HANDOFF_WIRE_CREDITS, payload, sizeof(payload), 0, NULL,
	                  0);
}

static void send_hello(unsigned int i, struct fuzz_input *input)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];

	handoff_wire_hello_put(payload, &(struct handoff_wire_hello){HANDOFF_WIRE_VERSION_MIN,
	                                                             HANDOFF_WIRE_VERSION_MAX,
	                                                             fuzz_byte(input), 0});
	fuzz_send_message(all.peers[i].socket, HANDOFF_WIRE_HELLO, payload, sizeof(payload), 0, NULL,
	                  0);
}

/* Two bytes: the step, and the worker with the variant. */
static void step(struct fuzz_input *input)
{
	unsigned int what = fuzz_byte(input), i = what >> 3 & 3, how = what >> 5;

	if ((what & 7) == 4)
		act(how, i);
	else if (all.peers[i].socket < 0)
		fuzz_turns(1);
	else if ((what & 7) < 4)
		fuzz_peer_step(all.peers[i].socket, (what & 7) | how << 3, input);
	else if ((what & 7) == 5)
		look(i);
	else if ((what & 7) == 6 && how == 7)
		give_back(i, input);
	else if ((what & 7) == 6)
		answer(i, how, input);
	else if ((how & 1) == 0)
		send_hello(i, input);
	else
		send_credits(i, input);
	check_sums();
}

static void begin(unsigned int how)
{
	const struct timeval never = {.tv_sec = NEVER_SECONDS};

	memset(&all, 0, sizeof(all));
	FUZZ_CHECK(ferry_dispatcher_new(&all.dispatcher, fuzz_base, &callbacks, NULL) == 0);
	FUZZ_CHECK(ferry_dispatcher_set_timeouts(all.dispatcher, &never, &never) == 0);
	FUZZ_CHECK(ferry_dispatcher_set_queue_limit(all.dispatcher, QUEUE) == 0);
	FUZZ_CHECK(ferry_dispatcher_set_choice(all.dispatcher, how % 3) == 0);
	for (unsigned int i = 0; i < WORKERS; i++)
		all.peers[i].socket = -1;
	add_worker(0);
	add_worker(1);
	hand_off();
	hand_off();
	fuzz_turns(2);
}

static void end(void)
{
	fuzz_turns(1);
	check_sums();
	ferry_dispatcher_free(all.dispatcher);
	FUZZ_CHECK(all.outcomes == all.handed_off);
	for (unsigned int i = 0; i < all.handed_off; i++) {
		FUZZ_CHECK(all.outcomes_of[i] == 1);
		close(all.copies[i]);
	}
	for (unsigned int i = 0; i < WORKERS; i++)
		close_peer(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};

	if (size > FUZZ_INPUT_MAX)
		return 0;
	fuzz_begin();
	begin(fuzz_byte(&input));
	while (input.left > 0)
		step(&input);
	end();
	fuzz_end();
	return 0;
}
