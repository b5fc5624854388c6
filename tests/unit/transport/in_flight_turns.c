/* The limit of descriptors in flight: transports that wait for it all go on, whatever the others do. The clock stands
 * still but for these tests. */

#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "links.h"
#include "recorder.h"
#include "set_clock.h"
#include "test.h"
#include "wire.h"

enum { LINKS = 12, MESSAGES = 100, MSEC = 1000, MSEC_MAX = 1000000 };

static void queue_messages(struct link *link)
{
	for (int i = 0; i < MESSAGES; i++) {
		ck_assert_int_eq(ferry_transport_send_fd(link->near.transport, STDIN_FILENO, FERRY_FD_DUP),
		                 0);
		ck_assert_int_eq(ferry_transport_write(link->near.transport, "n", 1), 0);
	}
}

/* The peers read all there is. Returns the count of messages. */
static unsigned int receive_all(void)
{
	unsigned int count = 0;

	for (int i = 0; i < LINKS; i++) {
		struct wire_read got;
		char byte;
		while (wire_receive(links[i].far, &byte, 1, &got), got.bytes == 1) {
			wire_close_fds(&got);
			links[i].received++;
			count++;
			if (links[i].answers)
				ck_assert_int_eq(write(links[i].far, "a", 1), 1);
		}
	}
	return count;
}

static void pump_and_receive(void)
{
	do
		pump_turns(3);
	while (receive_all() > 0);
}

/* _i: no peer answers; every second one does, and thereby causes a try at once */
LOOP_TEST(those_that_wait_take_turns, 2)
{
	unsigned int total = 0, least = UINT_MAX;

	open_limited_links(LINKS, 2);
	for (int i = 0; i < LINKS; i++) {
		links[i].answers = _i == 1 && i % 2 == 1;
		queue_messages(&links[i]);
	}
	for (int msec = 0; total < LINKS * MESSAGES / 2; msec++) {
		ck_assert_int_lt(msec, MSEC_MAX);
		clock_advance(MSEC);
		pump_and_receive();
		total = 0;
		for (int i = 0; i < LINKS; i++)
			total += links[i].received;
	}
	for (int i = 0; i < LINKS; i++)
		least = links[i].received < least ? links[i].received : least;
	ck_assert_uint_ge(least, MESSAGES / 4);
	close_links();
}
