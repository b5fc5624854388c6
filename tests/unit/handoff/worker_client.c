/* A worker client and the dispatchers that it connects to, which are there, absent, dead, drained, replaced or
 * strangers. The test moves the clock. White-box: the user of the process that listens can be another one. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"
#include "listening.h"
#include "set_clock.h"
#include "test.h"

enum {
	MSEC = 1000,
	SECOND = 1000 * MSEC,
	FIRST = 50 * MSEC,
	LONGEST = 2 * SECOND,
	STRANGER = 4711
};

/* ---- the user of the other end ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length);

static bool strange; /* the process that listens is another user's */

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	int result = __real_getsockopt(fd, level, option, value, length);
	if (result == 0 && level == SOL_SOCKET && option == SO_PEERCRED && strange)
		((struct ucred *)value)->uid = STRANGER;
	return result;
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* ---- a dispatcher's process ---- */

enum { SEATS = 16 };

static struct site {
	struct ferry_dispatcher *dispatcher; /* NULL: it is absent */
	struct ferry_listener *listener;
	struct ferry_dispatcher_worker *seats[SEATS];
	unsigned int accepted, ready, lost, outcomes;
	bool hangs_up; /* each connection, without a word */
} here, there;

static void seat_ready(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *seat,
                       void *context)
{
	(void)dispatcher;
	struct site *site = context;
	ck_assert_uint_lt(site->ready, SEATS);
	site->seats[site->ready++] = seat;
}

static void seat_lost(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *seat,
                      int reason, void *context)
{
	(void)dispatcher, (void)seat, (void)reason;
	((struct site *)context)->lost++;
}

static const struct ferry_dispatcher_callbacks seat_callbacks = {.worker_ready = seat_ready,
                                                                 .worker_lost = seat_lost};

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener;
	struct site *site = context;
	site->accepted++;
	if (site->hangs_up)
		ferry_transport_free(transport);
	else
		ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, site->dispatcher, transport, "seat"), 0);
}

static void open_site(struct site *site, const char *path)
{
	const bool hangs_up = site->hangs_up;
	*site = (struct site){.hangs_up = hangs_up};
	ck_assert_int_eq(ferry_dispatcher_new(&site->dispatcher, base, &seat_callbacks, site), 0);
	ck_assert_int_eq(ferry_listener_new_unix(&site->listener, base, path, NULL, on_accepted, site),
	                 0);
}

static void close_site(struct site *site)
{
	ferry_listener_free(site->listener);
	ferry_dispatcher_free(site->dispatcher);
	site->listener = NULL;
	site->dispatcher = NULL;
}

static void outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                    enum ferry_handoff_outcome how, int reason, void *context)
{
	(void)dispatcher, (void)handoff, (void)how, (void)reason;
	((struct site *)context)->outcomes++;
}

static void hand_off(struct site *site)
{
	struct ferry_handoff *handoff;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	close(fds[1]);
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[0]), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(site->dispatcher, handoff, outcome, site), 0);
}

/* ---- the client ---- */

static struct ferry_worker_client *client; /* NULL once freed */
static struct {
	unsigned int failed, received, drains, lost, scarce, plenty;
	int reason;
	enum ferry_worker_client_state state; /* in the last callback */
	struct ferry_worker *worker;          /* of the last callback */
	bool keeps;                           /* the handoffs that it gets */
	void (*act)(void);                    /* in each callback */
} notes;

static void note(struct ferry_worker *worker)
{
	notes.worker = worker;
	notes.state = ferry_worker_client_get_state(client);
	if (notes.act != NULL)
		notes.act();
}

static void failed(struct ferry_worker_client *from, const char *path, int reason, void *context)
{
	ck_assert_ptr_eq(from, client);
	ck_assert_ptr_eq(context, &notes);
	ck_assert(strcmp(path, socket_path) == 0 || path[0] == '@');
	notes.failed++;
	notes.reason = reason;
	note(NULL);
}

static void received(struct ferry_worker *worker, struct ferry_handoff *handoff, void *context)
{
	(void)context;
	notes.received++;
	if (notes.keeps)
		close(ferry_handoff_steal_fd(handoff));
	note(worker);
}

static void drain_requested(struct ferry_worker *worker, void *context)
{
	(void)context;
	notes.drains++;
	note(worker);
}

