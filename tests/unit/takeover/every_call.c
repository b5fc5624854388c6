/* Every call that a takeover, its set and its transport have, in every callback of theirs. The old and the new process
 * are the two ends of one connection, in one loop. */

#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "every_call.h"
#include "listening.h"
#include "recorder.h"
#include "test.h"
#include "transport_calls.h"

/* One process. */
struct end {
	struct ferry_takeover *takeover;   /* NULL once freed */
	struct ferry_transport *transport; /* the takeover's */
	struct ferry_socket_set *set;      /* NULL once freed, or not received yet */
	bool starts_to_accept;             /* in `received` */
};

static struct end old, new;
static struct ferry_takeover *third; /* a takeover that a call has begun */
static int third_far;

static void commit(void)
{
	ferry_takeover_commit(new.takeover);
}

/* ---- the callbacks ---- */

static void received(struct ferry_takeover *takeover, struct ferry_socket_set *set, void *context)
{
	struct end *end = context;
	(void)takeover;

	end->set = set;
	strike("received");
	if (end->starts_to_accept)
		commit();
}

static void ended(struct ferry_takeover *takeover, int status, void *context)
{
	(void)takeover;
	if (status == 0)
		strike(context == &old ? "ended of the old process" : "ended of the new process");
	else
		strike(context == &old ? "a failure of the old process" : "a failure of the new process");
}

static const struct ferry_takeover_callbacks callbacks_of_end = {.received = received,
                                                                 .ended = ended};

static void paused(void *context)
{
	(void)context;
	strike("pause_producing");
}

static void resumed(void *context)
{
	(void)context;
}

static void stopped(void *context)
{
	(void)context;
	strike("stop_producing");
}

static const struct ferry_producer_callbacks producer = {
    .resume_producing = resumed, .pause_producing = paused, .stop_producing = stopped};

static void on_change(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
	(void)buffer, (void)context;
	strike(info->n_added > 0 ? "the output's growth" : "the output's drain");
}

/* ---- how they are provoked ---- */

static void run(void)
{
	pump_turns(12);
}

static void free_takeover_of(struct end *end)
{
	struct ferry_takeover *freed = end->takeover;

	end->takeover = NULL;
	end->transport = NULL;
	ferry_takeover_free(freed);
}

static void free_set_of(struct end *end)
{
	struct ferry_socket_set *freed = end->set;

	end->set = NULL;
	ferry_socket_set_free(freed);
}

static void by_commit(void)
{
	new.starts_to_accept = true;
	run();
}

static void by_old_process(void)
{
	pump_turns(2);
	free_takeover_of(&old);
	run();
}

static void by_new_process(void)
{
	pump_turns(2);
	free_takeover_of(&new);
	run();
}

static void by_set(void)
{
	run();
	free_set_of(&old);
	run();
}

static void watch_output(const struct end *end)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(end->transport);

	evbuffer_add_cb(bufferevent_get_output(bev), on_change, NULL);
}

static void by_old_output(void)
{
	watch_output(&old);
	by_commit();
}

static void by_new_output(void)
{
	watch_output(&new);
	by_commit();
}

static void by_outputs_of_a_commit(void)
{
	run();
	watch_output(&old);
	watch_output(&new);
	commit();
	run();
}

static void by_output_of_a_withdrawal(void)
{
	run();
	watch_output(&old);
	by_old_process();
}

static void by_output_of_a_freed_set(void)
{
	run();
	watch_output(&old);
	by_set();
}

static void by_producer(const struct end *end)
{
	ck_assert_int_eq(
	    ferry_transport_register_producer(end->transport, &producer, NULL, FERRY_PRODUCER_PUSH), 0);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(end->transport), EV_WRITE, 0, 1);
	by_commit();
	free_takeover_of(&new);
	free_takeover_of(&old);
	run();
}

static void by_old_producer(void)
{
	by_producer(&old);
}

static void by_new_producer(void)
{
	by_producer(&new);
}

static const struct every_callback callbacks[] = {
    {"received", run},
    {"ended of the old process", by_commit},
    {"ended of the new process", by_commit},
    {"a failure of the old process", by_new_process},
    {"a failure of the new process", by_old_process},
    {"a failure of the old process", by_set},
    {"a failure of the new process", by_set},
    {"the output's growth", by_old_output},
    {"the output's drain", by_old_output},
    {"the output's growth", by_new_output},
    {"the output's drain", by_new_output},
    {"the output's growth", by_outputs_of_a_commit},
    {"the output's drain", by_outputs_of_a_commit},
    {"the output's growth", by_output_of_a_withdrawal},
    {"the output's drain", by_output_of_a_withdrawal},
    {"the output's growth", by_output_of_a_freed_set},
    {"the output's drain", by_output_of_a_freed_set},
    {"pause_producing", by_old_producer},
    {"stop_producing", by_old_producer},
    {"pause_producing", by_new_producer},
    {"stop_producing", by_new_producer},
};

