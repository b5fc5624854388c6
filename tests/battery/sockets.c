/* bufferevent_setfd(): the stream moves to another socket. It puts libevent's own I/O steps back,
 * which ferry has to notice. */

#include <unistd.h>

#include "carrier.h"

/* A second connection to move to. */
static int another(struct far *far)
{
	int fds[2];
	make_carrier_pair(fds);
	*far = (struct far){.in = fds[1], .out = fds[1]};
	return fds[0];
}

CASE(the_stream_moves_to_another_socket, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	write_pattern(a.bev, 0, 100);
	far_receive_until(&first, 100);
	far_send(&first, 100);
	pump_until_received(&at_a, 100);
	pump_turns(3);
	forget(&at_a);

	int old = bufferevent_getfd(a.bev), new = another(&second);
	ck_assert_int_eq(bufferevent_setfd(a.bev, new), 0);
	ck_assert_int_eq(bufferevent_getfd(a.bev), new);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_READ | EV_WRITE);
	pump_turns(3);
	/* bufferevent_setfd() enables the events again that were enabled. */
	ck_assert_str_eq(at_a.log, "w");
	second.received = 100;
	second.sent = 100;
	write_pattern(a.bev, 100, 100000);
	far_receive_until(&second, 100100);
	far_send(&second, 50000);
	pump_until_received(&at_a, 50100);
	ck_assert_uint_eq(at_a.events, 0);

	/* The old socket is the caller's. */
	ck_assert(fd_is_open(old));
	close(old);
	far_close(&first);
	pump_turns(3);
	ck_assert_uint_eq(at_a.events, 0);
	free_end(&a);
	far_close(&second);
}

CASE(pending_output_goes_to_the_new_socket, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	shrink_buffers(&a, &first);
	record(&at_a, a.bev);
	uint64_t written = fill(&a, 100000);
	int old = bufferevent_getfd(a.bev);
	size_t left = output_length(a.bev);

	bufferevent_setfd(a.bev, another(&second));
	second.received = written - left;
	far_receive_until(&second, written);

	close(old);
	free_end(&a);
	far_close(&first);
	far_close(&second);
}

CASE(bytes_in_the_input_stay, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	record(&at_a, a.bev);
	bufferevent_setwatermark(a.bev, EV_READ, 20, 0);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&first, 10);
	pump_until_input(a.bev, 10);
	int old = bufferevent_getfd(a.bev);

	bufferevent_setfd(a.bev, another(&second));
	second.sent = 10;
	far_send(&second, 10);
	pump_until_received(&at_a, 20);

	close(old);
	free_end(&a);
	far_close(&first);
	far_close(&second);
}

CASE(after_the_end_of_one_socket_another_goes_on, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	far_close(&first);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading eof]");
	forget(&at_a);
	int old = bufferevent_getfd(a.bev);

	bufferevent_setfd(a.bev, another(&second));
	bufferevent_enable(a.bev, EV_READ);
	close(old);
	far_send(&second, 100);
	write_pattern(a.bev, 0, 100);
	pump_until_received(&at_a, 100);
	far_receive_until(&second, 100);
	far_close(&second);
	pump_until_event(&at_a);
	ck_assert_int_eq(at_a.what, BEV_EVENT_READING | BEV_EVENT_EOF);

	free_end(&a);
}

CASE(after_a_broken_pipe_another_socket_takes_the_unsent_bytes, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	record(&at_a, a.bev);
	far_close(&first);
	uint64_t written = 0;
	while (at_a.events == 0) {
		write_pattern(a.bev, written, 100);
		written += 100;
		pump_past(1);
	}
	ck_assert_int_eq(at_a.what, BEV_EVENT_WRITING | BEV_EVENT_ERROR);
	size_t left = output_length(a.bev);
	int old = bufferevent_getfd(a.bev);

	bufferevent_setfd(a.bev, another(&second));
	bufferevent_enable(a.bev, EV_WRITE);
	second.received = written - left;
	far_receive_until(&second, written);

	close(old);
	free_end(&a);
	far_close(&second);
}