static void scarce(struct ferry_worker *worker, bool now, void *context)
{
	(void)context;
	notes.scarce += now;
	notes.plenty += !now;
	note(worker);
}

static void lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)context;
	ck_assert_uint_eq(notes.scarce, notes.plenty);
	notes.lost++;
	notes.reason = reason;
	note(worker);
}

static const struct ferry_worker_callbacks callbacks = {.handoff_received = received,
                                                        .drain_requested = drain_requested,
                                                        .credits_scarce = scarce,
                                                        .dispatcher_lost = lost};

static void open_client(void)
{
	memset(&notes, 0, sizeof(notes));
	here = there = (struct site){0};
	strange = false;
	make_directory();
	ck_assert_int_eq(ferry_worker_client_new(&client, base, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_worker_client_set_failed_cb(client, failed, &notes), 0);
}

static void free_client(void)
{
	struct ferry_worker_client *freed = client;
	client = NULL;
	ferry_worker_client_free(freed);
}

static void close_client(void)
{
	notes.act = NULL;
	free_client();
	close_site(&here);
	close_site(&there);
	pump_turns(8);
	remove_directory();
}

static void add_socket(void)
{
	ck_assert_int_eq(ferry_worker_client_add_unix(client, socket_path), 0);
}

static void connect_here(void)
{
	open_site(&here, socket_path);
	add_socket();
	pump_until_count(&here.ready, 1);
}

TEST_CASE("client", open_client, close_client);

TEST(the_first_attempt_is_made_by_the_loop)
{
	open_site(&here, socket_path);
	add_socket();
	ck_assert_uint_eq(here.accepted, 0);
	ck_assert_int_eq(ferry_worker_client_get_state(client), FERRY_WORKER_CLIENT_RUNNING);
	pump_until_count(&here.ready, 1);
	hand_off(&here);
	pump_until_count(&here.outcomes, 1);
	ck_assert_uint_eq(notes.received, 1);
	ck_assert_uint_eq(notes.failed, 0);
}

TEST(a_dispatcher_that_is_absent_is_reported_once_and_found_when_it_appears)
{
	add_socket();
	pump_until_count(&notes.failed, 1);
	ck_assert_int_eq(notes.reason, -ENOENT);
	for (int i = 0; i < 20; i++) {
		clock_advance(LONGEST);
		pump_turns(2);
	}
	ck_assert_uint_eq(notes.failed, 1);
	open_site(&here, socket_path);
	clock_advance(LONGEST + LONGEST / 4);
	pump_until_count(&here.ready, 1);
}

TEST(another_reason_is_reported_too)
{
	add_socket();
	pump_until_count(&notes.failed, 1);
	int fd = listen_unix(socket_path);
	close(fd);
	clock_advance(LONGEST);
	pump_until_count(&notes.failed, 2);
	ck_assert_int_eq(notes.reason, -ECONNREFUSED);
	ck_assert_int_eq(unlink(socket_path), 0);
}

/* Counts attempts by the connections to a site that hangs up. */
static void expect_pause(int64_t pause)
{
	const unsigned int before = here.accepted;
	const unsigned int lost_before = notes.lost;
	clock_advance(pause - 1);
	pump_turns(4);
	ck_assert_uint_eq(here.accepted, before);
	clock_advance(pause / 4 + 1);
	pump_until_count(&here.accepted, before + 1);
	pump_until_count(&notes.lost, lost_before + 1);
}

/* A dispatcher that ends each channel before it has said a word counts as one that does not answer. */
LOOP_TEST(the_pause_doubles_up_to_the_longest, 2)
{
	const int64_t first = _i == 0 ? FIRST : SECOND, longest = _i == 0 ? LONGEST : 5 * SECOND;
	const struct timeval times[] = {{.tv_sec = 1}, {.tv_sec = 5}};
	if (_i == 1)
		ck_assert_int_eq(ferry_worker_client_set_pauses(client, &times[0], &times[1]), 0);
	here.hangs_up = true;
	open_site(&here, socket_path);
	add_socket();
	pump_until_count(&notes.lost, 1);
	for (int64_t pause = first; pause < longest; pause *= 2)
		expect_pause(pause);
	expect_pause(longest);
	expect_pause(longest);
	ck_assert_uint_eq(notes.failed, 0);
}

TEST(pauses_differ)
{
	bool differ = false;
	int64_t shortest = 0;
	here.hangs_up = true;
	open_site(&here, socket_path);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &(struct timeval){.tv_sec = 1},
	                                                &(struct timeval){.tv_sec = 1}),
	                 0);
	add_socket();
	pump_until_count(&notes.lost, 1);
	for (int i = 0; i < 8; i++) {
		const unsigned int before = here.accepted, lost_before = notes.lost;
		int64_t waited = SECOND - MSEC;
		clock_advance(waited);
		while (here.accepted == before) {
			clock_advance(MSEC);
			waited += MSEC;
			ck_assert_int_le(waited, SECOND + SECOND / 4 + 2 * MSEC);
			pump_turns(4);
		}
		pump_until_count(&notes.lost, lost_before + 1);
		differ = differ || (shortest != 0 && waited != shortest);
		shortest = waited;
	}
	ck_assert(differ);
}

