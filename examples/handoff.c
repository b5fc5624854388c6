/* A dispatcher that accepts connections, and two workers that serve them, each a process of its own.
 * The connections that a worker has not claimed when it dies go to the other one.
 *
 *     ./handoff 127.0.0.1:7000 &
 *     socat - TCP:127.0.0.1:7000
 *
 * SIGINT and SIGTERM end all of them. src/programs/ferry-proxy also replaces workers that die.
 */

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <ferry/ferry.h>

enum { WORKERS = 2 };

/* A process that cannot even start ends, and the kernel closes its descriptors. */
static void check(int status, const char *subject)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", subject, strerror(-status));
}

static struct ferry_transport *transport_new(struct event_base *base, int fd)
{
	struct ferry_transport *transport = NULL;
	check(ferry_transport_new_socket(&transport, base, fd), "channel");
	return transport;
}

/* In a worker: the connection is this process's alone, and closed on return because it is not stolen.
 * To serve it longer: ferry_handoff_to_bufferevent(), and ferry_worker_done() in the end. */
static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	char answer[64];
	(void)worker, (void)context;
	int length = snprintf(answer, sizeof(answer), "worker %ld\n", (long)getpid());
	int fd = ferry_handoff_get_fd(handoff);
	/* A worker that is stopped may have a copy in its channel: the shutdown ends that too. */
	if (send(fd, answer, (size_t)length, MSG_NOSIGNAL) < 0 || shutdown(fd, SHUT_WR) < 0)
		ferry_handoff_reject(handoff, -errno);
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(worker); /* the loop returns, because nothing else is left in it */
}

static int work(int channel)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .dispatcher_lost = dispatcher_lost};
	struct ferry_worker *worker;
	struct event_base *base = event_base_new();
	signal(SIGINT, SIG_IGN); /* from a terminal: the dispatcher gets it too, and ends the worker */
	check(ferry_worker_new(&worker, transport_new(base, channel), &callbacks, NULL), "worker");
	event_base_dispatch(base);
	event_base_free(base);
	return EXIT_SUCCESS;
}

/* In the dispatcher. A connection that has another outcome was taken by a worker. */
static void ended(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                  enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)handoff, (void)context;
	if (outcome == FERRY_HANDOFF_REJECTED || outcome == FERRY_HANDOFF_EXPIRED)
		warnx("connection: %s", strerror(-reason));
}

/* The descriptor belongs to the handoff, and that to the dispatcher until a worker has claimed it. */
static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *dispatcher)
{
	struct ferry_handoff *handoff;
	(void)listener, (void)address, (void)length;
	int status = ferry_handoff_new(&handoff, fd);
	if (status < 0)
		close(fd); /* a call that fails leaves it the caller's */
	else if ((status = ferry_dispatcher_hand_off(dispatcher, handoff, ended, NULL)) < 0)
		ferry_handoff_free(handoff);
	if (status < 0)
		warnx("connection: %s", strerror(-status));
}

static void stop(evutil_socket_t number, short events, void *base)
{
	(void)number, (void)events;
	event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	struct ferry_dispatcher *dispatcher = NULL;
	int length = sizeof(address), channels[WORKERS], ends[2];
	pid_t pid;
	if (argc != 2 || evutil_parse_sockaddr_port(argv[1], (struct sockaddr *)&address, &length) < 0)
		errx(2, "usage: handoff ADDRESS:PORT");
	for (int i = 0; i < WORKERS; i++) { /* before the dispatcher opens what they would share */
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (pid = fork()) < 0)
			err(EXIT_FAILURE, "worker");
		for (int j = 0; pid == 0 && j < i; j++)
			close(channels[j]);
		close(ends[pid == 0 ? 0 : 1]);
		if (pid == 0)
			return work(ends[1]);
		channels[i] = ends[0];
	}
	struct event_base *base = event_base_new();
	check(base != NULL ? ferry_dispatcher_new(&dispatcher, base, NULL, NULL) : -ENOMEM, "loop");
	ferry_dispatcher_set_queue_limit(dispatcher, 256); /* further connections are closed */
	struct evconnlistener *listener =
	    evconnlistener_new_bind(base, accepted, dispatcher,
	                            LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
	                            -1, (struct sockaddr *)&address, length);
	check(listener != NULL ? 0 : -errno, argv[1]);
	for (int i = 0; i < WORKERS; i++)
		check(ferry_dispatcher_add_worker(NULL, dispatcher, transport_new(base, channels[i]), NULL),
		      "worker");
	struct event *signals[2];
	for (int i = 0; i < 2; i++) {
		signals[i] = evsignal_new(base, i == 0 ? SIGINT : SIGTERM, stop, base);
		check(signals[i] != NULL && event_add(signals[i], NULL) == 0 ? 0 : -ENOMEM, "signals");
	}
	event_base_dispatch(base);
	evconnlistener_free(listener);
	ferry_dispatcher_free(dispatcher); /* closes the channels, and so ends the workers */
	event_free(signals[0]);
	event_free(signals[1]);
	event_base_free(base);
	while (wait(NULL) > 0)
		;
	return EXIT_SUCCESS;
}