/* ---- the calls ---- */

static void free_old(void)
{
	free_takeover_of(&old);
}

static void free_new(void)
{
	free_takeover_of(&new);
}

static void free_both(void)
{
	free_new();
	free_old();
}

static void free_old_set(void)
{
	free_set_of(&old);
}

static void free_new_set(void)
{
	free_set_of(&new);
}

static void free_all(void)
{
	free_old_set();
	free_both();
	free_new_set();
}

static void serve_again(void)
{
	struct ferry_transport *transport;
	int fds[2];

	if (third != NULL)
		return;
	make_pair(PAIR_UNIX, fds);
	transport = make_transport(fds[0]);
	third_far = fds[1];
	if (ferry_takeover_serve(&third, old.set, transport, &callbacks_of_end, &old) < 0)
		ferry_transport_free(transport);
}

static void request_again(void)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	third_far = fds[1];
	ck_assert_int_eq(
	    ferry_takeover_request(&third, make_transport(fds[0]), NULL, 0, &callbacks_of_end, &new),
	    0);
}

static void change_set_of(struct ferry_socket_set *set)
{
	int fd = listen_tcp();

	ferry_socket_set_add(set, "added", fd, FERRY_FD_DUP);
	close(fd);
	ferry_socket_set_own_path(set, "control");
	for (size_t i = 0; i < ferry_socket_set_count(set); i++) {
		ferry_socket_set_get_fd(set, i);
		ferry_socket_set_get_name(set, i);
	}
	ferry_socket_set_find(set, "added");
}

static void change_sets(void)
{
	change_set_of(old.set);
	change_set_of(new.set);
}

static void remove_from_sets(void)
{
	ferry_socket_set_remove(old.set, "www");
	ferry_socket_set_remove(new.set, "control");
}

static void add_listener(void)
{
	struct ferry_listener *listener;

	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, own_abstract_name(), NULL, NULL, NULL), 0);
	ferry_socket_set_add_listener(old.set, "listener", listener);
	ferry_socket_set_add_listener(new.set, "listener", listener);
	ferry_listener_free(listener);
}

static void make_set(void)
{
	struct ferry_socket_set *made;

	ck_assert_int_eq(ferry_socket_set_new(&made), 0);
	ferry_socket_set_free(made);
	ck_assert_int_lt(ferry_socket_set_from_environment(&made, false), 0);
}

static const struct every_call calls[] = {
    {"ferry_takeover_free of the old process", free_old},
    {"ferry_takeover_free of the new process", free_new},
    {"ferry_takeover_free of both", free_both},
    {"ferry_socket_set_free of the old process", free_old_set},
    {"ferry_socket_set_free of the new process", free_new_set},
    {"ferry_takeover_free, ferry_socket_set_free of both", free_all},
    {"ferry_takeover_commit", commit},
    {"ferry_takeover_serve", serve_again},
    {"ferry_takeover_request", request_again},
    {"ferry_socket_set_add, _own_path, _get_…", change_sets},
    {"ferry_socket_set_remove", remove_from_sets},
    {"ferry_socket_set_add_listener", add_listener},
    {"ferry_socket_set_new", make_set},
};

/* ---- the world ---- */

static struct ferry_transport *olds_transport(void)
{
	return old.transport;
}

static struct ferry_transport *news_transport(void)
{
	return new.transport;
}

static void set_up(void)
{
	int fds[2];

	transport_of_first = olds_transport;
	transport_of_second = news_transport;
	old = new = (struct end){0};
	third = NULL;
	third_far = -1;
	make_directory();
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_socket_set_new(&old.set), 0);
	ck_assert_int_eq(ferry_socket_set_add(old.set, "www", listen_tcp(), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(
	    ferry_socket_set_add(old.set, "control", listen_unix(socket_path), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(old.set, "control"), 0);
	old.transport = make_transport(fds[0]);
	new.transport = make_transport(fds[1]);
	ck_assert_int_eq(
	    ferry_takeover_serve(&old.takeover, old.set, old.transport, &callbacks_of_end, &old), 0);
	ck_assert_int_eq(
	    ferry_takeover_request(&new.takeover, new.transport, NULL, 0, &callbacks_of_end, &new), 0);
}

static void tear_down(void)
{
	free_both();
	ferry_takeover_free(third);
	free_old_set();
	free_new_set();
	if (third_far >= 0)
		close(third_far);
	pump_turns(6);
	unlink(socket_path); /* neither process owns it, perhaps */
	remove_directory();
}

LOOP_TEST(every_call_is_safe_in_every_callback_of_a_takeover, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
	every_call_run(&callbacks[_i], transport_calls, transport_call_count, set_up, tear_down);
}