/* The pause that has begun becomes the new one, in either direction. */
TEST(pauses_that_are_set_apply_to_a_client_that_waits)
{
	const struct timeval some = {.tv_sec = 1}, longer = {.tv_sec = 86400};
	here.hangs_up = true;
	open_site(&here, socket_path);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &longer, &longer), 0);
	add_socket();
	/* The first attempt is not after a pause. */
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &longer, &longer), 0);
	pump_until_count(&notes.lost, 1);
	clock_advance(SECOND + SECOND / 4);
	pump_turns(4);
	ck_assert_uint_eq(here.accepted, 1);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &some, &some), 0);
	pump_until_count(&notes.lost, 2);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &longer, &longer), 0);
	clock_advance(SECOND + SECOND / 4);
	pump_turns(4);
	ck_assert_uint_eq(here.accepted, 2);
}

TEST(a_dispatcher_that_dies_after_a_while_is_looked_for_at_once)
{
	connect_here();
	clock_advance(SECOND);
	pump_turns(2);
	close_site(&here);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.state, FERRY_WORKER_CLIENT_RUNNING);
	pump_until_count(&notes.failed, 1);
	open_site(&here, socket_path);
	clock_advance(FIRST + FIRST / 4); /* the first pause again */
	pump_until_count(&here.ready, 1);
	hand_off(&here);
	pump_until_count(&notes.received, 1);
}

TEST(one_that_dies_is_reported_again_as_absent)
{
	add_socket();
	pump_until_count(&notes.failed, 1);
	open_site(&here, socket_path);
	clock_advance(LONGEST);
	pump_until_count(&here.ready, 1);
	pump_turns(4);
	close_site(&here);
	pump_until_count(&notes.lost, 1);
	clock_advance(LONGEST);
	pump_until_count(&notes.failed, 2);
}

/* Another process listens at the path, and then drains its predecessor's workers. */
TEST(a_dispatcher_that_drains_is_replaced_while_its_channel_stands)
{
	connect_here();
	pump_turns(4);
	clock_advance(SECOND);
	ferry_listener_free(here.listener);
	here.listener = NULL;
	open_site(&there, socket_path);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(here.seats[0]), 0);
	pump_until_count(&there.ready, 1);
	ck_assert_uint_eq(notes.drains, 1);
	ck_assert(ferry_worker_is_drained(notes.worker));
	ck_assert_int_eq(notes.state, FERRY_WORKER_CLIENT_RUNNING);
	ck_assert_uint_eq(notes.lost + here.lost, 0);
	close_site(&here);
	pump_until_count(&notes.lost, 1);
	pump_turns(4);
	ck_assert_uint_eq(there.accepted, 1);
}

TEST(one_that_drains_each_channel_is_asked_ever_less_often)
{
	int64_t pause = FIRST;
	connect_here();
	for (unsigned int i = 0; i < 8; i++) {
		ck_assert_int_eq(ferry_dispatcher_worker_drain(here.seats[i]), 0);
		pump_until_count(&notes.drains, i + 1);
		clock_advance(pause - 1);
		pump_turns(4);
		ck_assert_uint_eq(here.accepted, i + 1);
		clock_advance(pause / 4 + 1);
		pump_until_count(&here.ready, i + 2);
		pump_turns(4);
		pause = pause * 2 < LONGEST ? pause * 2 : LONGEST;
	}
	clock_advance(LONGEST + 1); /* this channel stands, and is replaced at once */
	pump_turns(4);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(here.seats[8]), 0);
	pump_until_count(&here.ready, 10);
	pump_turns(4);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(here.seats[9]), 0);
	pump_until_count(&notes.drains, 10);
	clock_advance(FIRST + FIRST / 4);
	pump_until_count(&here.ready, 11);
}

