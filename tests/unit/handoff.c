/* The handoff as an object: what goes in, what comes out, and that a descriptor is always somebody's. */

#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/handoff.h"

#include "support.h"
#include "wire.h"

static unsigned int readable;

static void on_readable(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	readable++;
}

START_TEST(a_connection_goes_there_and_back)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	struct bufferevent *bev = bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_readable, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(write(ends[1], "head", 4), 4);
	pump_until_count(&readable, 1);

	struct ferry_handoff *handoff;
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), 0);
	bufferevent_free(bev);
	pump_turns(2);
	size_t length;
	ck_assert_ptr_nonnull(ferry_handoff_get_bytes(handoff, &length));
	ck_assert_uint_eq(length, 4);

	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	bufferevent_setcb(bev, on_readable, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&readable, 2);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 4);
	bufferevent_free(bev);
	pump_turns(2);
	close(ends[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("handoff");
	TCase *bufferevents = support_case(suite, "bufferevents");
	tcase_add_test(bufferevents, a_connection_goes_there_and_back);
	return support_run(suite);
}
