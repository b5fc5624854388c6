/* The write timeout beside a peer that reads slowly. No socket is writable again before much of its buffer is free.
 * A stock bufferevent writes little at a time, and meets this seldom; a transport fills the socket, and looks
 * into the kernel's send queue when the timer fires.
 *
 * Timeout and peer are timers of one loop, and the peer's is always due first: however late the loop runs, the peer
 * has read between two timeouts. A process that stands still within a turn for as long as the timeout is would see it
 * reported, rightly: the peer stood still, too. */

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <event2/event.h>
#include <linux/sockios.h>

#include "carrier.h"

enum { PACE_MS = 40, TIMEOUT_MS = 200, STEPS = 20 };

static const struct timeval pace = {.tv_usec = PACE_MS * 1000};
static const struct timeval timeout = {.tv_usec = TIMEOUT_MS * 1000};

static struct end near;
static struct far far;
static struct record at_near;
static unsigned int steps;

static int kernel_queue(void)
{
	int length = 0;
	unsigned long request = carrier == FERRY_PIPES ? FIONREAD : SIOCOUTQ;

	ck_assert_int_eq(ioctl(writing_fd(&near), request, &length), 0);
	return length;
}

static bool is_writable(void)
{
	return poll(&(struct pollfd){.fd = writing_fd(&near), .events = POLLOUT}, 1, 0) == 1;
}

/* TCP's window opens by acknowledgements, which take their way. */
static void read_some(void)
{
	char bytes[512];

	ck_assert_int_eq(poll(&(struct pollfd){.fd = far.in, .events = POLLIN}, 1, 20000), 1);
	ck_assert_int_gt(read(far.in, bytes, sizeof(bytes)), 0);
}

/* Reads the least that the writer's kernel shows. */
static void read_a_little(evutil_socket_t fd, short what, void *argument)
{
	int before = kernel_queue();

	(void)fd, (void)what, (void)argument;
	ck_assert_uint_eq(at_near.events, 0);
	while (kernel_queue() == before)
		read_some();
	steps++;
}

CASE(a_write_timeout_comes_only_after_a_slow_reader_has_stopped, ON_FERRY)
{
	make_end(&near, &far, 0);
	record(&at_near, near.bev);
	fill(&near, 1000000);
	forget(&at_near);
	struct event *reader = event_new(base, -1, EV_PERSIST, read_a_little, NULL);
	steps = 0;
	ck_assert_int_eq(event_add(reader, &pace), 0);
	bufferevent_set_timeouts(near.bev, NULL, &timeout);

	pump_until_count(&steps, STEPS);
	ck_assert_uint_eq(at_near.events, 0);
	ck_assert_uint_gt(output_length(near.bev), 0);
	event_free(reader);
	pump_until_event(&at_near);

	ck_assert_int_eq(at_near.what, BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT);
	ck_assert_int_eq(bufferevent_get_enabled(near.bev), 0);
	free_end(&near);
	far_close(&far);
}

static bool is_renewed(void *argument)
{
	const struct timeval *before = argument;
	struct timeval now;

	return deadline(near.bev, EV_WRITE, &now) && evutil_timercmp(&now, before, >);
}

CASE(a_slow_reader_renews_the_write_timeout_of_stock, ON_STOCK)
{
	make_end(&near, &far, 0);
	bufferevent_set_timeouts(near.bev, NULL, &never);
	fill(&near, 1000000);

	for (steps = 0; steps < STEPS; steps++) {
		struct timeval before;
		ck_assert(deadline(near.bev, EV_WRITE, &before));
		pump_past(1);
		while (!is_writable())
			read_some();
		pump_until(is_renewed, &before);
	}

	ck_assert_uint_gt(output_length(near.bev), 0);
	free_end(&near);
	far_close(&far);
}
