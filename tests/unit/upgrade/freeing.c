/* An upgrade is freed inside each of its callbacks, in the old process and in the new one. */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app.h"
#include "listening.h"
#include "test.h"

BEFORE_ALL
{
	app_become_successor(argc, argv);
}

static struct app old, new;
static const char *victim; /* the callback */
static bool struck;

static void free_upgrade_of(struct app *app, const char *name)
{
	if (strcmp(name, victim) != 0 || struck)
		return;
	struck = true;
	struct ferry_upgrade *upgrade = app->upgrade;
	app->upgrade = NULL;
	ferry_listener_free(app->www);
	app->www = NULL;
	ferry_upgrade_free(upgrade);
}

static void hook_of_old(const char *name)
{
	free_upgrade_of(&old, name);
}

static void hook_of_new(const char *name)
{
	free_upgrade_of(&new, name);
}

static bool has_struck(void *argument)
{
	(void)argument;
	return struck;
}

static void end(void)
{
	pump_turns(5);
	app_end(&new);
	app_end(&old);
}

/* ---- the old process, with a successor of its own ---- */

static const struct {
	const char *callback, *behaviour;
} cases_of_old[] = {{"started", "normal"},  {"serving", "normal"}, {"state_requested", "leaves"},
                    {"failed", "exits"},    {"failed", "closes"},  {"failed", "hangs"},
                    {"replaced", "leaves"}, {"finished", "leaves"}};

LOOP_TEST(the_old_process_frees, COUNT(cases_of_old))
{
	victim = cases_of_old[_i].callback;
	struck = false;
	new = (struct app){0};
	const char *behaviour = cases_of_old[_i].behaviour;
	old = (struct app){.base = base, .hook = hook_of_old};
	old.timeout.tv_sec = strcmp(behaviour, "hangs") == 0; /* 0: a long one */
	ck_assert_int_eq(app_new(&old, behaviour), 0);
	while (!struck && old.serving == 0)
		pump_turns(1);
	if (!struck)
		ck_assert_int_eq(ferry_upgrade_start(old.upgrade), 0);
	if (strcmp(victim, "finished") == 0) {
		pump_until_count(&old.replaced, 1);
		ck_assert_int_eq(ferry_upgrade_finish(old.upgrade), 0);
	}
	pump_until(has_struck, NULL);
	end();
}

TEST(the_old_process_frees_when_a_signal_comes)
{
	victim = "signalled";
	struck = false;
	new = (struct app){0};
	old = (struct app){.hook = hook_of_old};
	app_begin(&old, "normal");
	ck_assert_int_eq(ferry_upgrade_watch_signals(old.upgrade), 0);
	raise(SIGQUIT);
	pump_until(has_struck, NULL);
	end();
}

/* ---- the new process, in the same loop ---- */

static void start_both(void)
{
	make_directory();
	old = (struct app){0};
	app_begin(&old, "normal");
	struct ferry_socket_set *set = ferry_upgrade_get_set(old.upgrade);
	ck_assert_int_eq(ferry_socket_set_add(set, "control", listen_unix(socket_path), FERRY_FD_TAKE),
	                 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "control"), 0);
	ck_assert_int_eq(ferry_upgrade_listen(old.upgrade, "control"), 0);
	struck = false;
	new = (struct app){.base = base, .predecessor = socket_path, .hook = hook_of_new};
	ck_assert_int_eq(app_new(&new, "normal"), 0);
}

static void end_both(void)
{
	end();
	unlink(
	    socket_path); /* which neither process owns, if the new one has withdrawn after its commit */
	remove_directory();
}

TEST(the_new_process_frees_when_it_starts)
{
	victim = "started";
	start_both();
	pump_until(has_struck, NULL);
	pump_until_count(&old.failed, 1);
	end_both();
}

TEST(the_new_process_frees_when_it_serves)
{
	victim = "serving";
	start_both();
	pump_until(has_struck, NULL);
	ck_assert_uint_eq(old.replaced, 1);
	end_both();
}

TEST(the_new_process_frees_when_it_is_rejected)
{
	victim = "rejected";
	start_both();
	new.behaviour = "is never ready";
	pump_until_count(&new.started, 1);
	ferry_upgrade_free(old.upgrade);
	old.upgrade = NULL;
	pump_until(has_struck, NULL);
	ck_assert_int_eq(new.rejection, -ECANCELED);
	end_both();
}

TEST(the_new_process_frees_when_a_connection_comes)
{
	struct ferry_handoff *handoff;
	int fds[2];
	victim = "connection_received";
	start_both();
	pump_until_count(&new.serving, 1);
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[0]), 0);
	ck_assert_int_eq(ferry_upgrade_give(old.upgrade, handoff), 0);
	pump_until(has_struck, NULL);
	close(fds[1]);
	end_both();
}

/* The old process frees while the new one is under way. */
TEST(the_old_process_frees_when_it_is_asked_for_its_state)
{
	victim = "state_requested";
	start_both();
	new.hook = NULL;
	old.hook = hook_of_old;
	pump_until(has_struck, NULL);
	end_both();
}
