/* The program pauses, resumes and stops files at every byte. */

#include <errno.h>

#include "file_link.h"
#include "file_script.h"
#include "test.h"

/* One byte a wake-up. */
static const int byte_by_byte[] = {1, -EAGAIN};

/* The ways a file can leave, each byte by byte. */
enum { BY_SENDFILE, JOINED, COPIED, WAYS };

static void send_byte_by_byte(int way)
{
	play_file_script(way == BY_SENDFILE ? &by_sendfile : &by_write, byte_by_byte, 2, true);
	if (way == JOINED)
		send_text("<");
	unsigned int copy = way == COPIED ? SEND_COPIED : 0;
	ck_assert_int_eq(try_send(&file, make_file(SMALL), FERRY_FD_TAKE | copy, 0, FERRY_TO_END), 0);
	send_text(">");
}

static void expect_byte_by_byte(int way, uint64_t sent)
{
	if (way == JOINED)
		expect_text("<");
	expect_range(0, sent);
	expect_text(">");
	expect_end();
	/* Paused before its first byte, a small file is not joined. */
	if (way != JOINED)
		ck_assert_int_eq(stats_of(sender.transport).sendfile_calls > 0,
		                 way == BY_SENDFILE && sent > 0);
}

static uint64_t act_at;
static bool acted;

static void pump_to_byte(uint64_t sent)
{
	/* One round of the loop; without EVLOOP_ONCE it goes on as long as anything is ready. */
	while (stats_of(sender.transport).file_bytes_sent < sent)
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	ck_assert_uint_eq(stats_of(sender.transport).file_bytes_sent, sent);
}

TEST_CASE("pause, resume, stop");

/* _i: the way, and the count of bytes after which the file is paused. */
LOOP_TEST(a_file_can_be_paused_and_resumed_at_every_byte, WAYS *(SMALL + 1))
{
	open_link(LINK_UNIX);
	int way = _i / (SMALL + 1), at = _i % (SMALL + 1);
	send_byte_by_byte(way);
	pump_to_byte((uint64_t)at);
	if (at == SMALL && file.finished > 0)
		file.producer = NULL; /* it was valid until then */

	for (int round = 0; round < 3; round++) {
		ferry_file_producer_pause(file.producer);
		ferry_file_producer_pause(file.producer);
		pump_turns(10);
		if (at < SMALL) {
			ck_assert_uint_eq(stats_of(sender.transport).file_bytes_sent, (uint64_t)at);
			ck_assert_uint_eq(file.finished, 0);
			ck_assert_uint_eq(stats_of(sender.transport).bytes_queued, 1);
		}
	}
	ferry_file_producer_resume(file.producer);
	if (file.finished == 0)
		ferry_file_producer_resume(file.producer);

	finish_stream();
	check_finished(&file, 0, SMALL);
	expect_byte_by_byte(way, SMALL);
	close_link();
}

LOOP_TEST(a_file_can_be_stopped_at_every_byte, WAYS *SMALL)
{
	open_link(LINK_UNIX);
	int way = _i / SMALL, at = _i % SMALL;
	send_byte_by_byte(way);
	pump_to_byte((uint64_t)at);
	ck_assert_uint_eq(file.finished, 0);

	file.quiet = true;
	ferry_file_producer_stop(file.producer);
	ferry_file_producer_stop(file.producer);
	file.quiet = false;

	finish_stream();
	check_finished(&file, -ECANCELED, (uint64_t)at);
	expect_byte_by_byte(way, (uint64_t)at);
	close_link();
}

LOOP_TEST(a_paused_file_can_be_stopped_and_the_stream_goes_on, LINK_KINDS)
{
	open_link(_i);
	send_text("<");
	send_range(&file, 100000, 0, FERRY_TO_END);
	send_text(">");
	ferry_file_producer_pause(file.producer);
	pump_turns(3);

	ferry_file_producer_stop(file.producer);
	ferry_file_producer_resume(file.producer);
	ferry_file_producer_pause(file.producer);

	finish_stream();
	check_finished(&file, -ECANCELED, 0);
	expect_text("<");
	expect_text(">");
	expect_end();
	close_link();
}

LOOP_TEST(a_file_behind_another_can_be_paused_and_stopped, LINK_KINDS)
{
	open_link(_i);
	struct told second = {0}, third = {0};
	send_range(&file, 50000, 0, FERRY_TO_END);
	send_range(&second, 50000, 0, FERRY_TO_END);
	send_range(&third, 50000, 0, 100);
	ferry_file_producer_pause(second.producer);
	start_collecting();
	for (int i = 0; i < 20; i++) {
		pump_turns(1);
		collect_some(65536);
	}
	check_finished(&file, 0, 50000);
	ck_assert_uint_eq(second.progress, 0);
	ck_assert_uint_eq(third.progress, 0);

	ferry_file_producer_stop(second.producer);
	finish_stream();

	check_finished(&second, -ECANCELED, 0);
	check_finished(&third, 0, 100);
	expect_range(0, 50000);
	expect_range(0, 100);
	expect_end();
	close_link();
}

