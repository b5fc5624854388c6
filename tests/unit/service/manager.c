/* Notifications to a service manager: the messages, the address, the order, the watchdog, and fork(2). */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "children.h"
#include "fake_manager.h"
#include "ferry/service_manager.h"
#include "test.h"

static int receiver;
static struct ferry_service_manager *manager;

static void start(void)
{
	receiver = fake_manager_start();
	ck_assert_int_eq(ferry_service_manager_new(&manager, base, true), 0);
}

static void stop(void)
{
	ferry_service_manager_free(manager);
	fake_manager_stop(receiver);
}

static int64_t monotonic_usec(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

TEST_CASE("messages", start, stop);

TEST(each_state_is_a_message)
{
	ck_assert(ferry_service_manager_is_present(manager));
	ck_assert_int_eq(ferry_service_manager_ready(manager), 0);
	fake_manager_expect(receiver, "READY=1");
	ck_assert_int_eq(ferry_service_manager_stopping(manager), 0);
	fake_manager_expect(receiver, "STOPPING=1");
	ck_assert_int_eq(ferry_service_manager_set_status(manager, "two workers"), 0);
	fake_manager_expect(receiver, "STATUS=two workers");
	ck_assert_int_eq(ferry_service_manager_set_main_pid(manager, 4711), 0);
	fake_manager_expect(receiver, "MAINPID=4711");
	ck_assert_int_eq(ferry_service_manager_notify(manager, "ERRNO=2\nX_OWN=1", NULL, 0), 0);
	fake_manager_expect(receiver, "ERRNO=2\nX_OWN=1");
}

TEST(reloading_has_the_monotonic_time_in_the_same_message)
{
	char text[128];
	int64_t before = monotonic_usec(), stamp = 0;
	ck_assert_int_eq(ferry_service_manager_reloading(manager), 0);
	int64_t after = monotonic_usec();
	ck_assert_int_eq(fake_manager_read(receiver, text, sizeof(text)), -1);
	ck_assert_int_eq(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%" SCNd64, &stamp), 1);
	ck_assert(stamp >= before && stamp <= after);
}

TEST(stored_descriptors_go_with_their_name)
{
	char text[128];
	int fds[2];
	make_pipe(fds);
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, "state", fds, 1), 0);
	int stored = fake_manager_read(receiver, text, sizeof(text));
	ck_assert_str_eq(text, "FDSTORE=1\nFDNAME=state");
	ck_assert(same_file(stored, fds[0]));
	close(stored);
	ck_assert_int_eq(ferry_service_manager_remove_fds(manager, "state"), 0);
	fake_manager_expect(receiver, "FDSTOREREMOVE=1\nFDNAME=state");
	ck_assert(fd_is_open(fds[0]));
	close(fds[0]);
	close(fds[1]);
}

TEST(bad_arguments_are_refused)
{
	char name[FERRY_SERVICE_MANAGER_NAME_MAX + 2];
	int fd = 0, closed = 1000;
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(ferry_service_manager_set_status(manager, "two\nlines"), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_set_status(manager, NULL), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_set_main_pid(manager, 0), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_notify(manager, "", NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_notify(manager, "X=1", NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_notify(manager, "X=1", &fd, 254), -E2BIG);
	ck_assert_int_eq(ferry_service_manager_notify(manager, "X=1", &closed, 1), -EBADF);
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, "a", &fd, 0), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, "a:b", &fd, 1), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, "a\nb", &fd, 1), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, "", &fd, 1), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_remove_fds(manager, NULL), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, name, &fd, 1), -EMSGSIZE);
	fake_manager_expect_nothing(receiver);
}

/* The queue of a datagram socket: max_dgram_qlen of the system. */
static unsigned int fill_queue(void)
{
	unsigned int sent = 0;
	while (ferry_service_manager_get_waiting(manager) == 0) {
		ck_assert_int_eq(ferry_service_manager_set_status(manager, "busy"), 0);
		sent++;
	}
	return sent;
}

static bool nothing_waits(void *argument)
{
	(void)argument;
	return ferry_service_manager_get_waiting(manager) == 0;
}

