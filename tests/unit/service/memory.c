/* A service manager without memory: each allocation fails in turn. A message is sent or refused as a whole. */

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_manager.h"
#include "ferry/service_manager.h"
#include "heap.h"
#include "heap_sweep.h"
#include "test.h"

static int receiver;
static struct ferry_service_manager *manager;
static int status;

static void run_scenario(struct event_base *loop)
{
	int fd = STDERR_FILENO;
	manager = NULL;
	status = ferry_service_manager_new(&manager, loop, false);
	if (status == 0)
		status = ferry_service_manager_start_watchdog(manager);
	/* Until some wait. */
	while (status == 0 && ferry_service_manager_get_waiting(manager) < 3)
		status = ferry_service_manager_store_fds(manager, "name", &fd, 1);
	if (status == 0)
		status = ferry_service_manager_set_status(manager, "waits");
}

static void judge(unsigned long failing)
{
	ck_assert_int_eq(status, failing == 0 ? 0 : status == 0 ? 0 : -ENOMEM);
	if (failing == 0)
		ck_assert_uint_eq(ferry_service_manager_get_waiting(manager), 4);
	ferry_service_manager_free(manager);
	char text[64];
	for (int fd = 0; recv(receiver, text, 1, MSG_PEEK) > 0;) {
		fd = fake_manager_read(receiver, text, sizeof(text));
		if (fd >= 0)
			close(fd);
	}
}

BEFORE_ALL
{
	heap_take_over();
}

TEST(each_allocation_may_fail)
{
	receiver = fake_manager_start();
	setenv("WATCHDOG_USEC", "1000000", 1);
	sweep_scenario(run_scenario, judge, 8);
	fake_manager_stop(receiver);
}
