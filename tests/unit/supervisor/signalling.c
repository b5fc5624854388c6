/* Signals that the owner sends to its processes. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "supervised.h"

static int output;
static unsigned int started, signalled;

/* Each process writes 'u' when it is up, and 's' for each signal, twice at most. */
static void open_listeners(void)
{
	int fds[2];
	use_script("trap 'printf s' USR1; printf u; read x <&3; read x <&3; read x <&3");
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(fcntl(fds[1], F_SETFL, 0), 0);
	output = fds[0];
	started = signalled = 0;
	options.standard_fds[1] = fds[1];
	open_plain_supervisor();
	close(fds[1]);
}

static bool have_written(void *argument)
{
	const unsigned int *wanted = argument;
	char byte;

	while (read(output, &byte, 1) == 1) {
		started += byte == 'u';
		signalled += byte == 's';
	}
	return started >= wanted[0] && signalled >= wanted[1];
}

static void wait_for_output(unsigned int starts, unsigned int signals)
{
	unsigned int wanted[] = {starts, signals};

	pump_until(have_written, wanted);
	ck_assert_uint_eq(started, starts);
	ck_assert_uint_eq(signalled, signals);
}

TEST(a_signal_reaches_processes_that_leave_too)
{
	open_listeners();
	wait_for_output(1, 0);
	pump_until_count(&notes.channels, 1);
	struct ferry_transport *first = notes.transport;
	struct ferry_supervisor_worker *leaving = place_info(0).worker;
	notes.transport = NULL;
	ck_assert_int_eq(ferry_supervisor_worker_stop(leaving, FERRY_SUPERVISOR_DRAIN), 0);
	pump_until_count(&notes.started, 2);
	wait_for_output(2, 0);
	ck_assert_int_eq(ferry_supervisor_signal(supervisor, SIGUSR1), 0);
	wait_for_output(2, 2);
	ck_assert_int_eq(ferry_supervisor_worker_signal(leaving, SIGUSR1), 0);
	wait_for_output(2, 3);
	ferry_transport_free(first);
	close_supervisor();
	close(output);
}

TEST(wrong_signals_are_refused)
{
	open_listeners();
	wait_for_output(1, 0);
	ck_assert_int_eq(ferry_supervisor_signal(NULL, SIGUSR1), -EINVAL);
	ck_assert_int_eq(ferry_supervisor_worker_signal(NULL, SIGUSR1), -EINVAL);
	static const int wrong[] = {-1, 0, 1000};
	for (int i = 0; i < COUNT(wrong); i++) {
		ck_assert_int_eq(ferry_supervisor_signal(supervisor, wrong[i]), -EINVAL);
		ck_assert_int_eq(ferry_supervisor_worker_signal(place_info(0).worker, wrong[i]), -EINVAL);
	}
	close_supervisor();
	close(output);
}
