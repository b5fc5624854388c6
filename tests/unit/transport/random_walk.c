/* Calls in an order that the seed decides, from the loop's outside and from inside callbacks, on
 * both ends of a connection. No walk may break the rules of every connection: callbacks in order
 * and none after the end, every file finished once, bytes and descriptors in order and none twice,
 * nothing leaked or closed twice. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "closes.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { LINK_UNIX, LINK_TCP, LINK_PIPES, LINK_KINDS };
enum { STEPS = 300, MAX_FILES = 400, MAX_FDS = 2000 };

struct walker;

struct walk_file {
	struct walker *walker;
	struct ferry_file_producer *producer; /* NULL once finished */
	uint64_t start;                       /* in the stream */
	unsigned int finished;
};

/* One end. */
struct walker {
	struct recorder recorder;
	struct walker *other;
	uint64_t written;  /* bytes accepted, those of files included */
	uint64_t certain;  /* up to here the stream is known: no file was cut short */
	uint64_t read;     /* bytes that the other end sent and this one got */
	uint32_t fds_sent; /* accepted */
	uint32_t fds_got;
	uint64_t marks[MAX_FDS]; /* the byte that each descriptor travels with */
	struct walk_file files[MAX_FILES];
	unsigned int file_count;
	unsigned int depth; /* of calls from inside callbacks */
	bool closing;       /* and so not reading */
};

static struct walker ends[2];
static bool outside; /* of the loop: no protocol callback may run */

/* ---- checks inside the callbacks ---- */

static void cut_certainty(struct walker *walker, uint64_t position)
{
	if (position < walker->certain)
		walker->certain = position;
}

static void on_progress(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
                        void *context)
{
	struct walk_file *file = context;
	ck_assert_ptr_eq(producer, file->producer);
	ck_assert_uint_le(sent, total);
	ck_assert_uint_eq(file->finished, 0);
}

static void on_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	struct walk_file *file = context;
	ck_assert_ptr_eq(producer, file->producer);
	ck_assert(!outside);
	file->producer = NULL;
	file->finished++;
	ck_assert_uint_eq(file->finished, 1);
	if (status != 0)
		cut_certainty(file->walker, file->start + sent);
}

static const struct ferry_file_callbacks file_callbacks = {.progress = on_progress,
                                                           .finished = on_finished};

static void check_bytes(struct walker *walker)
{
	static unsigned char block[65536];
	int n;
	while ((n = evbuffer_remove(walker->recorder.received, block, sizeof(block))) > 0) {
		for (int i = 0; i < n; i++, walker->read++)
			if (walker->read < walker->other->certain && block[i] != support_byte(walker->read))
				ck_abort_msg("another byte at %llu", (unsigned long long)walker->read);
	}
	ck_assert_uint_le(walker->read, walker->other->written);
}

static void check_fd(struct walker *walker)
{
	struct recorder *recorder = &walker->recorder;
	int fd = recorder->fds[recorder->fd_count - 1];
	ck_assert_uint_lt(walker->fds_got, walker->other->fds_sent);
	ck_assert_uint_eq(marked_number(fd), walker->fds_got);
	if (walker->other->marks[walker->fds_got] < walker->other->certain)
		ck_assert_uint_le(walker->read, walker->other->marks[walker->fds_got]);
	walker->fds_got++;
	close(fd);
	recorder->fd_count--;
}

static void step(struct walker *walker);

static void on_event(struct recorder *recorder, char event)
{
	struct walker *walker = recorder->argument;
	ck_assert(!outside);
	if (event == EVENT_DATA)
		check_bytes(walker);
	if (event == EVENT_FD)
		check_fd(walker);
	if (walker->depth == 0 && support_random_below(6) == 0) {
		walker->depth++;
		step(support_random_below(2) == 0 ? walker : walker->other);
		walker->depth--;
	}
}

/* ---- the producer ---- */

static void produce(void *context)
{
	struct walker *walker = context;
	ck_assert_uint_eq(walker->recorder.lost, 0);
}

static const struct ferry_producer_callbacks producer = {.resume_producing = produce,
                                                         .pause_producing = produce};

/* ---- the steps ---- */

