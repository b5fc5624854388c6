/* BEV_OPT_THREADSAFE: other threads write, enable, disable and free while the loop runs; and loops of
 * different threads that share nothing. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "carrier.h"

enum { THREADS = 4, PIECES = 5000 };
enum { UNLOCKED = BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS };

/* A thread writes pieces of this form. Each has the thread's number and its own, and the reader
 * checks with them that pieces arrive whole and in order. */
struct piece {
	uint32_t thread, number;
	char filling[24];
};

static struct piece make_piece(uint32_t thread, uint32_t number)
{
	struct piece piece = {.thread = thread, .number = number};
	memset(piece.filling, (int)(thread * 31 + number), sizeof(piece.filling));
	return piece;
}

struct writer {
	struct end *end;
	uint32_t thread;
	bool through_ferry;
};

static void *write_pieces(void *argument)
{
	const struct writer *writer = argument;
	for (uint32_t i = 0; i < PIECES; i++) {
		struct piece piece = make_piece(writer->thread, i);
		int status = writer->through_ferry
		                 ? ferry_transport_write(writer->end->transport, &piece, sizeof(piece))
		                 : bufferevent_write(writer->end->bev, &piece, sizeof(piece));
		if (status != 0)
			return "a write was refused";
	}
	return NULL;
}

struct reader {
	uint32_t next[THREADS];
	unsigned int pieces;
};

static void read_pieces(struct bufferevent *bev, void *argument)
{
	struct reader *reader = argument;
	struct piece piece;
	while (input_length(bev) >= sizeof(piece)) {
		ck_assert_uint_eq(bufferevent_read(bev, &piece, sizeof(piece)), sizeof(piece));
		ck_assert_uint_lt(piece.thread, THREADS);
		ck_assert_uint_eq(piece.number, reader->next[piece.thread]);
		struct piece expected = make_piece(piece.thread, piece.number);
		ck_assert_mem_eq(&piece, &expected, sizeof(piece));
		reader->next[piece.thread]++;
		reader->pieces++;
	}
}

static void join_threads(const pthread_t *threads, int count)
{
	for (int i = 0; i < count; i++) {
		void *complaint;
		ck_assert_int_eq(pthread_join(threads[i], &complaint), 0);
		ck_assert_msg(complaint == NULL, "%s", (const char *)complaint);
	}
}

static void four_threads_write(int options, bool through_ferry)
{
	struct end a, b;
	struct reader reader = {0};
	struct writer writers[THREADS];
	pthread_t threads[THREADS];
	make_ends(&a, &b, options);
	bufferevent_setcb(b.bev, read_pieces, NULL, NULL, &reader);
	bufferevent_enable(b.bev, EV_READ);

	for (uint32_t i = 0; i < THREADS; i++) {
		writers[i] = (struct writer){&a, i, through_ferry};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_pieces, &writers[i]), 0);
	}
	pump_until_count(&reader.pieces, THREADS * PIECES);
	join_threads(threads, THREADS);
	pump_turns(3);
	ck_assert_uint_eq(output_length(a.bev), 0);

	free_end(&a);
	free_end(&b);
}

CASE(writes_of_four_threads_arrive_whole_and_each_in_its_order, ON_SOCKETS)
{
	four_threads_write(BEV_OPT_THREADSAFE, false);
}

CASE(writes_of_four_threads_arrive_with_unlocked_deferred_callbacks, ON_SOCKETS)
{
	four_threads_write(UNLOCKED, false);
}

CASE(writes_of_four_threads_through_ferry_arrive, ON_FERRY_SOCKETS)
{
	four_threads_write(BEV_OPT_THREADSAFE, true);
}

static void *toggle(void *argument)
{
	struct bufferevent *bev = argument;
	for (int i = 0; i < 2000; i++) {
		short events = (short)(i % 3 == 0 ? EV_READ : EV_WRITE);
		bufferevent_disable(bev, events);
		bufferevent_setwatermark(bev, EV_WRITE, (size_t)i, 0);
		bufferevent_enable(bev, EV_READ | EV_WRITE);
	}
	return NULL;
}

