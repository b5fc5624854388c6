/* Every call that an upgrade and its service manager have, in each callback of an upgrade. The old and the new process
 * are in one loop; the old one may start a third one, which exits at once. */

#include "app.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "every_call.h"
#include "fake_manager.h"
#include "listening.h"
#include "test.h"

BEFORE_ALL
{
	app_become_successor(argc, argv);
}

enum { FAR_MAX = 8 };

static struct app old, new, third;
static int manager;
static int far[FAR_MAX]; /* the clients of connections that were given */
static int far_count;

static void strike_of(const char *process, const char *callback)
{
	char name[64];
	snprintf(name, sizeof(name), "%s of the %s process", callback, process);
	strike(name);
}

static void hook_of_old(const char *name)
{
	strike_of("old", name);
}

static void hook_of_new(const char *name)
{
	strike_of("new", name);
}

/* ---- how they are provoked ---- */

static bool was_struck(void *argument)
{
	(void)argument;
	return struck;
}

static void wait_for_strike(void)
{
	pump_until(was_struck, NULL);
	pump_turns(8);
}

static void free_app(struct app *app)
{
	struct ferry_upgrade *freed = app->upgrade;
	app->upgrade = NULL;
	ferry_listener_free(app->www);
	app->www = NULL;
	ferry_upgrade_free(freed);
}

static void free_old(void)
{
	free_app(&old);
}

static void free_new(void)
{
	free_app(&new);
}

/* The new process begins. */
static void join(const char *behaviour)
{
	pump_until_count(&old.serving, 1);
	struct ferry_socket_set *set = ferry_upgrade_get_set(old.upgrade);
	ck_assert_int_eq(ferry_socket_set_add(set, "control", listen_unix(socket_path), FERRY_FD_TAKE),
	                 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "control"), 0);
	ck_assert_int_eq(ferry_upgrade_listen(old.upgrade, "control"), 0);
	ck_assert_int_eq(app_new(&new, "exits"), 0);
	new.behaviour = behaviour;
}

static void give(struct app *app)
{
	struct ferry_handoff *handoff;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_lt(far_count, FAR_MAX);
	far[far_count++] = fds[1];
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[0]), 0);
	if (ferry_upgrade_give(app->upgrade, handoff) < 0)
		ferry_handoff_free(handoff);
}

static void by_joining(void)
{
	join(NULL);
	wait_for_strike();
}

static void by_connection(void)
{
	join(NULL);
	pump_until_count(&new.serving, 1);
	give(&old);
	wait_for_strike();
}

static void by_finish(void)
{
	join(NULL);
	pump_until_count(&old.replaced, 1);
	ck_assert_int_eq(ferry_upgrade_finish(old.upgrade), 0);
	wait_for_strike();
}

static void by_freeing_old(void)
{
	join("is never ready");
	pump_until_count(&new.started, 1);
	free_old();
	wait_for_strike();
}

static void by_freeing_new(void)
{
	join("is never ready");
	pump_until_count(&new.started, 1);
	free_new();
	wait_for_strike();
}

static void by_failing_program(void)
{
	pump_until_count(&old.serving, 1);
	ck_assert_int_eq(ferry_upgrade_start(old.upgrade), 0);
	wait_for_strike();
}

static void by_signal(void)
{
	pump_until_count(&old.serving, 1);
	ck_assert_int_eq(ferry_upgrade_watch_signals(old.upgrade), 0);
	raise(SIGQUIT);
	wait_for_strike();
}

static const struct every_callback callbacks[] = {
    {"started of the old process", wait_for_strike},
    {"serving of the old process", wait_for_strike},
    {"started of the new process", by_joining},
    {"state_requested of the old process", by_joining},
    {"replaced of the old process", by_joining},
    {"serving of the new process", by_joining},
    {"connection_received of the new process", by_connection},
    {"finished of the old process", by_finish},
    {"rejected of the new process", by_freeing_old},
    {"failed of the old process", by_freeing_new},
    {"failed of the old process", by_failing_program},
    {"signalled of the old process", by_signal},
};

/* ---- the calls ---- */

static void free_all(void)
{
	free_new();
	free_old();
	ferry_service_manager_free(old.manager);
	old.manager = NULL;
}

static void on_started(struct ferry_upgrade *upgrade, struct ferry_socket_set *set, void *context)
{
	(void)upgrade, (void)set, (void)context;
}

/* One that lives on, and one that is freed before it has started. */
static void make_more(void)
{
	static const struct ferry_upgrade_callbacks few = {.started = on_started};
	const struct ferry_upgrade_options options = {.size = sizeof(options)};
	struct ferry_upgrade *made;
	ck_assert_int_eq(app_new(&third, "exits"), 0);
	ck_assert_int_eq(ferry_upgrade_new(&made, base, &options, &few, NULL), 0);
	ferry_upgrade_free(made);
}

