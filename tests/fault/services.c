/* Handoffs, parking, takeovers and supervised processes, each as a short scenario. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

static int fds[2];

static void open_pair(void)
{
	disarm();
	make_pair(PAIR_UNIX, fds);
	arm();
}

static struct ferry_handoff *make_handoff(int fd)
{
	struct ferry_handoff *handoff = NULL;
	if (called(ferry_handoff_new(&handoff, fd)) < 0)
		close_quietly(fd);
	return handoff;
}

/* ---- handoffs ---- */

enum fate { DONE, REJECTED, RETURNED, PASSED };
enum { REASON = 7 };

static struct ferry_dispatcher *dispatcher;
static struct ferry_worker *worker;
static enum fate fate;
static bool has_outcome, is_returned, worker_is_lost;
static bool channel_is_lost; /* at either end */
static enum ferry_handoff_outcome outcome;
static int client;

static void return_handoff(struct ferry_handoff *handoff)
{
	struct ferry_handoff_info info;
	if (called(ferry_handoff_get_info(handoff, &info)) < 0)
		return;
	struct ferry_handoff *back = make_handoff(called(ferry_handoff_steal_fd(handoff)));
	if (back != NULL && (called(ferry_handoff_set_bytes(back, "rest", 4)) < 0 ||
	                     called(ferry_worker_return(worker, info.id, back)) < 0))
		ferry_handoff_free(back);
}

/* A ClientHello without extensions. */
static const unsigned char hello[] = {
    22, 3,  1,  0,  45, 1,  0,  0,  41, 3,  3,  0,  1,    2,  3,  4,  5,
    6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18,   19, 20, 21, 22,
    23, 24, 25, 26, 27, 28, 29, 30, 31, 0,  0,  2,  0x13, 1,  1,  0,
};
static bool hello_arrived;

static void check_hello(const struct ferry_handoff *handoff)
{
	size_t length;
	const void *bytes = ferry_handoff_get_bytes(handoff, &length);

	hello_arrived = length == sizeof(hello) && memcmp(bytes, hello, length) == 0;
}

static void on_handoff(struct ferry_worker *from, struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)context;
	if (fate == REJECTED)
		called(ferry_handoff_reject(handoff, REASON));
	else if (fate == RETURNED)
		return_handoff(handoff);
	else if (fate == PASSED)
		check_hello(handoff);
}

static void on_dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)context;
	once(&worker_is_lost);
	channel_is_lost = true;
	told(reason < 0 ? reason : -ECONNRESET);
	worker = NULL;
	ferry_worker_free(from);
}

static void on_return_failed(struct ferry_worker *from, uint64_t id, struct ferry_handoff *handoff,
                             void *context)
{
	(void)from, (void)id, (void)context;
	told(-ECONNRESET);
	ferry_handoff_free(handoff);
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = on_handoff,
                                                               .return_failed = on_return_failed,
                                                               .dispatcher_lost =
                                                                   on_dispatcher_lost};

static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome what, int reason, void *context)
{
	(void)from, (void)handoff, (void)reason, (void)context;
	once(&has_outcome);
	outcome = what;
}

static void on_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *by,
                        struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)by, (void)context;
	once(&is_returned);
	ferry_handoff_free(handoff);
}

static void on_worker_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *lost,
                           int reason, void *context)
{
	(void)from, (void)lost, (void)context;
	channel_is_lost = true;
	told(reason < 0 ? reason : -ECONNRESET);
}

static bool is_drained;

static void on_drained(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *drained,
                       void *context)
{
	(void)from, (void)drained, (void)context;
	once(&is_drained);
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .handoff_returned = on_returned, .worker_lost = on_worker_lost, .worker_drained = on_drained};

static bool add_worker(struct event_base *loop)
{
	open_pair();
	struct ferry_transport *near = open_end(loop, fds[0]), *far = open_end(loop, fds[1]);
	if (near != NULL && far != NULL &&
	    called(ferry_dispatcher_add_worker(NULL, dispatcher, near, NULL)) == 0) {
		near = NULL;
		if (called(ferry_worker_new(&worker, far, &worker_callbacks, NULL)) == 0)
			return true;
	}
	ferry_transport_free(near);
	ferry_transport_free(far);
	return false;
}

