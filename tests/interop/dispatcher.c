/* A dispatcher for workers that do not use ferry. It starts workers by a command, to which it appends the number of
 * the channel's descriptor, and hands the connections of a TCP port to them.
 *
 *     interop_dispatcher VERSION COMMAND...    VERSION: the highest, 1 or 2
 *
 * On its standard input, each line is a command: "add" starts a worker, "recall" recalls from all of them. It
 * prints a line for each event. The end of its input ends it. */

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <ferry/ferry.h>
#include <netinet/in.h>

enum { WORKERS_MAX = 16 };

static struct event_base *base;
static struct ferry_dispatcher *dispatcher;
static struct ferry_dispatcher_worker *workers[WORKERS_MAX];
static char **command; /* with an empty place at its end */
static int command_length;

static void check(int status, const char *subject)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", subject, strerror(-status));
}

static void ended(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                  enum ferry_handoff_outcome outcome, int reason, void *context)
{
	static const char *const names[] = {
	    [FERRY_HANDOFF_DONE] = "done",
	    [FERRY_HANDOFF_REJECTED] = "rejected",
	    [FERRY_HANDOFF_EXPIRED] = "expired",
	    [FERRY_HANDOFF_KEPT] = "kept",
	};

	(void)from, (void)handoff, (void)context;
	printf("%s %d\n", names[outcome], reason);
}

static void worker_ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                         void *context)
{
	(void)from, (void)worker, (void)context;
	printf("ready\n");
}

static void worker_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                        int reason, void *context)
{
	(void)from, (void)context;
	for (int i = 0; i < WORKERS_MAX; i++)
		if (workers[i] == worker)
			workers[i] = NULL;
	printf("lost %d\n", reason);
}

static void handoff_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                             struct ferry_handoff *handoff, void *context)
{
	(void)worker, (void)context;
	printf("returned\n");
	check(ferry_dispatcher_hand_off(from, handoff, ended, NULL), "hand off again");
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *context)
{
	struct ferry_handoff *handoff;

	(void)listener, (void)address, (void)length, (void)context;
	check(ferry_handoff_new(&handoff, fd), "handoff");
	check(ferry_handoff_set_name(handoff, "lines"), "name");
	check(ferry_dispatcher_hand_off(dispatcher, handoff, ended, NULL), "hand off");
}

static void exec_worker(int channel)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", channel);
	command[command_length] = number;
	execvp(command[0], command);
	err(127, "%s", command[0]);
}

static void add_worker(void)
{
	struct ferry_transport *transport = NULL;
	int ends[2], place = 0;
	pid_t pid;

	while (place < WORKERS_MAX && workers[place] != NULL)
		place++;
	if (place == WORKERS_MAX)
		errx(EXIT_FAILURE, "too many workers");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0 ||
	    (pid = fork()) < 0)
		err(EXIT_FAILURE, "worker");
	if (pid == 0)
		exec_worker(dup(ends[1])); /* the copy stays open over execve(2), and does not block */
	close(ends[1]);
	struct bufferevent *bev = bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE);
	check(bev != NULL ? ferry_transport_new(&transport, bev) : -1, "channel");
	check(ferry_dispatcher_add_worker(&workers[place], dispatcher, transport, NULL), "worker");
	printf("worker %ld\n", (long)pid);
}

static void recall_all(void)
{
	const struct timeval at_once = {0};

	for (int i = 0; i < WORKERS_MAX; i++)
		if (workers[i] != NULL)
			check(ferry_dispatcher_worker_recall(workers[i], &at_once), "recall");
}

static void on_command(evutil_socket_t fd, short what, void *input)
{
	char *line;

	(void)what;
	if (evbuffer_read(input, fd, -1) <= 0)
		event_base_loopbreak(base);
	while ((line = evbuffer_readln(input, NULL, EVBUFFER_EOL_LF)) != NULL) {
		if (strcmp(line, "add") == 0)
			add_worker();
		else if (strcmp(line, "recall") == 0)
			recall_all();
		free(line);
	}
}

int main(int argc, char **argv)
{
	static const struct timeval long_time = {.tv_sec = 3600};
	static struct ferry_dispatcher_callbacks callbacks = {.worker_ready = worker_ready,
	                                                      .worker_lost = worker_lost,
	                                                      .handoff_returned = handoff_returned};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	if (argc < 3)
		errx(2, "usage: interop_dispatcher VERSION COMMAND...");
	if (argv[1][0] == '1')
		callbacks.handoff_returned = NULL;
	command_length = argc - 2;
	command = calloc((size_t)argc, sizeof(*command));
	base = event_base_new();
	struct evbuffer *input = evbuffer_new();
	if (command == NULL || base == NULL || input == NULL)
		errx(EXIT_FAILURE, "out of memory");
	memcpy(command, argv + 2, (size_t)command_length * sizeof(*command));
	setvbuf(stdout, NULL, _IOLBF, 0);
	check(ferry_dispatcher_new(&dispatcher, base, &callbacks, NULL), "dispatcher");
	check(ferry_dispatcher_set_timeouts(dispatcher, &long_time, &long_time), "times");
	struct evconnlistener *listener =
	    evconnlistener_new_bind(base, accepted, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
	                            -1, (struct sockaddr *)&address, sizeof(address));
	struct event *commands = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, on_command, input);
	if (listener == NULL || commands == NULL || event_add(commands, NULL) < 0 ||
	    getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length) < 0)
		err(EXIT_FAILURE, "start");
	printf("port %d\n", ntohs(address.sin_port));
	event_base_dispatch(base);
	evconnlistener_free(listener);
	ferry_dispatcher_free(dispatcher);
	event_free(commands);
	evbuffer_free(input);
	event_base_free(base);
	free(command);
	return EXIT_SUCCESS;
}