TEST(a_stranger_gets_no_byte)
{
	ck_assert_int_eq(ferry_worker_client_allow_uid(client, geteuid()), 0);
	strange = true;
	int fd = listen_unix(socket_path);
	add_socket();
	pump_until_count(&notes.failed, 1);
	ck_assert_int_eq(notes.reason, -EPERM);
	int stranger = accept(fd, NULL, NULL);
	char byte;
	ck_assert_int_ge(stranger, 0);
	ck_assert_int_eq(read(stranger, &byte, 1), 0);
	close(stranger);
	close(fd);
	ck_assert_int_eq(unlink(socket_path), 0);

	/* Its successor is the right one. */
	strange = false;
	open_site(&here, socket_path);
	clock_advance(LONGEST);
	pump_until_count(&here.ready, 1);
}

TEST(a_dispatcher_replaced_by_a_stranger_is_reported)
{
	ck_assert_int_eq(ferry_worker_client_allow_uid(client, geteuid()), 0);
	connect_here();
	clock_advance(SECOND);
	close_site(&here);
	strange = true;
	open_site(&there, socket_path);
	pump_until_count(&notes.failed, 1);
	ck_assert_int_eq(notes.reason, -EPERM);
	ck_assert_int_eq(ferry_worker_client_allow_uid(client, STRANGER), 0);
	clock_advance(FIRST + FIRST / 4);
	pump_until_count(&there.ready, 1);
}

TEST(several_dispatchers_have_a_channel_each)
{
	connect_here();
	open_site(&there, own_abstract_name());
	ck_assert_int_eq(ferry_worker_client_add_unix(client, own_abstract_name()), 0);
	pump_until_count(&there.ready, 1);
	hand_off(&here);
	pump_until_count(&here.outcomes, 1);
	struct ferry_worker *first = notes.worker;
	ck_assert(!ferry_worker_is_drained(first));
	hand_off(&there);
	pump_until_count(&there.outcomes, 1);
	ck_assert_ptr_ne(notes.worker, first);
	close_site(&here);
	pump_until_count(&notes.lost, 1);
	hand_off(&there);
	pump_until_count(&there.outcomes, 2);
}

/* The credits of the client are those of each channel, also of a later one. */
TEST(credits_that_were_scarce_are_not_after_the_end)
{
	notes.keeps = true;
	ck_assert_int_eq(ferry_worker_client_set_credits(client, 1), 0);
	connect_here();
	hand_off(&here);
	pump_until_count(&notes.scarce, 1);
	struct ferry_worker_stats stats;
	ck_assert_int_eq(ferry_worker_get_stats(notes.worker, &stats), 0);
	ck_assert_uint_eq(stats.credits, 1);
	ck_assert_int_eq(ferry_worker_client_set_credits(client, 2), 0);
	ck_assert_int_eq(ferry_worker_get_stats(notes.worker, &stats), 0);
	ck_assert_uint_eq(stats.credits, 2);
	pump_until_count(&notes.plenty, 1);
	hand_off(&here);
	pump_until_count(&notes.scarce, 2);
	close_site(&here);
	pump_until_count(&notes.lost, 1);
	ck_assert_uint_eq(notes.plenty, 2);
}

TEST(a_drained_client_connects_no_more)
{
	ck_assert_int_eq(ferry_worker_client_get_state(client), FERRY_WORKER_CLIENT_OVER);
	connect_here();
	pump_turns(4);
	ck_assert_int_eq(ferry_worker_client_drain(client), 0);
	ck_assert_int_eq(ferry_worker_client_get_state(client), FERRY_WORKER_CLIENT_DRAINED);
	ck_assert_int_eq(ferry_worker_client_add_unix(client, socket_path), -ESHUTDOWN);
	ck_assert_int_eq(ferry_worker_client_add_from_environment(client), -ESHUTDOWN);
	close_site(&here);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.state, FERRY_WORKER_CLIENT_OVER);
	clock_advance(LONGEST);
	pump_turns(4);
	ck_assert_uint_eq(notes.failed, 0);
}

