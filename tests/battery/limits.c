/* Rate limits and the limits of one step. The ticks of the buckets are so long that no refill comes
 * during a test; libevent 2.2 takes at most INT_MAX ms. The bytes that may pass are a fixed count, which does not
 * depend on the clock. */

#include <unistd.h>

#include "carrier.h"

static const struct timeval long_tick = {.tv_sec = 2000000};

static struct ev_token_bucket_cfg *bucket(size_t read, size_t write)
{
	struct ev_token_bucket_cfg *cfg = ev_token_bucket_cfg_new(read, read, write, write, &long_tick);
	ck_assert_ptr_nonnull(cfg);
	return cfg;
}

CASE(a_rate_limit_lets_a_bucket_of_bytes_through_when_writing, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	struct ev_token_bucket_cfg *cfg = bucket(1000000, 3000);
	ck_assert_int_eq(bufferevent_set_rate_limit(a.bev, cfg), 0);
	ck_assert_int_eq(bufferevent_get_write_limit(a.bev), 3000);

	write_pattern(a.bev, 0, 10000);
	far_receive_until(&far, 3000);
	pump_turns(10);
	ck_assert_uint_eq(far_receive_now(&far), 0);
	ck_assert_uint_eq(output_length(a.bev), 7000);
	ck_assert_int_eq(bufferevent_get_write_limit(a.bev), 0);
	ck_assert_int_eq(bufferevent_get_max_to_write(a.bev), 0);
	ck_assert_str_eq(at_a.log, "");

	/* Enabling does not get past it, and neither does another write. */
	bufferevent_enable(a.bev, EV_WRITE);
	write_pattern(a.bev, 10000, 100);
	pump_turns(5);
	ck_assert_uint_eq(far_receive_now(&far), 0);

	bufferevent_set_rate_limit(a.bev, NULL);
	far_receive_until(&far, 10100);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "w");

	free_end(&a);
	far_close(&far);
	pump_turns(3);
	ev_token_bucket_cfg_free(cfg);
}

CASE(a_rate_limit_lets_a_bucket_of_bytes_through_when_reading, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	struct ev_token_bucket_cfg *cfg = bucket(3000, 1000000);
	ck_assert_int_eq(bufferevent_set_rate_limit(a.bev, cfg), 0);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 10000);
	pump_until_received(&at_a, 3000);
	pump_turns(10);
	ck_assert_uint_eq(at_a.received, 3000);
	ck_assert_int_eq(bufferevent_get_read_limit(a.bev), 0);
	bufferevent_disable(a.bev, EV_READ);
	bufferevent_enable(a.bev, EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(at_a.received, 3000);

	bufferevent_set_rate_limit(a.bev, NULL);
	pump_until_received(&at_a, 10000);

	free_end(&a);
	far_close(&far);
	pump_turns(3);
	ev_token_bucket_cfg_free(cfg);
}

CASE(a_rate_limit_counts_each_direction_by_itself, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	struct ev_token_bucket_cfg *cfg = bucket(500, 700);
	bufferevent_set_rate_limit(a.bev, cfg);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 400);
	write_pattern(a.bev, 0, 600);
	pump_until_received(&at_a, 400);
	far_receive_until(&far, 600);
	pump_turns(2);
	ck_assert_int_eq(bufferevent_get_read_limit(a.bev), 100);
	ck_assert_int_eq(bufferevent_get_write_limit(a.bev), 100);

	free_end(&a);
	far_close(&far);
	pump_turns(3);
	ev_token_bucket_cfg_free(cfg);
}

CASE(nothing_is_lost_under_a_rate_limit_that_refills, ON_ALL)
{
	struct end a, b;
	struct record at_a, at_b;
	make_ends(&a, &b, 0);
	record(&at_a, a.bev);
	record(&at_b, b.bev);
	const struct timeval tick = {.tv_usec = 2000};
	struct ev_token_bucket_cfg *cfg = ev_token_bucket_cfg_new(7000, 9000, 8000, 10000, &tick);
	bufferevent_set_rate_limit(a.bev, cfg);
	bufferevent_set_rate_limit(b.bev, cfg);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 300000);
	write_pattern(b.bev, 0, 300000);
	pump_until_received(&at_a, 300000);
	pump_until_received(&at_b, 300000);
	ck_assert_uint_eq(at_a.events + at_b.events, 0);

	free_end(&a);
	free_end(&b);
	pump_turns(3);
	ev_token_bucket_cfg_free(cfg);
}

