/* ferry tries again after some errors of sendfile(2); other errors end the file, and others the connection. */

#include <errno.h>
#include <unistd.h>

#include "file_link.h"
#include "file_script.h"
#include "test.h"

static const int interrupted[] = {-EINTR, 100, -EINTR, -EINTR, 200};
static const int full[] = {-EAGAIN, 100, -EAGAIN, 50};
static const int one_byte[] = {1};
static const int no_buffers[] = {-ENOBUFS, 100, -ENOBUFS, 200};
static const int no_memory[] = {-ENOMEM, -ENOMEM, 100};

static const struct {
	const int *steps;
	size_t count;
	bool repeat;
	unsigned int retries;
} recoveries[] = {
    {interrupted, 5, true, 0}, {full, 4, true, 0},       {one_byte, 1, true, 0},
    {no_buffers, 4, false, 2}, {no_memory, 3, false, 2},
};

/* Too large to be joined with its header. */
enum { LARGE = 20000 };

enum { RECOVERIES = sizeof(recoveries) / sizeof(recoveries[0]) };

LOOP_TEST(after_a_passing_error_the_file_arrives_whole, LINK_KINDS *RECOVERIES)
{
	open_link(_i / RECOVERIES);
	int i = _i % RECOVERIES;
	play_file_script(&by_sendfile, recoveries[i].steps, recoveries[i].count, recoveries[i].repeat);
	send_text("header");
	send_range(&file, LARGE, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, LARGE);
	ck_assert_uint_eq(stats_of(sender.transport).send_retries, recoveries[i].retries);
	expect_text("header");
	expect_range(0, LARGE);
	expect_text("trailer");
	expect_end();
	close_link();
}

/* Not one that copying may get over. */
static const int error_first[] = {-ESTALE};
static const int error_later[] = {100, -ESTALE};

LOOP_TEST(an_error_of_the_file_finishes_it_and_the_stream_goes_on, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	bool later = _i / LINK_KINDS == 1;
	play_file_script(&by_sendfile, later ? error_later : error_first, later ? 2 : 1, false);
	send_text("header");
	send_range(&file, LARGE, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, -ESTALE, later ? 100 : 0);
	expect_text("header");
	expect_range(0, later ? 100 : 0);
	expect_text("trailer");
	expect_end();
	close_link();
}

static const int broken[] = {100, -EPIPE};
static const int reset[] = {100, -ECONNRESET};

LOOP_TEST(an_error_of_the_connection_ends_it, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	bool pipe = _i / LINK_KINDS == 0;
	play_file_script(&by_sendfile, pipe ? broken : reset, 2, false);
	send_range(&file, 3000, 0, FERRY_TO_END);
	send_text("trailer");

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, pipe ? -EPIPE : -ECONNRESET);
	check_finished(&file, sender.reason, 100);
	close_link();
}

TEST(starved_of_memory_a_paused_file_stays_paused)
{
	open_link(LINK_UNIX);
	static const int starved[] = {-ENOMEM};
	play_file_script(&by_sendfile, starved, 1, true);
	send_range(&file, 3000, 0, FERRY_TO_END);
	send_text("trailer");
	while (stats_of(sender.transport).send_retries == 0)
		pump_turns(1);
	ferry_file_producer_pause(file.producer);
	play_file_script(&by_sendfile, NULL, 0, false);
	pump_past_the_timeout();
	ck_assert_uint_eq(stats_of(sender.transport).file_bytes_sent, 0);

	ferry_file_producer_resume(file.producer);
	finish_stream();

	check_finished(&file, 0, 3000);
	expect_range(0, 3000);
	expect_text("trailer");
	expect_end();
	close_link();
}

LOOP_TEST(starved_of_memory_the_transport_may_be_freed, LINK_KINDS)
{
	open_link(_i);
	static const int starved[] = {-ENOMEM};
	play_file_script(&by_sendfile, starved, 1, true);
	send_range(&file, 3000, 0, FERRY_TO_END);
	while (stats_of(sender.transport).send_retries == 0)
		pump_turns(1);

	recorder_free_transport(&sender);
	pump_past_the_timeout();

	check_finished(&file, -ECANCELED, 0);
	close_link();
}
