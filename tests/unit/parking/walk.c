/* Random walks over a place and its connections, beside a small model: which connections are parked, which wait, and
 * what each has to wake for. Callbacks make the same steps. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/parking.h"

#include "handoff_info.h"
#include "test.h"
#include "wire.h"

enum { WALKS = 300, STEPS = 120, CONNECTIONS = 12, DEPTH_MAX = 3 };

enum place { NOWHERE, OURS, IDLE, WAITING, PLACES };

static struct connection {
	enum place place;
	struct ferry_handoff *handoff;
	int far;
	int wake_fd;  /* parked with it; -1: none */
	bool signals; /* the second descriptor is readable */
	bool unread;  /* the socket has input */
	bool bytes;   /* the handoff has */
	bool ended;   /* the peer has */
} all[CONNECTIONS];

static struct ferry_parking *parking;
static unsigned int limit, depth;
static bool freed; /* the place, in a callback */

static void make_step(void);

static unsigned int count(enum place place)
{
	unsigned int found = 0;

	for (int i = 0; i < CONNECTIONS; i++)
		found += all[i].place == place;
	return found;
}

static struct connection *choose(enum place place)
{
	struct connection *found = NULL;
	unsigned int seen = 0;

	for (int i = 0; i < CONNECTIONS; i++)
		if (all[i].place == place && support_random_below(++seen) == 0)
			found = &all[i];
	return found;
}

static void steps_in_callback(void)
{
	if (++depth < DEPTH_MAX)
		for (unsigned int i = support_random_below(3); i > 0; i--)
			make_step();
	depth--;
}

/* ---- the callbacks ---- */

static void read_input(struct connection *connection, struct ferry_handoff *handoff)
{
	wire_drain(ferry_handoff_get_fd(handoff));
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, NULL, 0), 0);
	connection->unread = connection->bytes = false;
}

static bool has_reason(const struct connection *connection, enum ferry_parking_reason reason)
{
	switch (reason) {
	case FERRY_PARKING_INPUT:
		return connection->unread || connection->bytes;
	case FERRY_PARKING_ENDED:
		return connection->ended;
	case FERRY_PARKING_WAKE_FD:
		return connection->signals;
	default:
		return reason == FERRY_PARKING_EVICTED;
	}
}

static enum ferry_parking_verdict filter(struct ferry_parking *from, struct ferry_handoff *handoff,
                                         const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)context;
	struct connection *connection = handoff_info(handoff).context;
	eventfd_t value;

	ck_assert_ptr_eq(connection->handoff, handoff);
	ck_assert_int_eq(connection->place, IDLE);
	ck_assert(has_reason(connection, event->reason));
	ck_assert_int_eq(event->wake_fd, connection->wake_fd);
	if (support_random_below(2) == 0)
		return FERRY_PARKING_WAKE;
	read_input(connection, handoff);
	if (connection->signals)
		ck_assert_int_eq(eventfd_read(event->wake_fd, &value), 0);
	connection->signals = false;
	connection->place = PLACES; /* nobody's, for the steps */
	steps_in_callback();
	connection->place = IDLE;
	return support_random_below(2) == 0 ? FERRY_PARKING_STAY : FERRY_PARKING_RENEW;
}

static void woken(struct ferry_parking *from, struct ferry_handoff *handoff,
                  const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)context;
	struct connection *connection = handoff_info(handoff).context;

	ck_assert_ptr_eq(connection->handoff, handoff);
	ck_assert(connection->place == IDLE || connection->place == WAITING);
	ck_assert_int_eq(event->wake_fd, connection->wake_fd);
	if (event->reason == FERRY_PARKING_INPUT)
		read_input(connection, handoff);
	else if (event->reason != FERRY_PARKING_WAKE_FD) /* the filter may have read that */
		ck_assert(has_reason(connection, event->reason));
	if (event->wake_fd >= 0)
		close(event->wake_fd);
	connection->wake_fd = -1;
	connection->signals = false;
	connection->place = OURS;
	steps_in_callback();
}

static const struct ferry_parking_callbacks callbacks = {.filter = filter, .handoff_woken = woken};