static struct ev_token_bucket_cfg *late_limit;

static void limit_now(struct bufferevent *bev, void *argument)
{
	record_read(bev, argument);
	bufferevent_set_rate_limit(bev, late_limit);
}

CASE(a_rate_limit_set_in_a_callback_applies_from_the_next_read_on, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, limit_now, NULL, NULL, &at_a);
	bufferevent_enable(a.bev, EV_READ);
	late_limit = bucket(100, 100);
	far_send(&far, 10);
	pump_until_received(&at_a, 10);

	far_send(&far, 1000);
	pump_until_received(&at_a, 110);
	pump_turns(5);
	ck_assert_uint_eq(at_a.received, 110);

	free_end(&a);
	far_close(&far);
	pump_turns(3);
	ev_token_bucket_cfg_free(late_limit);
}

static void join(const struct end *end, struct bufferevent_rate_limit_group *group)
{
	int status;
	if (end->transport != NULL)
		status = ferry_transport_set_rate_limit_group(end->transport, group);
	else if (group != NULL)
		status = bufferevent_add_to_rate_limit_group(end->bev, group);
	else
		status = bufferevent_remove_from_rate_limit_group(end->bev);
	ck_assert_int_eq(status, 0);
}

enum { MIN_SHARE = 64 };

CASE(members_of_a_group_share_its_bucket_when_writing, ON_ALL)
{
	struct end a[2];
	struct far far[2];
	struct ev_token_bucket_cfg *cfg = bucket(1000000, 2000);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, cfg);
	for (int i = 0; i < 2; i++) {
		make_end(&a[i], &far[i], 0);
		join(&a[i], group);
		write_pattern(a[i].bev, 0, 10000);
	}

	pump_past(1);
	pump_turns(100);
	far_receive_now(&far[0]);
	far_receive_now(&far[1]);
	uint64_t total = far[0].received + far[1].received;
	ck_assert_uint_ge(total, 2000);
	ck_assert_uint_le(total, 2000 + MIN_SHARE);
	ck_assert_uint_gt(far[0].received, 0);
	ck_assert_uint_gt(far[1].received, 0);
	ck_assert_int_le(bufferevent_rate_limit_group_get_write_limit(group), 0);

	/* Out of the group, all of it flows. */
	for (int i = 0; i < 2; i++) {
		join(&a[i], NULL);
		far_receive_until(&far[i], 10000);
		free_end(&a[i]);
		far_close(&far[i]);
	}
	pump_turns(3);
	bufferevent_rate_limit_group_free(group);
	ev_token_bucket_cfg_free(cfg);
}

CASE(members_of_a_group_share_its_bucket_when_reading, ON_ALL)
{
	struct end a[2];
	struct far far[2];
	struct record at[2];
	struct ev_token_bucket_cfg *cfg = bucket(2000, 1000000);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, cfg);
	for (int i = 0; i < 2; i++) {
		make_end(&a[i], &far[i], 0);
		record(&at[i], a[i].bev);
		join(&a[i], group);
		far_send(&far[i], 10000);
		bufferevent_enable(a[i].bev, EV_READ);
	}

	pump_past(1);
	pump_turns(100);
	uint64_t total = at[0].received + at[1].received;
	ck_assert_uint_ge(total, 2000);
	ck_assert_uint_le(total, 2000 + MIN_SHARE);
	ck_assert_uint_gt(at[0].received, 0);
	ck_assert_uint_gt(at[1].received, 0);

	for (int i = 0; i < 2; i++) {
		join(&a[i], NULL);
		pump_until_received(&at[i], 10000);
		free_end(&a[i]);
		far_close(&far[i]);
	}
	pump_turns(3);
	bufferevent_rate_limit_group_free(group);
	ev_token_bucket_cfg_free(cfg);
}

CASE(a_member_that_is_freed_leaves_its_group, ON_ALL)
{
	struct end a;
	struct far far;
	struct ev_token_bucket_cfg *cfg = bucket(100, 100);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, cfg);
	make_end(&a, &far, 0);
	join(&a, group);
	write_pattern(a.bev, 0, 1000);
	pump_turns(3);

	free_end(&a);
	pump_turns(3);
	bufferevent_rate_limit_group_free(group);
	far_close(&far);
	ev_token_bucket_cfg_free(cfg);
}