static bool hand_off(void)
{
	open_pair();
	client = fds[1];
	struct ferry_handoff *handoff = make_handoff(fds[0]);
	if (handoff == NULL)
		return false;
	if (called(ferry_handoff_set_name(handoff, "client")) == 0 &&
	    called(ferry_handoff_set_bytes(handoff, "hello", 5)) == 0 &&
	    called(ferry_handoff_set_blob(handoff, "state", 5)) == 0 &&
	    called(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, NULL)) == 0)
		return true;
	ferry_handoff_free(handoff);
	return false;
}

/* More rounds than any recovery takes. */
enum { PATIENCE = 300 };
static int patience;

/* Only a handoff that no worker can take any more has to hurry. */
static bool handoff_is_over(void)
{
	const struct timeval time = {0, 5000};
	if (channel_is_lost && patience > 0)
		patience = 1;
	if (--patience == 0)
		called(ferry_dispatcher_set_timeouts(dispatcher, &time, &time));
	return has_outcome || is_returned;
}

static bool is_as_planned(void)
{
	if (fate == RETURNED)
		return is_returned && !has_outcome;
	return has_outcome &&
	       outcome == (fate == REJECTED ? FERRY_HANDOFF_REJECTED : FERRY_HANDOFF_DONE);
}

static void begin_handoff(int kind)
{
	dispatcher = NULL;
	worker = NULL;
	client = -1;
	fate = (enum fate)kind;
	has_outcome = is_returned = worker_is_lost = channel_is_lost = false;
	patience = PATIENCE;
}

/* An outcome that differs is one that the dispatcher reports. */
static void hand_one_off(struct event_base *loop, int kind)
{
	begin_handoff(kind);
	if (called(ferry_dispatcher_new(&dispatcher, loop, &dispatcher_callbacks, NULL)) == 0 &&
	    add_worker(loop) && hand_off()) {
		pump_swept(loop, handoff_is_over);
		if (is_as_planned())
			completed();
		else if (has_outcome || is_returned)
			told(-ECANCELED);
	}
	ferry_dispatcher_free(dispatcher);
	ferry_worker_free(worker);
	close_quietly(client);
}

/* ---- a client of TLS that is handed over before its handshake ---- */

enum { FIRST_PIECE = 20 };
static struct ferry_transport *tls_client;
static bool client_is_lost;
static unsigned int rounds;

static void hand_client_off(struct ferry_transport *transport)
{
	struct ferry_handoff *handoff = NULL;

	if (called(ferry_handoff_from_transport(&handoff, transport)) < 0) {
		called(ferry_transport_abort_connection(transport));
		return;
	}
	tls_client = NULL;
	if (called(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, NULL)) < 0)
		ferry_handoff_free(handoff);
}

static void on_tls_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct ferry_client_hello *read = NULL;
	(void)context;
	int status = ferry_client_hello_read(&read, input, 0, NULL);

	if (status == -EAGAIN) /* the rest follows */
		return;
	ferry_client_hello_free(read);
	if (called(status) == 0)
		hand_client_off(transport);
	else
		called(ferry_transport_abort_connection(transport));
}

static void on_tls_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)context;
	once(&client_is_lost);
	told(reason < 0 ? reason : -ECONNRESET);
	tls_client = NULL;
	ferry_transport_free(transport);
}

static const struct ferry_protocol tls_protocol = {.data_received = on_tls_data,
                                                   .connection_lost = on_tls_lost};

static void client_sends(const unsigned char *bytes, size_t length)
{
	disarm();
	(void)!send(client, bytes, length, MSG_NOSIGNAL);
	arm();
}

/* The client sends the rest after some rounds. */
static bool client_is_over(void)
{
	if (++rounds == 3)
		client_sends(hello + FIRST_PIECE, sizeof(hello) - FIRST_PIECE);
	return client_is_lost || handoff_is_over();
}

static bool accept_client(struct event_base *loop)
{
	open_pair();
	client = fds[1];
	client_sends(hello, FIRST_PIECE);
	tls_client = open_end(loop, fds[0]);
	return tls_client != NULL &&
	       called(ferry_transport_set_protocol(tls_client, &tls_protocol, NULL)) == 0;
}