TEST(a_worker_that_is_freed_is_replaced)
{
	connect_here();
	hand_off(&here);
	pump_until_count(&notes.received, 1);
	ferry_worker_free(notes.worker);
	clock_advance(FIRST + FIRST / 4);
	pump_until_count(&here.ready, 2);
	ck_assert_uint_eq(notes.lost, 0);
}

/* The user has no more from that dispatcher until its channel ends. */
TEST(a_worker_that_is_drained_by_the_user_is_replaced_after_its_end)
{
	connect_here();
	hand_off(&here);
	pump_until_count(&notes.received, 1);
	ck_assert_int_eq(ferry_worker_drain(notes.worker), 0);
	ck_assert(ferry_worker_is_drained(notes.worker));
	clock_advance(LONGEST);
	pump_turns(8);
	ck_assert_uint_eq(here.accepted, 1);
	ck_assert_int_eq(ferry_worker_client_get_state(client), FERRY_WORKER_CLIENT_RUNNING);
	ferry_dispatcher_worker_remove(here.seats[0]);
	pump_until_count(&here.ready, 2);
}

TEST(a_path_that_is_added_twice_has_two_channels)
{
	connect_here();
	add_socket();
	pump_until_count(&here.ready, 2);
}

/* A process that is stopped, for example. */
TEST(a_dispatcher_that_is_silent_is_waited_for)
{
	int fd = listen_unix(socket_path);
	add_socket();
	for (unsigned int i = 0; i < 3; i++) {
		pump_turns(8);
		clock_advance(LONGEST * 100);
	}
	ck_assert_uint_eq(notes.failed + notes.lost, 0);
	close(fd);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(unlink(socket_path), 0);
}

TEST(a_client_is_over_before_anything_is_added)
{
	ck_assert_int_eq(ferry_worker_client_get_state(client), FERRY_WORKER_CLIENT_OVER);
	add_socket();
	ck_assert_int_eq(ferry_worker_client_get_state(client), FERRY_WORKER_CLIENT_RUNNING);
}

TEST(the_inherited_channel_is_one_of_them)
{
	char value[64];
	int fds[2];
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_worker_client_add_from_environment(client), -ENOENT);
	make_pair(PAIR_UNIX, fds);
	snprintf(value, sizeof(value), "%d:%ld", fds[0], (long)getpid());
	setenv("FERRY_WORKER", value, 1);
	ck_assert_int_eq(ferry_worker_client_add_from_environment(client), 0);
	ck_assert_int_eq(ferry_worker_client_get_state(client), FERRY_WORKER_CLIENT_RUNNING);

	struct bufferevent *bev = bufferevent_socket_new(base, fds[1], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	open_site(&here, socket_path);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, here.dispatcher, transport, "seat"), 0);
	pump_until_count(&here.ready, 1);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(here.seats[0]), 0);
	pump_until_count(&notes.drains, 1);
	ck_assert_int_eq(notes.state, FERRY_WORKER_CLIENT_DRAINED);
	close_site(&here);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.state, FERRY_WORKER_CLIENT_OVER);
}

TEST(wrong_arguments_are_refused)
{
	const struct timeval some = {.tv_sec = 1}, none = {0}, bad = {.tv_usec = SECOND};
	struct ferry_worker_client *other = NULL;
	char longer[300];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(ferry_worker_client_new(NULL, base, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_new(&other, NULL, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_new(&other, base, NULL, NULL), -EINVAL);
	ck_assert_ptr_null(other);
	ck_assert_int_eq(ferry_worker_client_add_unix(NULL, socket_path), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_add_unix(client, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_add_unix(client, ""), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_add_unix(client, "@"), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_add_unix(client, longer), -ENAMETOOLONG);
	ck_assert_int_eq(ferry_worker_client_add_from_environment(NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_allow_uid(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_allow_uid(client, (uid_t)-1), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_credits(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_pauses(NULL, &some, &some), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, NULL, &some), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &some, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &none, &some), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &bad, &some), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_pauses(client, &some, &(struct timeval){.tv_usec = 1}),
	                 -EINVAL);
	ck_assert_int_eq(ferry_worker_client_set_failed_cb(NULL, failed, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_drain(NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_client_get_state(NULL), FERRY_WORKER_CLIENT_OVER);
	ck_assert(!ferry_worker_is_drained(NULL));
	ferry_worker_client_free(NULL);
}