CASE(without_a_socket_the_stream_waits, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	int old = bufferevent_getfd(a.bev);

	ck_assert_int_eq(bufferevent_setfd(a.bev, -1), 0);
	ck_assert_int_eq(bufferevent_getfd(a.bev), -1);
	pump_turns(3);
	far_send(&first, 10);
	far_close(&first);
	close(old);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "");
	bufferevent_setfd(a.bev, another(&second));
	far_send(&second, 10);
	pump_until_received(&at_a, 10);
	write_pattern(a.bev, 0, 10);
	far_receive_until(&second, 10);
	ck_assert_uint_eq(at_a.events, 0);

	free_end(&a);
	far_close(&second);
}

struct mover {
	struct record record;
	int next;
};

static void move_on(struct bufferevent *bev, void *argument)
{
	struct mover *mover = argument;
	record_read(bev, &mover->record);
	if (mover->next < 0)
		return;
	int old = bufferevent_getfd(bev);
	bufferevent_setfd(bev, mover->next);
	mover->next = -1;
	close(old);
}

CASE(the_stream_moves_inside_the_read_callback, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct mover mover = {.next = -1};
	make_end(&a, &first, 0);
	mover.record.bev = a.bev;
	bufferevent_setcb(a.bev, move_on, NULL, NULL, &mover);
	bufferevent_enable(a.bev, EV_READ);
	mover.next = another(&second);

	far_send(&first, 10);
	pump_until_received(&mover.record, 10);
	second.sent = 10;
	far_send(&second, 1000);
	pump_until_received(&mover.record, 1010);
	write_pattern(a.bev, 0, 1000);
	far_receive_until(&second, 1000);

	free_end(&a);
	far_close(&first);
	far_close(&second);
}

CASE(timeouts_and_marks_stay_with_the_stream, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	record(&at_a, a.bev);
	bufferevent_setwatermark(a.bev, EV_READ, 10, 0);
	bufferevent_set_timeouts(a.bev, &soon, NULL);
	int old = bufferevent_getfd(a.bev);

	bufferevent_setfd(a.bev, another(&second));
	close(old);
	far_send(&second, 5);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_uint_eq(at_a.reads, 0);
	ck_assert_int_eq(at_a.what, BEV_EVENT_READING | BEV_EVENT_TIMEOUT);

	free_end(&a);
	far_close(&first);
	far_close(&second);
}

/* The same when ferry has noticed before the loop runs. */
CASE(a_new_socket_is_one_write_callback_also_when_it_was_noticed_at_once, ON_SOCKETS)
{
	struct end a;
	struct far first, second;
	struct record at_a;
	make_end(&a, &first, 0);
	record(&at_a, a.bev);
	int old = bufferevent_getfd(a.bev);

	bufferevent_setfd(a.bev, another(&second));
	if (a.transport != NULL)
		ck_assert_int_eq(ferry_transport_set_fd_cb(a.transport, NULL, NULL), 0);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "w");

	close(old);
	free_end(&a);
	far_close(&first);
	far_close(&second);
}

/* Descriptors, which only ferry has. */

static void keep_fd(struct ferry_transport *transport, int fd, void *argument)
{
	(void)transport;
	int *kept = argument;
	ck_assert_int_eq(*kept, -1);
	*kept = fd;
}

static bool has_fd(void *kept)
{
	return *(int *)kept >= 0;
}

