/* Takeovers without memory: each allocation fails in turn. After each failure the file of an owner still
 * exists, no descriptor has leaked, and `ended` has run at both ends. */

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "heap.h"
#include "heap_sweep.h"
#include "listening.h"
#include "test.h"

struct side {
	struct ferry_takeover *takeover;
	struct ferry_socket_set *set;
	unsigned int ended;
	int status;
};
static struct side old_side, new_side;
static bool call_failed;

static void on_received(struct ferry_takeover *takeover, struct ferry_socket_set *set,
                        void *context)
{
	struct side *side = context;
	side->set = set;
	if (ferry_takeover_commit(takeover) != 0) {
		call_failed = true;
		side->takeover = NULL;
		ferry_takeover_free(takeover);
	}
}

static void on_ended(struct ferry_takeover *takeover, int status, void *context)
{
	struct side *side = context;
	must(side->ended++ == 0);
	side->status = status;
	side->takeover = NULL;
	ferry_takeover_free(takeover);
}

static const struct ferry_takeover_callbacks callbacks = {.received = on_received,
                                                          .ended = on_ended};

static struct ferry_transport *make_transport_of(struct event_base *loop, int fd)
{
	struct ferry_transport *transport = NULL;
	heap_suspend();
	struct bufferevent *bev = bufferevent_socket_new(loop, fd, BEV_OPT_CLOSE_ON_FREE);
	must(ferry_transport_new(&transport, bev) == 0);
	heap_continue();
	return transport;
}

/* After a failure the caller still owns the objects. */
static void add(int fd)
{
	if (old_side.set != NULL && ferry_socket_set_add(old_side.set, "name", fd, FERRY_FD_TAKE) == 0)
		return;
	call_failed = true;
	close(fd);
}

static void fill_set(void)
{
	heap_suspend();
	int fds[3] = {listen_tcp(), listen_unix(socket_path), listen_abstract()};
	heap_continue();
	if (ferry_socket_set_new(&old_side.set) != 0)
		call_failed = true;
	for (int i = 0; i < 3; i++)
		add(fds[i]);
	if (old_side.set == NULL || ferry_socket_set_own_path(old_side.set, "name") != 0)
		call_failed = true;
}

static void start(struct event_base *loop)
{
	static const char *const names[] = {"name"};
	int ends[2];
	heap_suspend();
	make_pair(PAIR_UNIX, ends);
	heap_continue();
	struct ferry_transport *near = make_transport_of(loop, ends[0]);
	struct ferry_transport *far = make_transport_of(loop, ends[1]);
	if (ferry_takeover_serve(&old_side.takeover, old_side.set, near, &callbacks, &old_side) != 0) {
		call_failed = true;
		ferry_transport_free(near);
	}
	if (ferry_takeover_request(&new_side.takeover, far, names, 1, &callbacks, &new_side) != 0) {
		call_failed = true;
		ferry_transport_free(far);
	}
}

static void run_scenario(struct event_base *loop)
{
	old_side = new_side = (struct side){0};
	call_failed = false;
	fill_set();
	if (call_failed)
		return;
	start(loop);
	/* No recovery needs more turns of the loop. */
	for (int i = 0; i < 300 && (old_side.takeover != NULL || new_side.takeover != NULL); i++)
		event_base_loop(loop, EVLOOP_ONCE);
}

static void judge(unsigned long failing)
{
	if (failing == 0) {
		ck_assert(!call_failed);
		ck_assert_int_eq(old_side.status, 0);
		ck_assert_int_eq(new_side.status, 0);
		ck_assert_uint_eq(old_side.ended + new_side.ended, 2);
	}
	ck_assert_msg(old_side.takeover == NULL && new_side.takeover == NULL,
	              "allocation %lu: an end is not told: %d, %d", failing, old_side.ended,
	              new_side.ended);
	bool is_new_owner = new_side.ended == 1 && new_side.status == 0;
	ferry_socket_set_free(old_side.set);
	ck_assert_msg(!is_new_owner || path_exists(socket_path),
	              "allocation %lu: the file is removed from under its owner", failing);
	ferry_socket_set_free(new_side.set);
	ck_assert_msg(!is_new_owner || !path_exists(socket_path), "allocation %lu: the file stays",
	              failing);
	unlink(socket_path);
}

TEST_CASE("memory", make_directory, remove_directory);

TEST(every_allocation_may_fail)
{
	sweep_scenario(run_scenario, judge, 20);
}

BEFORE_ALL
{
	heap_take_over();
}