static void pass_client(struct event_base *loop, int kind)
{
	begin_handoff(kind);
	tls_client = NULL;
	client_is_lost = hello_arrived = false;
	rounds = 0;
	if (called(ferry_dispatcher_new(&dispatcher, loop, &dispatcher_callbacks, NULL)) == 0 &&
	    add_worker(loop) && accept_client(loop)) {
		pump_swept(loop, client_is_over);
		if (is_as_planned() && hello_arrived)
			completed();
		else if (has_outcome || is_returned)
			told(-ECANCELED);
	}
	ferry_transport_free(tls_client);
	ferry_dispatcher_free(dispatcher);
	ferry_worker_free(worker);
	close_quietly(client);
}

/* ---- a worker that connects by itself ---- */

static void on_clients_dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)from, (void)context;
	told(reason < 0 ? reason : -ECONNRESET);
}

static const struct ferry_worker_callbacks client_callbacks = {
    .handoff_received = on_handoff, .dispatcher_lost = on_clients_dispatcher_lost};

static void on_client_failed(struct ferry_worker_client *from, const char *path, int reason,
                             void *context)
{
	(void)from, (void)path, (void)context;
	told(reason);
}

static struct ferry_worker_client *worker_client;
static int listening;
static struct event_base *dispatcher_loop;

/* Accepts each channel that the client makes: it connects again when one has ended. */
static bool client_has_served(void)
{
	disarm();
	int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	arm();
	if (fd >= 0) {
		struct ferry_transport *near = open_end(dispatcher_loop, fd);
		if (near != NULL && called(ferry_dispatcher_add_worker(NULL, dispatcher, near, NULL)) < 0)
			ferry_transport_free(near);
	}
	return has_outcome;
}

static bool client_is_drained(void)
{
	return is_drained || ferry_worker_client_get_state(worker_client) == FERRY_WORKER_CLIENT_OVER;
}