static void open_place(void)
{
	ck_assert_int_eq(ferry_parking_new(&parking, base, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_parking_set_fd_reserve(parking, 0), 0);
	limit = CONNECTIONS;
	ck_assert_int_eq(ferry_parking_set_limit(parking, limit), 0);
	freed = false;
}

/* ---- the steps ---- */

static void create(void)
{
	struct connection *connection = choose(NOWHERE);
	int ends[2];

	if (connection == NULL)
		return;
	make_pair(support_random_below(2) == 0 ? PAIR_UNIX : PAIR_TCP, ends);
	*connection = (struct connection){.place = OURS, .far = ends[1], .wake_fd = -1};
	ck_assert_int_eq(ferry_handoff_new(&connection->handoff, ends[0]), 0);
}

static void forget(struct connection *connection)
{
	ferry_handoff_free(connection->handoff);
	close(connection->far);
	connection->place = NOWHERE;
}

static void drop(void)
{
	struct connection *connection = choose(OURS);

	if (connection != NULL)
		forget(connection);
}

static void enter(bool waits)
{
	struct connection *connection = choose(OURS);
	const struct timeval timeout = {1000, 0};
	int wake_fd = -1;

	if (connection == NULL)
		return;
	if (support_random_below(4) == 0)
		wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (support_random_below(4) == 0) {
		connection->bytes = true;
		ck_assert_int_eq(ferry_handoff_set_bytes(connection->handoff, "x", 1), 0);
	}
	int status = (waits ? ferry_parking_wait : ferry_parking_park)(
	    parking, connection->handoff, wake_fd, support_random_below(2) == 0 ? &timeout : NULL,
	    connection);
	if (status == 0) {
		connection->wake_fd = wake_fd;
		connection->place = waits ? WAITING : IDLE;
		return;
	}
	ck_assert_int_eq(status, -ENOBUFS);
	if (wake_fd >= 0)
		close(wake_fd);
}

static void park(void)
{
	enter(false);
}

static void let_wait(void)
{
	enter(true);
}

static void put_input(void)
{
	struct connection *connection = choose((enum place)(OURS + support_random_below(3)));

	if (connection != NULL && !connection->ended &&
	    wire_send(connection->far, "x", 1, NULL, 0) == 1)
		connection->unread = true;
}

static void end_peer(void)
{
	struct connection *connection = choose((enum place)(OURS + support_random_below(3)));

	if (connection == NULL || connection->ended)
		return;
	shutdown(connection->far, support_random_below(2) == 0 ? SHUT_WR : SHUT_RDWR);
	connection->ended = true;
}

static void signal_wake_fd(void)
{
	struct connection *connection = choose(IDLE);

	if (connection == NULL || connection->wake_fd < 0)
		return;
	ck_assert_int_eq(eventfd_write(connection->wake_fd, 1), 0);
	connection->signals = true;
}

static void take(enum place place)
{
	struct ferry_handoff *handoff = NULL;
	int status = place == IDLE ? ferry_parking_take_idle(&handoff, parking, NULL)
	                           : ferry_parking_take_waiting(&handoff, parking, NULL);

	if (status < 0) {
		ck_assert_int_eq(status, -ENOENT);
		return;
	}
	struct connection *connection = handoff_info(handoff).context;
	ck_assert_ptr_eq(connection->handoff, handoff);
	/* One that waited is taken as idle when the end of its peer is pending. */
	ck_assert(connection->place == place || connection->place == WAITING);
	connection->place = OURS;
	connection->wake_fd = -1;
	connection->signals = false;
}

static void take_idle(void)
{
	take(IDLE);
}

static void take_waiting(void)
{
	take(WAITING);
}

static void evict(void)
{
	unsigned int wanted = support_random_below(4);
	int status = ferry_parking_evict(parking, wanted);

	ck_assert_int_ge(status, 0);
	ck_assert_uint_le((unsigned int)status, wanted);
}

static void set_limit(void)
{
	limit = 1 + support_random_below(CONNECTIONS);
	ck_assert_int_eq(ferry_parking_set_limit(parking, limit), 0);
}

static void free_place(void)
{
	if (support_random_below(20) != 0)
		return;
	ferry_parking_free(parking);
	freed = true;
}

static void make_step(void)
{
	static void (*const steps[])(void) = {
	    create,         create,    park,         park,  park,      let_wait,   put_input, end_peer,
	    signal_wake_fd, take_idle, take_waiting, evict, set_limit, free_place, drop,
	};

	if (!freed)
		steps[support_random_below(COUNT(steps))]();
}

/* ---- the judgement ---- */

/* The place has closed what it had. */
static void forget_parked(void)
{
	for (int i = 0; i < CONNECTIONS; i++)
		if (all[i].place == IDLE || all[i].place == WAITING) {
			if (all[i].wake_fd >= 0)
				ck_assert(!fd_is_open(all[i].wake_fd));
			close(all[i].far);
			all[i].place = NOWHERE;
		}
}

/* Whatever was to wake has woken. */
static void judge(void)
{
	struct ferry_parking_stats stats;

	ck_assert_int_eq(ferry_parking_get_stats(parking, &stats), 0);
	ck_assert_uint_eq(stats.idle, count(IDLE));
	ck_assert_uint_eq(stats.waiting, count(WAITING));
	ck_assert_uint_eq(stats.pending, 0);
	ck_assert(stats.idle == 0 || stats.idle + stats.waiting <= limit);
	for (int i = 0; i < CONNECTIONS; i++)
		if (all[i].place == IDLE)
			ck_assert(!all[i].unread && !all[i].ended && !all[i].signals);
}

TEST(random_walks_end_as_the_model_does)
{
	for (int walk = 0; walk < WALKS; walk++) {
		open_place();
		for (int step = 0; step < STEPS && !freed; step++) {
			make_step();
			if (!freed && support_random_below(4) == 0) {
				pump_turns(8);
				if (!freed)
					judge();
			}
		}
		if (!freed)
			ferry_parking_free(parking);
		forget_parked();
		for (int i = 0; i < CONNECTIONS; i++)
			if (all[i].place == OURS)
				forget(&all[i]);
	}
}