TEST(messages_wait_in_order_for_a_manager_that_does_not_read)
{
	char text[128];
	int fds[2];
	make_pipe(fds);
	unsigned int busy = fill_queue();
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, "late", fds, 1), 0);
	ck_assert_int_eq(ferry_service_manager_ready(manager), 0);
	ck_assert_uint_eq(ferry_service_manager_get_waiting(manager), 3);
	for (; busy > 1; busy--)
		fake_manager_expect(receiver, "STATUS=busy");
	fake_manager_expect_nothing(receiver);
	pump_until(nothing_waits, NULL);
	fake_manager_expect(receiver, "STATUS=busy");
	int stored = fake_manager_read(receiver, text, sizeof(text));
	ck_assert_str_eq(text, "FDSTORE=1\nFDNAME=late");
	ck_assert(same_file(stored, fds[0]));
	fake_manager_expect(receiver, "READY=1");
	close(stored);
	close(fds[0]);
	close(fds[1]);
}

TEST(no_more_than_the_limit_wait)
{
	fill_queue();
	for (int i = 1; i < FERRY_SERVICE_MANAGER_WAITING_MAX; i++)
		ck_assert_int_eq(ferry_service_manager_ready(manager), 0);
	ck_assert_int_eq(ferry_service_manager_ready(manager), -ENOBUFS);
}

TEST(freeing_sends_what_there_is_room_for)
{
	unsigned int busy = fill_queue();
	ck_assert_int_eq(ferry_service_manager_stopping(manager), 0);
	for (; busy > 1; busy--)
		fake_manager_expect(receiver, "STATUS=busy");
	ferry_service_manager_free(manager);
	manager = NULL;
	fake_manager_expect(receiver, "STATUS=busy");
	fake_manager_expect(receiver, "STOPPING=1");
}

TEST(a_manager_that_has_gone_is_an_error)
{
	close(receiver);
	ck_assert_int_eq(ferry_service_manager_ready(manager), -ECONNREFUSED);
	receiver = fake_manager_start();
}

TEST(a_forked_child_sends_nothing_and_may_free)
{
	fill_queue();
	pid_t child = start_child();
	if (child == 0) {
		int wrong = ferry_service_manager_ready(manager) != -ECHILD ||
		            ferry_service_manager_start_watchdog(manager) != -ECHILD;
		ferry_service_manager_free(manager);
		if (wrong)
			_exit(1);
		die();
	}
	wait_for_death(child);
	char text[64];
	fake_manager_read(receiver, text, sizeof(text));
	ck_assert_uint_eq(ferry_service_manager_get_waiting(manager), 1);
}

/* ---- the environment ---- */

TEST_CASE("environment");

TEST(without_a_manager_every_call_succeeds)
{
	int fd = STDERR_FILENO;
	unsetenv("NOTIFY_SOCKET");
	setenv("WATCHDOG_USEC", "1000", 1);
	ck_assert_int_eq(ferry_service_manager_new(&manager, base, true), 0);
	ck_assert(!ferry_service_manager_is_present(manager));
	ck_assert_int_eq(ferry_service_manager_ready(manager), 0);
	ck_assert_int_eq(ferry_service_manager_reloading(manager), 0);
	ck_assert_int_eq(ferry_service_manager_store_fds(manager, "name", &fd, 1), 0);
	ck_assert_uint_eq(ferry_service_manager_get_watchdog(manager), 0);
	ck_assert_int_eq(ferry_service_manager_start_watchdog(manager), 0);
	ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
	ferry_service_manager_free(manager);
}

TEST(null_is_no_manager)
{
	ck_assert_int_eq(ferry_service_manager_ready(NULL), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_start_watchdog(NULL), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_new(NULL, base, false), -EINVAL);
	ck_assert_int_eq(ferry_service_manager_new(&manager, NULL, false), -EINVAL);
	ck_assert(!ferry_service_manager_is_present(NULL));
	ck_assert_uint_eq(ferry_service_manager_get_waiting(NULL), 0);
	ck_assert_uint_eq(ferry_service_manager_get_watchdog(NULL), 0);
	ferry_service_manager_free(NULL);
}

