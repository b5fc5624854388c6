#include "heap_sweep.h"

#include <errno.h>
#include <stdio.h>

#include <event2/bufferevent.h>

#include "heap.h"

static void tick(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

static unsigned long run_scenario(void (*scenario)(struct event_base *loop),
                                  void (*judge)(unsigned long failing), unsigned long failing)
{
	int fds_before = count_open_fds();
	size_t blocks_before = heap_blocks();
	struct event_base *loop = event_base_new();
	struct event *ticker = event_new(loop, -1, EV_PERSIST, tick, NULL);
	event_add(ticker, &(struct timeval){.tv_usec = 2000});

	heap_watch(failing);
	scenario(loop);
	for (int i = 0; i < 3; i++) /* freed bufferevents are finalised by the loop */
		event_base_loop(loop, EVLOOP_NONBLOCK);
	unsigned long count = heap_unwatch();

	judge(failing);
	for (int i = 0; i < 3; i++)
		event_base_loop(loop, EVLOOP_NONBLOCK);
	event_free(ticker);
	event_base_free(loop);
	ck_assert_msg(count_open_fds() == fds_before, "allocation %lu: a descriptor leaks", failing);
	ck_assert_msg(heap_blocks() == blocks_before, "allocation %lu: memory leaks", failing);
	return count;
}

void sweep_scenario(void (*scenario)(struct event_base *loop), void (*judge)(unsigned long failing),
                    unsigned long at_least)
{
	unsigned long count = run_scenario(scenario, judge, 0);
	for (unsigned long failing = 1; failing <= count; failing++)
		run_scenario(scenario, judge, failing);
	printf("%lu allocations\n", count);
	ck_assert_uint_gt(count, at_least);
}

int sweep_make_transport(struct ferry_transport **out, struct event_base *loop, int fd)
{
	heap_suspend();
	struct bufferevent *bev = bufferevent_socket_new(loop, fd, BEV_OPT_CLOSE_ON_FREE);
	heap_continue();
	int status = ferry_transport_new(out, bev);
	if (status != 0)
		bufferevent_free(bev);
	return status;
}

/* Returns the allocations of the call. */
static unsigned long run_function(const struct swept_function *function, void (*clean_up)(void),
                                  unsigned long failing, int *status)
{
	event_base_free(base);
	base = event_base_new();
	function->prepare();
	heap_watch(failing);
	*status = function->call();
	unsigned long count = heap_unwatch();

	if (*status < 0) {
		ck_assert_int_eq(*status, -ENOMEM);
		function->unchanged();
		ck_assert_int_eq(function->call(), 0);
	}
	function->done();
	clean_up();
	event_base_free(base);
	ck_assert_msg(heap_blocks() == 0, "%s: allocation %lu: memory leaks", function->name, failing);
	base = event_base_new();
	return count;
}

void sweep_function(const struct swept_function *function, void (*clean_up)(void))
{
	unsigned long count, failing = 0, unnoticed = 0;
	int status;

	do {
		count = run_function(function, clean_up, ++failing, &status);
		if (status == 0 && count >= failing)
			unnoticed++;
	} while (status < 0 || count >= failing);
	printf("%s: %lu allocations\n", function->name, failing - 1);
	ck_assert_uint_gt(failing, function->at_least);
	ck_assert_uint_eq(unnoticed, function->unnoticed);
}
