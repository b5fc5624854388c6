/* Lines of a channel: each is one event, however its bytes arrive. */

#include <string.h>
#include <unistd.h>

#include "poll_log.h"
#include "test.h"

TEST_CASE("lines");

TEST(one_poll_returns_all_lines_that_have_arrived)
{
	open_lines();
	peer_put("one\ntwo\n\nthree\nfo");
	ck_assert_int_eq(poll_now(), 4);
	expect_events("[one][two][][three]");
	peer_put("ur\n");
	ck_assert_int_eq(poll_now(), 1);
	expect_events("[four]");
	ck_assert_int_eq(poll_now(), 0);
	close_poller();
}

TEST(one_poll_returns_all_lines_of_many_writes)
{
	open_lines();
	for (int i = 0; i < 200; i++)
		peer_put("a\nb\n");
	ck_assert_int_eq(poll_now(), 400);
	close_poller();
}

TEST(the_incomplete_last_line_comes_at_the_end)
{
	open_lines();
	peer_put("whole\nnot who");
	ck_assert_int_eq(poll_now(), 1);
	peer_put("le");
	ck_assert_int_eq(poll_now(), 0);
	close_peer();
	poll_until_events("[whole](not whole)X0");
	close_poller();
}

TEST(the_beginning_of_a_longer_line_is_an_event_and_the_rest_is_skipped)
{
	open_lines();
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\r\n", 2, 4), 0);
	peer_put("1234\r\n12345");
	ck_assert_int_eq(poll_now(), 1);
	peer_put("678");
	ck_assert_int_eq(poll_now(), 1);
	peer_put("9\r");
	ck_assert_int_eq(poll_now(), 0);
	peer_put("\nnext\r\n");
	ck_assert_int_eq(poll_now(), 1);
	expect_events("[1234]<1234>[next]");
	close_poller();
}

TEST(a_line_may_be_longer_than_the_read_limit)
{
	enum { LENGTH = 300000 };
	static char line[LENGTH];

	open_lines();
	ck_assert_int_eq(ferry_channel_set_limits(channel, 10, MIB), 0);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, LENGTH), 0);
	memset(line, 'x', sizeof(line));
	peer_put("first\n");
	for (size_t done = 0; done < LENGTH;) {
		ssize_t count = write(peer, line + done, LENGTH - done);
		if (count > 0)
			done += (size_t)count;
		ck_assert_int_ge(ferry_poller_poll(poller, &at_once, events, 1), 0);
	}
	peer_put("\n");
	ck_assert_int_eq(ferry_poller_poll(poller, &deadline, events, 1), 1);
	ck_assert_uint_eq(events[0].length, LENGTH);
	ck_assert_mem_eq(events[0].data, line, LENGTH);
	close_poller();
}

TEST(lines_and_bytes_take_turns)
{
	open_lines();
	peer_put("3\nabc4\nde");
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	expect_events("[3]");
	ck_assert_int_eq(ferry_channel_set_lines(channel, NULL, 0, 0), 0);
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	expect_events("{abc4\nde}");
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 10), 0);
	peer_put("x\n");
	ck_assert_int_eq(poll_now(), 1);
	expect_events("[x]");
	close_poller();
}

/* The lines are the same when the text arrives in random pieces and each poll has random room. */
TEST(lines_do_not_depend_on_packets_or_room)
{
	enum { LINES = 3000 };
	char text[LINES * 12], told[LINES * 12];
	size_t length = 0, sent = 0, received = 0;

	open_lines();
	for (int i = 0; i < LINES; i++) {
		for (uint32_t j = support_random_below(10); j > 0; j--)
			text[length++] = (char)('a' + support_random_below(26));
		text[length++] = '\n';
	}
	while (received < length) {
		size_t size = support_random_below(200);
		if (size > length - sent)
			size = length - sent;
		ssize_t count = write(peer, text + sent, size);
		sent += count > 0 ? (size_t)count : 0;
		int max = 1 + (int)support_random_below(30);
		int polled = ferry_poller_poll(poller, &at_once, events, max);
		ck_assert_int_ge(polled, 0);
		for (int i = 0; i < polled; i++) {
			ck_assert_int_eq(events[i].kind, FERRY_CHANNEL_LINE);
			memcpy(told + received, events[i].data, events[i].length);
			received += events[i].length;
			told[received++] = '\n';
		}
	}
	ck_assert_mem_eq(told, text, length);
	close_poller();
}
