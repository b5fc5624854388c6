/* Takeovers of listening sockets, both ends in this process: committed, or withdrawn by either end. */

#include "soak.h"

#include <errno.h>

#include "ferry/ferry.h"
#include "listening.h"
#include "takeover_pair.h"

enum { SOCKETS = 4 };

static bool runs, committed, old_withdraws;

static void on_received(struct takeover_end *end)
{
	ck_assert_uint_eq(ferry_socket_set_count(end->set), SOCKETS);
	committed = !old_withdraws && !one_in(4);
	if (committed)
		commit_takeover(end);
	else if (!old_withdraws)
		free_takeover(end);
}

static void begin(void)
{
	open_set();
	runs = true;
	old_withdraws = one_in(6);
	new_end.on_received = on_received;
	make_pair(PAIR_UNIX, takeover_fds);
	serve_on(&old_end, old_set, takeover_fds[0]);
	request_on(&new_end, takeover_fds[1], NULL, 0);
}

static void expect_reachable(const struct ferry_socket_set *set)
{
	ck_assert_uint_eq(ferry_socket_set_count(set), SOCKETS);
	for (size_t i = 0; i < SOCKETS; i++)
		ck_assert(is_reachable(ferry_socket_set_get_fd(set, i)));
}

static bool is_over(void)
{
	return (old_end.takeover == NULL || old_end.ended == 1) &&
	       (new_end.takeover == NULL || new_end.ended == 1);
}

static void finish(void)
{
	if (committed) {
		ck_assert_int_eq(old_end.status, 0);
		ck_assert_int_eq(new_end.status, 0);
		ck_assert_uint_eq(ferry_socket_set_count(old_set), 0);
		expect_reachable(new_end.set);
		soak_totals.takeovers++;
	} else {
		ck_assert_int_le(old_end.status, 0);
		ck_assert(old_end.takeover == NULL || old_end.status < 0);
		ck_assert(new_end.takeover == NULL || new_end.status == -ECANCELED);
		expect_reachable(old_set);
		soak_totals.withdrawn++;
	}
	soak_totals.descriptors += new_end.received * SOCKETS;
	close_all();
	ck_assert(!path_exists(socket_path)); /* the owner has removed it */
	runs = false;
	committed = false;
}

static void step(void)
{
	if (!runs)
		begin();
	else if (is_over())
		finish();
	else if (old_withdraws && old_end.takeover != NULL && one_in(2))
		free_takeover(&old_end);
}

static bool has_ended(void *argument)
{
	(void)argument;
	if (old_withdraws && old_end.takeover != NULL && new_end.received > 0)
		free_takeover(&old_end);
	return is_over();
}

static void rest(void)
{
	if (!runs)
		return;
	pump_until(has_ended, NULL);
	finish();
}

static void close_part(void)
{
	rest();
	remove_directory();
}

const struct soak_part soak_takeovers = {"takeovers", 10, make_directory, step, rest, close_part};