static void ready(void)
{
	(void)ferry_upgrade_ready(new.upgrade);
	(void)ferry_upgrade_ready(old.upgrade);
}

static void start(void)
{
	(void)ferry_upgrade_start(new.upgrade);
	(void)ferry_upgrade_start(old.upgrade);
}

static void listen_at_control(void)
{
	(void)ferry_upgrade_listen(new.upgrade, "control");
	(void)ferry_upgrade_listen(old.upgrade, "control");
}

static void give_connections(void)
{
	give(&new);
	give(&old);
}

static void finish(void)
{
	(void)ferry_upgrade_finish(new.upgrade);
	(void)ferry_upgrade_finish(old.upgrade);
}

static void watch_signals(void)
{
	(void)ferry_upgrade_watch_signals(new.upgrade);
	(void)ferry_upgrade_watch_signals(old.upgrade);
}

static void look_at(const struct app *app)
{
	struct ferry_upgrade_stats stats;
	size_t length;
	if (app->upgrade == NULL)
		return;
	ck_assert_int_eq(ferry_upgrade_get_stats(app->upgrade, &stats), 0);
	ck_assert_ptr_nonnull(ferry_upgrade_get_state(app->upgrade, &length));
	ck_assert_int_eq(ferry_upgrade_get_error_output(app->upgrade), STDERR_FILENO);
	ck_assert_uint_le(ferry_upgrade_get_generation(app->upgrade), 1);
	(void)ferry_upgrade_get_successor(app->upgrade);
	(void)ferry_upgrade_get_set(app->upgrade);
	(void)ferry_upgrade_is_settled(app->upgrade);
}

static void look(void)
{
	look_at(&new);
	look_at(&old);
}

static void notify(void)
{
	int fd = STDIN_FILENO;
	(void)ferry_service_manager_reloading(old.manager);
	(void)ferry_service_manager_ready(old.manager);
	(void)ferry_service_manager_set_status(old.manager, "in a callback");
	(void)ferry_service_manager_set_main_pid(old.manager, getpid());
	(void)ferry_service_manager_store_fds(old.manager, "name", &fd, 1);
	(void)ferry_service_manager_remove_fds(old.manager, "name");
	(void)ferry_service_manager_stopping(old.manager);
	(void)ferry_service_manager_notify(old.manager, "X_OWN=1", NULL, 0);
	ck_assert(ferry_service_manager_is_present(old.manager));
	ck_assert_uint_le(ferry_service_manager_get_waiting(old.manager),
	                  FERRY_SERVICE_MANAGER_WAITING_MAX);
}

static void make_manager(void)
{
	struct ferry_service_manager *made;
	ck_assert_int_eq(ferry_service_manager_new(&made, base, false), 0);
	ck_assert_uint_eq(ferry_service_manager_get_watchdog(made), 0);
	ck_assert_int_eq(ferry_service_manager_start_watchdog(made), 0);
	ferry_service_manager_free(made);
}

static const struct every_call calls[] = {
    {"ferry_upgrade_free of the old process", free_old},
    {"ferry_upgrade_free of the new process", free_new},
    {"ferry_upgrade_free of both, ferry_service_manager_free", free_all},
    {"ferry_upgrade_new", make_more},
    {"ferry_upgrade_ready", ready},
    {"ferry_upgrade_start", start},
    {"ferry_upgrade_listen", listen_at_control},
    {"ferry_upgrade_give", give_connections},
    {"ferry_upgrade_finish", finish},
    {"ferry_upgrade_watch_signals", watch_signals},
    {"ferry_upgrade_get_…, _is_settled", look},
    {"ferry_service_manager_notify and its like", notify},
    {"ferry_service_manager_new", make_manager},
};

/* ---- the world ---- */

static void set_up(void)
{
	manager = fake_manager_start();
	make_directory();
	far_count = 0;
	third = (struct app){.base = base};
	new = (struct app){.base = base, .predecessor = socket_path, .hook = hook_of_new};
	old = (struct app){.base = base, .probation = {.tv_usec = 10000}, .hook = hook_of_old};
	ck_assert_int_eq(ferry_service_manager_new(&old.manager, base, false), 0);
	ck_assert_int_eq(app_new(&old, "exits"), 0);
}

static void tear_down(void)
{
	app_end(&third);
	app_end(&new);
	app_end(&old);
	for (int i = 0; i < far_count; i++)
		close(far[i]);
	pump_turns(5);
	fake_manager_stop(manager);
	unlink(socket_path); /* neither process owns it, perhaps */
	remove_directory();
}

LOOP_TEST(every_call_is_safe_in_every_callback_of_an_upgrade, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
}