static int start_client(struct event_base *loop)
{
	const struct timeval pause = {.tv_usec = 1000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t length = sizeof(address);
	char path[sizeof(address.sun_path) + 1];
	disarm();
	getsockname(listening, (struct sockaddr *)&address, &length);
	snprintf(path, sizeof(path), "@%.*s", (int)(length - sizeof(sa_family_t)) - 1,
	         address.sun_path + 1);
	arm();
	int status = ferry_worker_client_new(&worker_client, loop, &client_callbacks, NULL);
	if (status == 0)
		status = ferry_worker_client_set_failed_cb(worker_client, on_client_failed, NULL);
	if (status == 0)
		status = ferry_worker_client_set_pauses(worker_client, &pause, &pause);
	if (status == 0)
		status = ferry_worker_client_set_credits(worker_client, 3);
	if (status == 0)
		status = ferry_worker_client_allow_uid(worker_client, geteuid());
	return called(status == 0 ? ferry_worker_client_add_unix(worker_client, path) : status);
}

static void serve_by_client(struct event_base *loop, int kind)
{
	(void)kind;
	worker_client = NULL;
	dispatcher = NULL;
	dispatcher_loop = loop;
	client = -1;
	fate = DONE;
	has_outcome = is_returned = is_drained = false;
	listening = make_listening();
	if (called(ferry_dispatcher_new(&dispatcher, loop, &dispatcher_callbacks, NULL)) == 0 &&
	    start_client(loop) == 0 && hand_off()) {
		pump_swept(loop, client_has_served);
		if (!is_as_planned())
			told(has_outcome ? -ECANCELED : 0);
		else if (called(ferry_worker_client_drain(worker_client)) == 0)
			pump_swept(loop, client_is_drained);
		if (is_drained)
			completed();
	}
	ferry_worker_client_free(worker_client);
	ferry_dispatcher_free(dispatcher);
	close_quietly(client);
	close_quietly(listening);
}

/* ---- parking ---- */

static bool is_woken;

static void on_woken(struct ferry_parking *parking, struct ferry_handoff *handoff,
                     const struct ferry_parking_event *event, void *context)
{
	(void)parking, (void)context;
	once(&is_woken);
	if (event->reason != FERRY_PARKING_INPUT)
		told(event->error);
	ferry_handoff_free(handoff);
}

static const struct ferry_parking_callbacks parking_callbacks = {.handoff_woken = on_woken};

static bool has_woken(void)
{
	return is_woken;
}

static void park(struct event_base *loop, int kind)
{
	const struct timeval time = {60, 0};
	struct ferry_parking *parking = NULL;
	(void)kind;
	is_woken = false;
	open_pair();
	struct ferry_handoff *handoff = make_handoff(fds[0]);
	if (handoff != NULL &&
	    called(ferry_parking_new(&parking, loop, &parking_callbacks, NULL)) == 0 &&
	    called(ferry_parking_park(parking, handoff, -1, &time, NULL)) == 0) {
		handoff = NULL;
		disarm();
		(void)!write(fds[1], "x", 1);
		arm();
		pump_swept(loop, has_woken);
		if (is_woken)
			completed();
	}
	ferry_handoff_free(handoff);
	ferry_parking_free(parking);
	close_quietly(fds[1]);
}

enum eviction { BY_LIMIT, BY_CALL };
static unsigned int evicted;

static void on_evicted(struct ferry_parking *parking, struct ferry_handoff *handoff,
                       const struct ferry_parking_event *event, void *context)
{
	(void)parking, (void)context;
	evicted++;
	told(event->reason == FERRY_PARKING_EVICTED ? event->error : -ENODATA);
	ferry_handoff_free(handoff);
}

static const struct ferry_parking_callbacks evicting_callbacks = {.handoff_woken = on_evicted};

static bool has_evicted(void)
{
	return evicted > 0;
}

/* False: the error is told. */
static bool park_one(struct ferry_parking *parking, int *peer)
{
	open_pair();
	*peer = fds[1];
	struct ferry_handoff *handoff = make_handoff(fds[0]);
	if (handoff == NULL)
		return false;
	if (called(ferry_parking_park(parking, handoff, -1, &(struct timeval){60, 0}, NULL)) == 0)
		return true;
	ferry_handoff_free(handoff);
	return false;
}

/* One of two connections leaves. */
static void evict(struct event_base *loop, int kind)
{
	struct ferry_parking *parking = NULL;
	struct ferry_parking_stats stats;
	int peers[2] = {-1, -1};

	evicted = 0;
	expect_told(kind == BY_LIMIT ? -ENOBUFS : -ECANCELED);
	if (called(ferry_parking_new(&parking, loop, &evicting_callbacks, NULL)) == 0 &&
	    called(ferry_parking_set_limit(parking, kind == BY_LIMIT ? 1 : 2)) == 0 &&
	    park_one(parking, &peers[0]) && park_one(parking, &peers[1]) &&
	    (kind == BY_LIMIT || called(ferry_parking_evict(parking, 1)) == 1)) {
		pump_swept(loop, has_evicted);
		if (evicted == 1 && ferry_parking_get_stats(parking, &stats) == 0 && stats.idle == 1)
			completed();
	}
	ferry_parking_free(parking);
	close_quietly(peers[0]);
	close_quietly(peers[1]);
}

/* ---- takeovers ---- */

static struct ferry_takeover *takeovers[2]; /* the old process's, the new one's */
static struct ferry_socket_set *received;
static bool ended[2];

static void on_received(struct ferry_takeover *takeover, struct ferry_socket_set *set,
                        void *context)
{
	(void)context;
	received = set;
	called(ferry_takeover_commit(takeover));
}

static void on_ended(struct ferry_takeover *takeover, int status, void *context)
{
	bool *end = context;
	once(end);
	told(status);
	takeovers[end - ended] = NULL;
	ferry_takeover_free(takeover);
}

static const struct ferry_takeover_callbacks takeover_callbacks = {.received = on_received,
                                                                   .ended = on_ended};

static bool both_ended(void)
{
	return ended[0] && ended[1];
}

static bool open_takeover(struct event_base *loop, struct ferry_socket_set *set)
{
	const char *names[] = {"www"};
	open_pair();
	struct ferry_transport *old = open_end(loop, fds[0]), *new = open_end(loop, fds[1]);
	if (old != NULL && new != NULL &&
	    called(ferry_takeover_serve(&takeovers[0], set, old, &takeover_callbacks, &ended[0])) ==
	        0) {
		old = NULL;
		if (called(ferry_takeover_request(&takeovers[1], new, names, 1, &takeover_callbacks,
		                                  &ended[1])) == 0)
			return true;
	}
	ferry_transport_free(old);
	ferry_transport_free(new);
	return false;
}

static void take_over(struct event_base *loop, int kind)
{
	struct ferry_socket_set *set = NULL;
	(void)kind;
	received = NULL;
	takeovers[0] = takeovers[1] = NULL;
	ended[0] = ended[1] = false;
	int fd = make_listening();
	if (called(ferry_socket_set_new(&set)) == 0 &&
	    called(ferry_socket_set_add(set, "www", fd, FERRY_FD_DUP)) == 0 &&
	    open_takeover(loop, set)) {
		pump_swept(loop, both_ended);
		if (both_ended() && received != NULL && ferry_socket_set_count(received) == 1)
			completed();
	}
	ferry_takeover_free(takeovers[0]);
	ferry_takeover_free(takeovers[1]);
	ferry_socket_set_free(received);
	ferry_socket_set_free(set);
	close_quietly(fd);
}

/* ---- processes ---- */

static unsigned int processes_ended;
static bool is_stopped;

static void on_channel(struct ferry_supervisor *supervisor, struct ferry_supervisor_worker *process,
                       struct ferry_transport *transport, void *context)
{
	(void)supervisor, (void)process, (void)context;
	ferry_transport_free(transport);
}

static void on_process_ended(struct ferry_supervisor *supervisor,
                             struct ferry_supervisor_worker *process, int status, void *context)
{
	(void)process, (void)context;
	processes_ended++;
	if (status != 0)
		told(-ECHILD);
	called(ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_KILL));
}