static void write_some(struct walker *walker)
{
	static unsigned char block[100000];
	size_t length = support_random_below(10) == 0 ? sizeof(block) : 1 + support_random_below(3000);
	for (size_t i = 0; i < length; i++)
		block[i] = support_byte(walker->written + i);
	int status = ferry_transport_write(walker->recorder.transport, block, length);
	ck_assert(status == 0 || status == -EPIPE);
	if (status == 0)
		walker->written += length;
}

static void send_fd(struct walker *walker)
{
	if (walker->fds_sent == MAX_FDS)
		return;
	bool take = support_random_below(2) == 0;
	int fd = make_marked_fd(walker->fds_sent);
	int status = ferry_transport_send_fd(walker->recorder.transport, fd,
	                                     take ? FERRY_FD_TAKE : FERRY_FD_DUP);
	ck_assert(status == 0 || status == -EPIPE || status == -ENOBUFS || status == -EOPNOTSUPP);
	if (status == 0)
		walker->marks[walker->fds_sent++] = walker->written;
	if (status != 0 || !take)
		close(fd);
}

static void send_file(struct walker *walker)
{
	if (walker->file_count == MAX_FILES)
		return;
	static unsigned char block[60000];
	size_t length = support_random_below(4) == 0 ? 0 : support_random_below(sizeof(block));
	for (size_t i = 0; i < length; i++)
		block[i] = support_byte(walker->written + i);
	int fd = memfd_create("ferry-test", MFD_CLOEXEC);
	ck_assert_int_eq(write(fd, block, length), (ssize_t)length);
	struct walk_file *file = &walker->files[walker->file_count];
	*file = (struct walk_file){.walker = walker, .start = walker->written};
	bool at_position = support_random_below(2) == 0;
	if (at_position)
		lseek(fd, 0, SEEK_SET);
	int status = ferry_transport_send_file(&file->producer, walker->recorder.transport, fd,
	                                       FERRY_FD_TAKE, at_position ? FERRY_FILE_POSITION : 0,
	                                       FERRY_TO_END, 0, &file_callbacks, file);
	ck_assert(status == 0 || status == -EPIPE);
	if (status == 0) {
		walker->file_count++;
		walker->written += length;
	} else {
		close(fd);
	}
}

static void steer_file(struct walker *walker)
{
	if (walker->file_count == 0)
		return;
	struct walk_file *file = &walker->files[support_random_below(walker->file_count)];
	switch (support_random_below(5)) {
	case 0:
		ferry_file_producer_pause(file->producer);
		break;
	case 1:
		if (file->producer != NULL)
			cut_certainty(walker, file->start);
		ferry_file_producer_stop(file->producer);
		break;
	default:
		ferry_file_producer_resume(file->producer);
	}
}

static void steer_reading(struct walker *walker)
{
	int status = support_random_below(3) == 0
	                 ? ferry_transport_pause_reading(walker->recorder.transport)
	                 : ferry_transport_resume_reading(walker->recorder.transport);
	ck_assert(status == 0 || status == -ENOTCONN);
}

static void steer_producer(struct walker *walker)
{
	struct ferry_transport *transport = walker->recorder.transport;
	int status =
	    support_random_below(2) == 0
	        ? ferry_transport_unregister_producer(transport)
	        : ferry_transport_register_producer(transport, &producer, walker,
	                                            support_random_below(2) == 0 ? FERRY_PRODUCER_PUSH
	                                                                         : FERRY_PRODUCER_PULL);
	ck_assert(status == 0 || status == -ENOENT || status == -EBUSY || status == -EPIPE);
}

static void tune(struct walker *walker)
{
	struct ferry_transport *transport = walker->recorder.transport;
	unsigned int high = 1 + support_random_below(100);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(transport, high, high + 50), 0);
	ck_assert_int_eq(
	    ferry_transport_set_max_fds_per_message(transport, 1 + support_random_below(253)), 0);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(transport), EV_WRITE, 0,
	                         support_random_below(100000));
}

