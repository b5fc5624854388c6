/* A read ends at descriptors. A message with descriptors that comes alone costs one read, not two; of many, all are
 * read. */

#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { MESSAGES = 80 };

static int ends[2];
static struct recorder recorder;

static void send_message(unsigned int number)
{
	int fd = STDERR_FILENO;

	ck_assert_int_eq(wire_send(ends[1], "x", 1, &fd, 1), 1);
	if (number % 2 == 1) /* bytes behind it, in a message of their own */
		ck_assert_int_eq(wire_send(ends[1], "y", 1, NULL, 0), 1);
}

static void open_recorder(void)
{
	make_pair(PAIR_UNIX, ends);
	recorder = (struct recorder){.close_fds = true};
	recorder_open(&recorder, ends[0], &recorder_protocol);
	pump_turns(2);
}

static void close_recorder(void)
{
	recorder_close(&recorder);
	close(ends[1]);
}

TEST(a_message_alone_costs_one_read)
{
	open_recorder();
	uint64_t before = stats_of(recorder.transport).receive_calls;
	for (unsigned int i = 0; i < MESSAGES; i++) {
		send_message(0);
		pump_until_fds(&recorder, i + 1);
	}
	uint64_t calls = stats_of(recorder.transport).receive_calls - before;
	ck_assert_uint_ge(calls, MESSAGES);
	ck_assert_uint_le(calls, MESSAGES + MESSAGES / 8 + 1); /* now and then it looks */
	close_recorder();
}

/* Also after it has learnt that messages come alone. */
TEST(of_many_messages_all_are_read)
{
	open_recorder();
	for (unsigned int i = 0; i < MESSAGES; i++) {
		send_message(0);
		pump_until_fds(&recorder, i + 1);
	}
	for (unsigned int i = 0; i < MESSAGES; i++)
		send_message(i);
	pump_until_fds(&recorder, 2 * MESSAGES);
	pump_until_length(&recorder, 2 * MESSAGES + MESSAGES / 2);
	close_recorder();
}

TEST(the_end_behind_a_message_is_seen)
{
	open_recorder();
	for (unsigned int i = 0; i < MESSAGES; i++) {
		send_message(0);
		pump_until_fds(&recorder, i + 1);
	}
	send_message(1);
	close(ends[1]);
	pump_until_lost(&recorder);
	ck_assert_uint_eq(recorder.fd_count, MESSAGES + 1);
	ck_assert_uint_eq(recorder_length(&recorder), MESSAGES + 2);
	recorder_close(&recorder);
}