static void pause_once(struct told *told)
{
	if (told->sent >= act_at && !acted) {
		acted = true;
		ferry_file_producer_pause(told->producer);
		ferry_file_producer_pause(told->producer);
	}
}

LOOP_TEST(a_file_can_be_paused_in_its_progress_callback, WAYS *(SMALL - 1))
{
	open_link(LINK_UNIX);
	int way = _i / (SMALL - 1);
	file.on_progress = pause_once;
	act_at = (uint64_t)(_i % (SMALL - 1) + 1);
	send_byte_by_byte(way);
	while (!acted)
		pump_turns(1);
	pump_turns(10);
	ck_assert_uint_eq(file.sent, act_at);
	ck_assert_uint_eq(file.finished, 0);

	ferry_file_producer_resume(file.producer);
	finish_stream();

	check_finished(&file, 0, SMALL);
	expect_byte_by_byte(way, SMALL);
	close_link();
}

static void flicker(struct told *told)
{
	ferry_file_producer_pause(told->producer);
	ferry_file_producer_resume(told->producer);
}

LOOP_TEST(pausing_and_resuming_in_every_progress_callback_changes_nothing, LINK_KINDS)
{
	open_link(_i);
	file.on_progress = flicker;
	send_range(&file, 1 << 20, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, 1 << 20);
	expect_range(0, 1 << 20);
	expect_text("trailer");
	expect_end();
	close_link();
}

static void stop_at(struct told *told)
{
	if (told->sent >= act_at) {
		ferry_file_producer_stop(told->producer);
		ferry_file_producer_stop(told->producer);
		ferry_file_producer_pause(told->producer);
		ferry_file_producer_resume(told->producer);
	}
}

LOOP_TEST(a_file_can_be_stopped_in_its_progress_callback, WAYS *(SMALL - 1))
{
	open_link(LINK_UNIX);
	int way = _i / (SMALL - 1);
	file.on_progress = stop_at;
	act_at = (uint64_t)(_i % (SMALL - 1) + 1);
	send_byte_by_byte(way);

	finish_stream();

	check_finished(&file, -ECANCELED, act_at);
	expect_byte_by_byte(way, act_at);
	close_link();
}

static void act_on_finished_file(struct told *told)
{
	/* Valid until `finished` returns. */
	ferry_file_producer_pause(told->producer);
	ferry_file_producer_resume(told->producer);
	ferry_file_producer_stop(told->producer);
}

LOOP_TEST(pausing_and_stopping_in_the_finished_callback_does_nothing, LINK_KINDS)
{
	open_link(_i);
	file.on_finished = act_on_finished_file;
	send_range(&file, 1000, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, 1000);
	expect_range(0, 1000);
	expect_text("trailer");
	expect_end();
	close_link();
}

static void set_write_timeout(int milliseconds)
{
	struct timeval timeout = {.tv_usec = milliseconds * 1000};
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL, &timeout);
}

LOOP_TEST(a_paused_file_does_not_run_into_the_write_timeout, 2 * LINK_KINDS)
{
	/* Set where no timer runs yet, or is taken back before the loop can look at it. */
	bool under_way = _i / LINK_KINDS == 1;
	open_link(_i % LINK_KINDS);
	if (!under_way)
		set_write_timeout(5);
	send_text("<");
	send_range(&file, 4 << 20, 0, FERRY_TO_END);
	send_text(">");
	if (under_way) {
		pump_turns(5);
		ck_assert_uint_gt(stats_of(sender.transport).file_bytes_sent, 0);
		set_write_timeout(5);
	}
	ferry_file_producer_pause(file.producer);

	pump_past_the_timeout();

	ck_assert_uint_eq(sender.lost, 0);
	ck_assert_uint_eq(file.finished, 0);
	ck_assert_uint_gt(stats_of(sender.transport).bytes_queued, 0);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL, NULL);
	ferry_file_producer_resume(file.producer);
	finish_stream();
	check_finished(&file, 0, 4 << 20);
	expect_text("<");
	expect_range(0, 4 << 20);
	expect_text(">");
	expect_end();
	close_link();
}

LOOP_TEST(bytes_before_a_paused_file_do_run_into_the_write_timeout, LINK_KINDS)
{
	open_link(_i);
	static char block[1 << 20];
	set_write_timeout(5);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(sender.transport, block, sizeof(block)), 0);
	send_range(&file, 1000, 0, FERRY_TO_END);
	ferry_file_producer_pause(file.producer);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -ETIMEDOUT);
	check_finished(&file, -ETIMEDOUT, 0);
	close_link();
}