static void toggled_while_data_flows(int options)
{
	struct end a, b;
	struct record at_a, at_b;
	pthread_t threads[2];
	make_ends(&a, &b, options);
	record(&at_a, a.bev);
	record(&at_b, b.bev);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_enable(b.bev, EV_READ);
	write_pattern(a.bev, 0, 3000000);
	write_pattern(b.bev, 0, 3000000);

	ck_assert_int_eq(pthread_create(&threads[0], NULL, toggle, a.bev), 0);
	ck_assert_int_eq(pthread_create(&threads[1], NULL, toggle, b.bev), 0);
	pump_until_received(&at_a, 3000000);
	pump_until_received(&at_b, 3000000);
	join_threads(threads, 2);

	free_end(&a);
	free_end(&b);
	pump_turns(3);
}

CASE(another_thread_enables_and_disables_while_data_flows, ON_SOCKETS)
{
	toggled_while_data_flows(BEV_OPT_THREADSAFE);
}

CASE(another_thread_enables_and_disables_with_unlocked_deferred_callbacks, ON_SOCKETS)
{
	toggled_while_data_flows(UNLOCKED);
}

/* A thread that frees an end as soon as the loop has run so many of its callbacks. */
struct executioner {
	struct end end;
	atomic_uint callbacks;
	unsigned int after;
	atomic_bool done;
};