CASE(a_member_with_a_limit_of_its_own_keeps_to_both, ON_ALL)
{
	struct end a;
	struct far far;
	struct ev_token_bucket_cfg *small = bucket(300, 300), *large = bucket(1000, 1000);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, large);
	make_end(&a, &far, 0);
	bufferevent_set_rate_limit(a.bev, small);
	join(&a, group);

	write_pattern(a.bev, 0, 5000);
	far_receive_until(&far, 300);
	pump_turns(5);
	ck_assert_uint_eq(far_receive_now(&far), 0);
	bufferevent_set_rate_limit(a.bev, NULL);
	far_receive_until(&far, 1000);
	pump_turns(5);
	ck_assert_uint_eq(far_receive_now(&far), 0);
	join(&a, NULL);
	far_receive_until(&far, 5000);

	free_end(&a);
	far_close(&far);
	pump_turns(3);
	bufferevent_rate_limit_group_free(group);
	ev_token_bucket_cfg_free(small);
	ev_token_bucket_cfg_free(large);
}

CASE(nothing_is_lost_in_a_group_that_refills, ON_ALL)
{
	enum { MEMBERS = 4 };
	struct end a[MEMBERS];
	struct far far[MEMBERS];
	const struct timeval tick = {.tv_usec = 2000};
	struct ev_token_bucket_cfg *cfg = ev_token_bucket_cfg_new(9000, 9000, 9000, 9000, &tick);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, cfg);
	for (int i = 0; i < MEMBERS; i++) {
		make_end(&a[i], &far[i], 0);
		join(&a[i], group);
		write_pattern(a[i].bev, 0, 50000);
	}

	for (int i = 0; i < MEMBERS; i++)
		far_receive_until(&far[i], 50000);

	for (int i = 0; i < MEMBERS; i++) {
		free_end(&a[i]);
		far_close(&far[i]);
	}
	pump_turns(3);
	bufferevent_rate_limit_group_free(group);
	ev_token_bucket_cfg_free(cfg);
}

struct longest {
	size_t added, deleted;
};

static void see_longest(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                        void *argument)
{
	(void)buffer;
	struct longest *longest = argument;
	if (info->n_added > longest->added)
		longest->added = info->n_added;
	if (info->n_deleted > longest->deleted)
		longest->deleted = info->n_deleted;
}

CASE(one_write_step_takes_at_most_max_single_write, ON_ALL)
{
	struct end a;
	struct far far;
	struct longest longest = {0};
	make_end(&a, &far, 0);
	ck_assert_int_eq(bufferevent_set_max_single_write(a.bev, 100), 0);
	ck_assert_int_eq(bufferevent_get_max_single_write(a.bev), 100);
	evbuffer_add_cb(bufferevent_get_output(a.bev), see_longest, &longest);

	write_pattern(a.bev, 0, 10000);
	far_receive_until(&far, 10000);
	ck_assert_uint_eq(longest.deleted, 100);

	free_end(&a);
	far_close(&far);
}

CASE(one_read_step_takes_at_most_max_single_read, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	struct longest longest = {0};
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	ck_assert_int_eq(bufferevent_set_max_single_read(a.bev, 100), 0);
	evbuffer_add_cb(bufferevent_get_input(a.bev), see_longest, &longest);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 10000);
	pump_until_received(&at_a, 10000);
	ck_assert_uint_eq(longest.added, 100);
	ck_assert_uint_eq(at_a.reads, 100);

	free_end(&a);
	far_close(&far);
}

static void count_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	unsigned int *turns = argument;
	(*turns)++;
}

/* A busy end does not keep the others from theirs: an event that is always ready runs at least once
 * for each of its steps. */
CASE(other_events_get_their_turn_between_the_steps, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	unsigned int turns = 0;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_set_max_single_write(a.bev, 1000);
	bufferevent_enable(b.bev, EV_READ);
	struct event *always = event_new(base, fds[0], EV_WRITE | EV_PERSIST, count_turn, &turns);
	event_add(always, NULL);

	write_pattern(a.bev, 0, 100000);
	while (at_b.received < 100000)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_ge(turns, 90);

	event_free(always);
	free_end(&a);
	free_end(&b);
	close(fds[0]);
	close(fds[1]);
}