static void on_start_failed(struct ferry_supervisor *supervisor, unsigned int place, int error,
                            void *context)
{
	(void)place, (void)context;
	told(error);
	called(ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_KILL));
}

static void on_state(struct ferry_supervisor *supervisor, enum ferry_supervisor_state state,
                     void *context)
{
	(void)supervisor, (void)context;
	is_stopped |= state == FERRY_SUPERVISOR_STOPPED;
}

static const struct ferry_supervisor_callbacks supervisor_callbacks = {
    .channel_opened = on_channel,
    .worker_ended = on_process_ended,
    .start_failed = on_start_failed,
    .state_changed = on_state};

static bool has_stopped(void)
{
	return is_stopped;
}

static void supervise(struct event_base *loop, int kind)
{
	static const char *const argv[] = {"true", NULL};
	struct ferry_supervisor_options options = FERRY_SUPERVISOR_OPTIONS_INIT;
	struct ferry_supervisor *supervisor = NULL;
	(void)kind;
	options.name = "w";
	options.argv = argv;
	processes_ended = 0;
	is_stopped = false;
	if (called(ferry_supervisor_new(&supervisor, loop, &options, &supervisor_callbacks, NULL)) ==
	    0) {
		pump_swept(loop, has_stopped);
		if (is_stopped && processes_ended == 1)
			completed();
	}
	ferry_supervisor_free(supervisor);
}

static const struct scenario scenarios[] = {
    {"handoff, done", hand_one_off, DONE, CALL_SENDMSG, CALL_NONE, NULL},
    {"handoff, rejected", hand_one_off, REJECTED, CALL_RECVMSG, CALL_NONE, NULL},
    {"handoff, returned", hand_one_off, RETURNED, CALL_GETSOCKOPT, CALL_NONE, NULL},
    {"TLS passthrough", pass_client, PASSED, CALL_RECVMSG, CALL_NONE, NULL},
    {"worker client", serve_by_client, 0, CALL_CONNECT, CALL_NONE, NULL},
    {"parking", park, 0, CALL_EPOLL_CTL, CALL_NONE, NULL},
    {"parking, the limit", evict, BY_LIMIT, CALL_EPOLL_CTL, CALL_NONE, NULL},
    {"parking, evict", evict, BY_CALL, CALL_EPOLL_CTL, CALL_NONE, NULL},
    {"takeover", take_over, 0, CALL_FCNTL, CALL_NONE, NULL},
    {"supervisor", supervise, 0, CALL_FORK, CALL_SEND, NULL},

};

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], 0 /* their timeouts would make up the time */);
}

BEFORE_ALL
{
	heap_take_over();
}