TEST(a_path_is_an_address_too)
{
	char path[] = "/tmp/ferry-notify-XXXXXX";
	int file = mkstemp(path);
	close(file);
	unlink(path);
	receiver = fake_manager_start_at(path);
	ck_assert_int_eq(ferry_service_manager_new(&manager, base, false), 0);
	ck_assert_int_eq(ferry_service_manager_ready(manager), 0);
	fake_manager_expect(receiver, "READY=1");
	ck_assert_str_eq(getenv("NOTIFY_SOCKET"), path);
	unlink(path);
	ck_assert_int_eq(ferry_service_manager_ready(manager), -ENOENT);
	ferry_service_manager_free(manager);
	fake_manager_stop(receiver);
}

TEST(malformed_addresses_are_errors_and_unset)
{
	static const struct {
		const char *text;
		int status;
	} cases[] = {{"relative", -EINVAL},
	             {"@", -EINVAL},
	             {"/", -EINVAL},
	             {"vsock:2:1234", -EAFNOSUPPORT},
	             {"/0123456789012345678901234567890123456789012345678901234567890123456789012345678"
	              "90123456789012345678901234567890",
	              -EINVAL}};
	for (int i = 0; i < COUNT(cases); i++) {
		setenv("NOTIFY_SOCKET", cases[i].text, 1);
		ck_assert_int_eq(ferry_service_manager_new(&manager, base, true), cases[i].status);
		ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
	}
}

TEST(an_empty_address_is_none)
{
	setenv("NOTIFY_SOCKET", "", 1);
	ck_assert_int_eq(ferry_service_manager_new(&manager, base, true), 0);
	ck_assert(!ferry_service_manager_is_present(manager));
	ferry_service_manager_free(manager);
}

/* ---- the watchdog ---- */

static bool message_is_there(void *argument)
{
	char byte;
	(void)argument;
	return recv(receiver, &byte, 1, MSG_PEEK) > 0;
}

static void make_watched_manager(const char *usec, const char *pid)
{
	receiver = fake_manager_start();
	setenv("WATCHDOG_USEC", usec, 1);
	if (pid != NULL)
		setenv("WATCHDOG_PID", pid, 1);
	ck_assert_int_eq(ferry_service_manager_new(&manager, base, true), 0);
}

TEST(the_watchdog_is_fed_by_the_loop)
{
	char pid[16];
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	make_watched_manager("2000", pid);
	ck_assert_uint_eq(ferry_service_manager_get_watchdog(manager), 2000);
	fake_manager_expect_nothing(receiver);
	ck_assert_int_eq(ferry_service_manager_start_watchdog(manager), 0);
	ck_assert_int_eq(ferry_service_manager_start_watchdog(manager), 0);
	for (int i = 0; i < 5; i++) {
		pump_until(message_is_there, NULL);
		fake_manager_expect(receiver, "WATCHDOG=1");
	}
	stop();
}

/* A manager that does not read gets one sign of life when it reads again, not a queue of them. */
TEST(the_watchdog_adds_nothing_to_messages_that_wait)
{
	make_watched_manager("2000", NULL);
	fill_queue();
	ck_assert_int_eq(ferry_service_manager_start_watchdog(manager), 0);
	pump_turns(20);
	ck_assert_uint_eq(ferry_service_manager_get_waiting(manager), 1);
	stop();
}

TEST(a_watchdog_of_another_process_or_without_sense_is_none)
{
	static const char *const cases[][2] = {{"2000", "1"},
	                                       {"2000", "x"},
	                                       {"0", NULL},
	                                       {"-5", NULL},
	                                       {"5s", NULL},
	                                       {"", NULL},
	                                       {"99999999999999999999", NULL}};
	for (int i = 0; i < COUNT(cases); i++) {
		make_watched_manager(cases[i][0], cases[i][1]);
		ck_assert_uint_eq(ferry_service_manager_get_watchdog(manager), 0);
		ck_assert_int_eq(ferry_service_manager_start_watchdog(manager), 0);
		pump_turns(3);
		fake_manager_expect_nothing(receiver);
		stop();
	}
}
