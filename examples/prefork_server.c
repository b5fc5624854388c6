/* A TCP echo server: the parent accepts connections, and hands each to one of its worker processes.
 * SIGHUP replaces the workers; SIGUSR2 replaces the server by the program that is on the disk now; SIGTERM and SIGINT
 * close the port and let the workers finish.
 *     prefork_server 127.0.0.1:7777 */

#include <signal.h>
#include <stdio.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <ferry/ferry.h>

static struct event_base *base;
static struct ferry_worker *worker; /* NULL: the parent sends no more */
static struct ferry_dispatcher *dispatcher;
static struct ferry_supervisor *supervisor;
static struct ferry_upgrade *upgrade;
static struct evconnlistener *listener;

static void client_wrote(struct bufferevent *bev, void *id)
{
	(void)id;
	bufferevent_write_buffer(bev, bufferevent_get_input(bev));
}

static void client_ended(struct bufferevent *bev, short what, void *id)
{
	(void)what;
	bufferevent_free(bev);
	ferry_worker_done(worker, (uint64_t)(uintptr_t)id);
}

static void handoff_received(struct ferry_worker *from, struct ferry_handoff *handoff, void *unused)
{
	struct ferry_handoff_info info;
	struct bufferevent *bev;
	(void)from, (void)unused;
	ferry_handoff_get_info(handoff, &info);
	if (ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE) == 0) {
		bufferevent_setcb(bev, client_wrote, NULL, client_ended, (void *)(uintptr_t)info.id);
		bufferevent_enable(bev, EV_READ);
	}
}

static void dispatcher_lost(struct ferry_worker *from, int reason, void *unused)
{
	(void)reason, (void)unused;
	ferry_worker_free(from);
	worker = NULL; /* the loop ends by itself, after the last client */
}

static void accepted(struct evconnlistener *from, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *unused)
{
	struct ferry_handoff *handoff;
	(void)from, (void)address, (void)length, (void)unused;
	if (ferry_handoff_new(&handoff, fd) < 0)
		evutil_closesocket(fd);
	else if (ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL) < 0)
		ferry_handoff_free(handoff); /* the queue is full */
}

/* With the last worker this process can accept, and the one before it stops. */
static void worker_ready(struct ferry_supervisor *from, struct ferry_supervisor_worker *process,
                         void *unused)
{
	struct ferry_supervisor_stats stats;
	(void)process, (void)unused;
	ferry_supervisor_get_stats(from, &stats);
	if (listener != NULL || stats.ready < stats.places || stats.state == FERRY_SUPERVISOR_STOPPING)
		return;
	int fd = ferry_socket_set_find(ferry_upgrade_get_set(upgrade), "echo");
	listener = evconnlistener_new(base, accepted, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (listener == NULL || ferry_upgrade_ready(upgrade) < 0)
		event_base_loopbreak(base);
}

static void state_changed(struct ferry_supervisor *from, enum ferry_supervisor_state state,
                          void *unused)
{
	(void)from, (void)unused;
	if (state == FERRY_SUPERVISOR_STOPPED)
		event_base_loopexit(base, NULL);
}

static void started(struct ferry_upgrade *from, struct ferry_socket_set *set, void *context)
{
	const struct ferry_supervisor_options *options = context;
	static const struct ferry_supervisor_callbacks callbacks = {.worker_ready = worker_ready,
	                                                            .state_changed = state_changed};
	(void)from;
	if (ferry_socket_set_find(set, "echo") < 0) { /* the first process: no other one has given it */
		struct sockaddr_storage address;
		int length = sizeof(address), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		evutil_parse_sockaddr_port(options->name, (struct sockaddr *)&address, &length);
		evutil_make_listen_socket_reuseable(fd);
		if (bind(fd, (struct sockaddr *)&address, (socklen_t)length) < 0 || listen(fd, 1024) < 0 ||
		    evutil_make_socket_nonblocking(fd) < 0 ||
		    ferry_socket_set_add(set, "echo", fd, FERRY_FD_TAKE) < 0)
			event_base_loopbreak(base);
	}
	if (ferry_supervisor_new(&supervisor, base, options, &callbacks, NULL) < 0)
		event_base_loopbreak(base);
}

static void replaced(struct ferry_upgrade *from, void *unused)
{
	(void)from, (void)unused;
	if (listener != NULL)
		evconnlistener_free(listener);
	listener = NULL;
	ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_DRAIN);
}

static void signalled(struct ferry_upgrade *from, int number, void *unused)
{
	if (number == SIGHUP && ferry_supervisor_replace(supervisor) == 0)
		return;
	replaced(from, unused);
	ferry_socket_set_remove(ferry_upgrade_get_set(from), "echo");
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = handoff_received,
                                                               .dispatcher_lost = dispatcher_lost};
static const struct ferry_upgrade_callbacks upgrade_callbacks = {
    .started = started, .replaced = replaced, .signalled = signalled};

int main(int argc, char **argv)
{
	const char *const command[] = {"/proc/self/exe", NULL};
	struct ferry_upgrade_options upgrading = {.size = sizeof(upgrading), .argv = argv};
	struct ferry_supervisor_options options = FERRY_SUPERVISOR_OPTIONS_INIT;
	base = event_base_new();
	if (ferry_worker_new_from_environment(&worker, base, &worker_callbacks, NULL) == 0)
		return event_base_dispatch(base) < 0;
	options.name = argv[1];
	options.argv = command;
	options.workers = 4;
	if (argc != 2 || ferry_dispatcher_new(&options.dispatcher, base, NULL, NULL) < 0)
		return fprintf(stderr, "usage: prefork_server ADDRESS:PORT\n"), 2;
	dispatcher = options.dispatcher;
	if (ferry_upgrade_new(&upgrade, base, &upgrading, &upgrade_callbacks, &options) < 0 ||
	    ferry_upgrade_watch_signals(upgrade) < 0 || event_base_dispatch(base) < 0)
		return 1;
	ferry_supervisor_free(supervisor);
	ferry_upgrade_free(upgrade);
	return supervisor == NULL;
}