static void descriptors_flow_on_the_new_socket(struct end *a, int fds[2])
{
	struct end b;
	int kept = -1, pipe_ends[2];
	make_end_on(&b, fds[1], BEV_OPT_CLOSE_ON_FREE);
	make_pipe(pipe_ends);
	ck_assert_int_eq(ferry_transport_set_fd_cb(a->transport, keep_fd, &kept), 0);
	ck_assert_int_eq(ferry_transport_set_fd_cb(b.transport, keep_fd, &kept), 0);
	bufferevent_enable(a->bev, EV_READ);
	bufferevent_enable(b.bev, EV_READ);

	ck_assert_int_eq(ferry_transport_send_fd(b.transport, pipe_ends[0], FERRY_FD_DUP), 0);
	bufferevent_write(b.bev, "x", 1);
	pump_until(has_fd, &kept);
	ck_assert(same_file(kept, pipe_ends[0]));
	close(kept);
	kept = -1;
	ck_assert_int_eq(ferry_transport_send_fd(a->transport, pipe_ends[1], FERRY_FD_DUP), 0);
	bufferevent_write(a->bev, "x", 1);
	pump_until(has_fd, &kept);
	ck_assert(same_file(kept, pipe_ends[1]));
	close(kept);

	close(pipe_ends[0]);
	close(pipe_ends[1]);
	free_end(&b);
}

CASE(descriptors_flow_on_a_socket_set_behind_ferrys_back_from_the_next_call_on, 1 << FERRY_UNIX)
{
	struct end a;
	struct far first;
	int fds[2];
	make_end(&a, &first, 0);
	int old = bufferevent_getfd(a.bev);
	make_carrier_pair(fds);

	bufferevent_setfd(a.bev, fds[0]);
	descriptors_flow_on_the_new_socket(&a, fds);

	close(old);
	free_end(&a);
	far_close(&first);
}

/* bufferevent_setfd() installs libevent's own read callback, which loses descriptors that come with
 * the first byte. ferry's read callback is back at the next write, without a call of ferry's
 * interface in between. */
CASE(descriptors_flow_on_a_socket_set_behind_ferrys_back_from_the_next_write_on, 1 << FERRY_UNIX)
{
	struct end a, b;
	struct far first;
	int fds[2], kept = -1;
	make_end(&a, &first, 0);
	int old = bufferevent_getfd(a.bev);
	make_carrier_pair(fds);
	make_end_on(&b, fds[1], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_set_fd_cb(a.transport, keep_fd, &kept), 0);
	bufferevent_enable(a.bev, EV_READ);

	bufferevent_setfd(a.bev, fds[0]);
	bufferevent_write(a.bev, "x", 1);
	ck_assert_int_eq(ferry_transport_send_fd(b.transport, STDIN_FILENO, FERRY_FD_DUP), 0);
	bufferevent_write(b.bev, "x", 1);
	pump_until(has_fd, &kept);
	ck_assert(same_file(kept, STDIN_FILENO));

	close(kept);
	close(old);
	free_end(&a);
	free_end(&b);
	far_close(&first);
}

CASE(descriptors_flow_on_a_socket_that_ferry_was_given, 1 << FERRY_UNIX)
{
	struct end a;
	struct far first;
	int fds[2];
	make_end(&a, &first, 0);
	int old = bufferevent_getfd(a.bev);
	make_carrier_pair(fds);

	ck_assert_int_eq(ferry_transport_set_socket(a.transport, fds[0]), 0);
	ck_assert_int_eq(bufferevent_getfd(a.bev), fds[0]);
	descriptors_flow_on_the_new_socket(&a, fds);

	close(old);
	free_end(&a);
	far_close(&first);
}

CASE(no_descriptor_is_lost_on_a_socket_that_ferry_was_given, 1 << FERRY_UNIX)
{
	struct end a, b;
	struct far first;
	int fds[2], kept = -1;
	make_end(&a, &first, 0);
	int old = bufferevent_getfd(a.bev);
	make_carrier_pair(fds);
	make_end_on(&b, fds[1], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_set_fd_cb(a.transport, keep_fd, &kept), 0);
	bufferevent_enable(a.bev, EV_READ);
	ck_assert_int_eq(ferry_transport_send_fd(b.transport, STDIN_FILENO, FERRY_FD_DUP), 0);
	bufferevent_write(b.bev, "x", 1);
	pump_turns(3);

	ck_assert_int_eq(ferry_transport_set_socket(a.transport, fds[0]), 0);
	pump_until(has_fd, &kept);
	ck_assert(same_file(kept, STDIN_FILENO));

	close(kept);
	close(old);
	free_end(&a);
	free_end(&b);
	far_close(&first);
}