static void count_callback(struct bufferevent *bev, void *argument)
{
	struct executioner *executioner = argument;
	atomic_fetch_add(&executioner->callbacks, 1);
	struct evbuffer *input = bufferevent_get_input(bev);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void keep_writing(struct bufferevent *bev, void *argument)
{
	static const char bytes[10000];
	struct executioner *executioner = argument;
	atomic_fetch_add(&executioner->callbacks, 1);
	bufferevent_write(bev, bytes, sizeof(bytes));
}

static void *execute(void *argument)
{
	struct executioner *executioner = argument;
	while (atomic_load(&executioner->callbacks) < executioner->after)
		sched_yield();
	free_end(&executioner->end);
	atomic_store(&executioner->done, true);
	return NULL;
}

static bool is_done(void *argument)
{
	struct executioner *executioner = argument;
	return atomic_load(&executioner->done);
}

static void freed_by_another_thread(int options)
{
	for (unsigned int i = 0; i < 40; i++) {
		struct executioner executioner = {.after = 1 + i};
		struct end b;
		pthread_t thread;
		make_ends(&executioner.end, &b, options);
		struct executioner other = {0};
		bufferevent_setcb(executioner.end.bev, count_callback, keep_writing, NULL, &executioner);
		bufferevent_setcb(b.bev, count_callback, keep_writing, NULL, &other);
		bufferevent_enable(executioner.end.bev, EV_READ | EV_WRITE);
		bufferevent_enable(b.bev, EV_READ | EV_WRITE);

		ck_assert_int_eq(pthread_create(&thread, NULL, execute, &executioner), 0);
		pump_until(is_done, &executioner);
		join_threads(&thread, 1);
		free_end(&b);
		pump_turns(3);
	}
}

CASE(another_thread_frees_an_end_while_data_flows, ON_SOCKETS)
{
	freed_by_another_thread(BEV_OPT_THREADSAFE);
}

/* The loops of several threads, each with one end of a connection, without locks of any kind. */
struct loop {
	int fd;
	struct event_base *base;
};

enum { ECHO_BYTES = 2000000 };

static void echo_all(struct bufferevent *bev, void *argument)
{
	(void)argument;
	bufferevent_write_buffer(bev, bufferevent_get_input(bev));
}

static void stop_loop(struct bufferevent *bev, short what, void *argument)
{
	(void)what, (void)argument;
	event_base_loopexit(bufferevent_get_base(bev), NULL);
}

static void *echo_in_a_loop_of_its_own(void *argument)
{
	struct loop *loop = argument;
	loop->base = event_base_new();
	struct bufferevent *bev = bufferevent_socket_new(loop->base, loop->fd, BEV_OPT_CLOSE_ON_FREE);
	struct ferry_transport *transport = NULL;
	if (carrier_is_ferry() && ferry_transport_new(&transport, bev) != 0)
		return "no transport";
	bufferevent_setcb(bev, echo_all, NULL, stop_loop, NULL);
	bufferevent_enable(bev, EV_READ);
	event_base_dispatch(loop->base);
	if (transport != NULL)
		ferry_transport_free(transport);
	else
		bufferevent_free(bev);
	for (int i = 0; i < 3; i++)
		event_base_loop(loop->base, EVLOOP_NONBLOCK);
	event_base_free(loop->base);
	return NULL;
}

CASE(loops_of_different_threads_share_nothing, ON_SOCKETS)
{
	enum { LOOPS = 3 };
	struct loop loops[LOOPS];
	struct end ends[LOOPS];
	struct record at[LOOPS];
	pthread_t threads[LOOPS];
	for (int i = 0; i < LOOPS; i++) {
		int fds[2];
		make_carrier_pair(fds);
		loops[i] = (struct loop){.fd = fds[1]};
		make_end_on(&ends[i], fds[0], BEV_OPT_CLOSE_ON_FREE);
		record(&at[i], ends[i].bev);
		bufferevent_enable(ends[i].bev, EV_READ);
		write_pattern(ends[i].bev, 0, ECHO_BYTES);
		ck_assert_int_eq(pthread_create(&threads[i], NULL, echo_in_a_loop_of_its_own, &loops[i]),
		                 0);
	}

	for (int i = 0; i < LOOPS; i++)
		pump_until_received(&at[i], ECHO_BYTES);
	for (int i = 0; i < LOOPS; i++)
		free_end(&ends[i]);
	pump_turns(3);
	join_threads(threads, LOOPS);
}

/* Descriptors, which only ferry has. */

struct fd_sender {
	struct end *end;
	int fd;
};

enum { FDS_EACH = 100 };

static void *send_fds(void *argument)
{
	const struct fd_sender *sender = argument;
	for (int i = 0; i < FDS_EACH; i++) {
		if (ferry_transport_send_fd(sender->end->transport, sender->fd, FERRY_FD_DUP) != 0)
			return "a descriptor was refused";
		ferry_transport_write(sender->end->transport, "x", 1);
	}
	return NULL;
}

static void count_fd(struct ferry_transport *transport, int fd, void *argument)
{
	(void)transport;
	unsigned int *count = argument;
	close(fd);
	(*count)++;
}

CASE(descriptors_of_four_threads_arrive, 1 << FERRY_UNIX)
{
	struct end a, b;
	struct fd_sender sender = {&a, STDIN_FILENO};
	unsigned int count = 0;
	pthread_t threads[THREADS];
	make_ends(&a, &b, BEV_OPT_THREADSAFE);
	ferry_transport_set_fd_cb(b.transport, count_fd, &count);
	bufferevent_enable(b.bev, EV_READ);

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, send_fds, &sender), 0);
	pump_until_count(&count, THREADS * FDS_EACH);
	join_threads(threads, THREADS);

	free_end(&a);
	free_end(&b);
}

CASE(the_events_are_the_same_with_locks, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, BEV_OPT_THREADSAFE);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 10);
	pump_until_received(&at_a, 10);
	write_pattern(a.bev, 0, 10);
	far_receive_until(&far, 10);
	pump_turns(3);
	far_close(&far);
	pump_until_event(&at_a);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "rw[reading eof]");

	free_end(&a);
}

static void free_unlocked(struct bufferevent *bev, void *argument)
{
	(void)bev;
	free_end(argument);
}

CASE(an_unlocked_deferred_callback_can_free, ON_SOCKETS)
{
	struct end a;
	struct far far;
	make_end(&a, &far, UNLOCKED);
	bufferevent_setcb(a.bev, free_unlocked, NULL, NULL, &a);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 10);
	far_receive_to_the_end(&far);
	ck_assert_ptr_null(a.bev);
	far_close(&far);
}