static void end_somehow(struct walker *walker)
{
	struct ferry_transport *transport = walker->recorder.transport;
	int status = 0;
	switch (support_random_below(12)) {
	case 0:
		status = ferry_transport_abort_connection(transport);
		break;
	case 1:
		recorder_free_transport(&walker->recorder);
		break;
	case 2:
	case 3:
		status = ferry_transport_lose_connection(transport);
		walker->closing = true;
		break;
	case 4:
		status = ferry_transport_lose_write_connection(transport);
		break;
	default:
		break;
	}
	ck_assert(status == 0 || status == -ENOTCONN);
}

static void step(struct walker *walker)
{
	if (walker->recorder.transport == NULL)
		return;
	switch (support_random_below(24)) {
	case 0:
	case 1:
		send_file(walker);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		send_fd(walker);
		break;
	case 6:
	case 7:
		steer_file(walker);
		break;
	case 8:
	case 9:
		steer_reading(walker);
		break;
	case 10:
		steer_producer(walker);
		break;
	case 11:
		tune(walker);
		break;
	case 12:
		if (support_random_below(8) == 0)
			end_somehow(walker);
		break;
	default:
		write_some(walker);
	}
}

/* ---- the walk ---- */

static void open_walker(int number, int read_fd, int write_fd)
{
	struct walker *walker = &ends[number];
	const struct ferry_protocol *protocol =
	    support_random_below(2) == 0 ? &recorder_protocol : &recorder_no_half_close;
	memset(walker, 0, sizeof(*walker));
	walker->other = &ends[1 - number];
	walker->certain = UINT64_MAX;
	if (read_fd == write_fd)
		recorder_open(&walker->recorder, read_fd, protocol);
	else
		recorder_open_pipes(&walker->recorder, read_fd, write_fd, protocol);
	walker->recorder.hook = on_event;
	walker->recorder.argument = walker;
}

static void open_walkers(int kind)
{
	int there[2], back[2];
	if (kind == LINK_PIPES) {
		make_pipe(there);
		make_pipe(back);
		open_walker(0, back[0], there[1]);
		open_walker(1, there[0], back[1]);
		return;
	}
	make_pair(kind == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, there);
	if (kind == LINK_UNIX && support_random_below(2) == 0)
		wire_shrink(there[0]);
	open_walker(0, there[0], there[0]);
	open_walker(1, there[1], there[1]);
}

static void check_end(const struct walker *walker)
{
	for (unsigned int i = 0; i < walker->file_count; i++)
		ck_assert_uint_eq(walker->files[i].finished, 1);
}

/* _i: the kind of link, and the number of the walk. */
LOOP_TEST(no_order_of_calls_breaks_a_promise, 60)
{
	for (int skip = _i; skip > 0; skip--)
		support_random(); /* each walk is another */
	open_walkers(_i % LINK_KINDS);
	for (int i = 0; i < STEPS; i++) {
		outside = true;
		step(&ends[support_random_below(2)]);
		outside = false;
		if (support_random_below(3) == 0)
			event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	/* Resume the paused files and the reading, unregister the producers, and close. */
	for (int n = 0; n < 2; n++) {
		struct walker *walker = &ends[n];
		struct ferry_transport *transport = walker->recorder.transport;
		walker->depth = 1; /* no more steps */
		for (unsigned int i = 0; i < walker->file_count; i++)
			ferry_file_producer_resume(walker->files[i].producer);
		if (transport == NULL)
			continue;
		(void)ferry_transport_unregister_producer(transport);
		(void)ferry_transport_resume_reading(transport);
		(void)ferry_transport_lose_write_connection(transport);
	}
	/* Two ends that both close and have more to send than the sockets hold wait for each other: neither
	 * reads any more. */
	if (ends[0].closing && ends[1].closing && ends[0].recorder.transport != NULL)
		(void)ferry_transport_abort_connection(ends[0].recorder.transport);
	bool both_stood = ends[0].recorder.transport != NULL && ends[1].recorder.transport != NULL;
	for (int n = 0; n < 2 && both_stood; n++)
		pump_until_lost(&ends[n].recorder);
	pump_turns(5);

	for (int n = 0; n < 2; n++) {
		recorder_close(&ends[n].recorder);
		pump_turns(3);
	}
	check_end(&ends[0]);
	check_end(&ends[1]);
	check_closes();
}
