/* A line chat whose users stay connected, with their names, while the program is replaced.
 *
 *     ./immortal_chat 127.0.0.1:7000        prints "chat PID"
 *     socat - TCP:127.0.0.1:7000            the first line is the user's name
 *     kill -HUP PID, or kill -USR2 PID      starts the program that is now on disk, which prints its own pid
 *
 * The old process hands its listener to the new one, and each user with the name as the blob, once its output is sent.
 */

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <ferry/ferry.h>

enum {
	CHANNEL = STDIN_FILENO, /* of a new process */
	LISTENER_FLAGS = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE
};

struct user {
	LIST_ENTRY(user) link;
	struct bufferevent *bev;
	char name[32];
};

static LIST_HEAD(user_list, user) users;
static struct event_base *base;
static struct evconnlistener *listener;
static struct ferry_dispatcher *heirs; /* NULL: this process is the newest */
static unsigned int passing;           /* handoffs that it has not taken yet */

static void check(int status, const char *subject)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", subject, strerror(-status));
}

static struct ferry_transport *transport_new(int fd)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	check(bev != NULL ? ferry_transport_new(&transport, bev) : -1, "channel");
	return transport;
}

static void end_if_replaced(void)
{
	if (heirs != NULL && passing == 0 && LIST_EMPTY(&users))
		event_base_loopbreak(base);
}

static void passed(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                   enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)handoff, (void)outcome, (void)reason, (void)context;
	passing--;
	end_if_replaced();
}

static void pass(struct ferry_handoff *handoff)
{
	check(ferry_dispatcher_hand_off(heirs, handoff, passed, NULL), "heir");
	passing++;
}

static void forget(struct bufferevent *bev, short events, void *context)
{
	struct user *user = context;
	(void)events;
	LIST_REMOVE(user, link);
	bufferevent_free(bev);
	free(user);
	end_if_replaced();
}

/* Once the output is sent: before, the first call refuses it. */
static void leave(struct bufferevent *bev, void *context)
{
	struct user *user = context;
	struct ferry_handoff *handoff;
	if (heirs == NULL || ferry_handoff_from_bufferevent(&handoff, bev) < 0)
		return;
	check(ferry_handoff_set_blob(handoff, user->name, strlen(user->name)), user->name);
	pass(handoff);
	forget(bev, 0, user);
}

static void on_readable(struct bufferevent *bev, void *context)
{
	struct user *user = context, *each;
	char *line;
	while ((line = evbuffer_readln(bufferevent_get_input(bev), NULL, EVBUFFER_EOL_CRLF)) != NULL) {
		if (user->name[0] == '\0')
			snprintf(user->name, sizeof(user->name), "%s", line);
		else
			for (each = LIST_FIRST(&users); each != NULL; each = LIST_NEXT(each, link))
				evbuffer_add_printf(bufferevent_get_output(each->bev), "%s: %s\n", user->name,
				                    line);
		free(line);
	}
}

static void add_user(struct bufferevent *bev, const char *name, size_t length)
{
	struct user *user = calloc(1, sizeof(*user));
	check(user != NULL && bev != NULL ? 0 : -ENOMEM, "user");
	user->bev = bev;
	snprintf(user->name, sizeof(user->name), "%.*s", (int)length, name);
	LIST_INSERT_HEAD(&users, user, link);
	bufferevent_setcb(bev, on_readable, leave, forget, user);
	bufferevent_enable(bev, EV_READ);
}

static void accepted(struct evconnlistener *from, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *context)
{
	(void)from, (void)address, (void)length, (void)context;
	add_user(bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE), "", 0);
}

/* In the new process. */
static void inherited(struct ferry_worker *worker, struct ferry_handoff *handoff, void *context)
{
	struct ferry_handoff_info info;
	struct bufferevent *bev;
	size_t length;
	(void)context;
	ferry_handoff_get_info(handoff, &info);
	const char *name = ferry_handoff_get_blob(handoff, &length);
	if (strcmp(info.name, "listener") == 0) {
		check(ferry_handoff_to_listener(&listener, handoff, base, accepted, NULL, LISTENER_FLAGS),
		      "listener");
		printf("chat %ld\n", (long)getpid());
	} else if (ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE) == 0) {
		add_user(bev, name, length);
	}
	ferry_worker_done(worker, info.id);
}

static void replace(evutil_socket_t number, short events, void *program)
{
	struct ferry_handoff *handoff;
	int ends[2];
	(void)number, (void)events;
	if (heirs != NULL || listener == NULL)
		return;
	pid_t pid = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ? -1 : fork();
	if (pid == 0 && dup2(ends[1], CHANNEL) >= 0)
		execvp(program, (char *[]){program, NULL});
	if (pid <= 0)
		err(EXIT_FAILURE, "%s", (char *)program);
	close(ends[1]);
	check(ferry_dispatcher_new(&heirs, base, NULL, NULL), "heir");
	ferry_dispatcher_set_queue_limit(heirs, 100000);
	check(ferry_dispatcher_add_worker(NULL, heirs, transport_new(ends[0]), NULL), "heir");
	check(ferry_handoff_from_listener(&handoff, listener), "listener");
	check(ferry_handoff_set_name(handoff, "listener"), "listener");
	pass(handoff);
	evconnlistener_free(listener);
	for (struct user *user = LIST_FIRST(&users), *next; user != NULL; user = next) {
		next = LIST_NEXT(user, link);
		leave(user->bev, user);
	}
}

int main(int argc, char **argv)
{
	const struct ferry_worker_callbacks callbacks = {.handoff_received = inherited};
	struct sockaddr_storage address;
	struct ferry_worker *worker;
	int length = sizeof(address);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGCHLD, SIG_IGN);
	base = event_base_new();
	if (argc == 1) {
		check(ferry_worker_new(&worker, transport_new(CHANNEL), &callbacks, NULL),
		      "usage: immortal_chat ADDRESS:PORT");
	} else if (evutil_parse_sockaddr_port(argv[1], (struct sockaddr *)&address, &length) == 0) {
		listener = evconnlistener_new_bind(base, accepted, NULL, LISTENER_FLAGS, -1,
		                                   (struct sockaddr *)&address, length);
		check(listener != NULL ? 0 : -errno, argv[1]);
		printf("chat %ld\n", (long)getpid());
	}
	event_add(evsignal_new(base, SIGHUP, replace, argv[0]), NULL);
	event_add(evsignal_new(base, SIGUSR2, replace, argv[0]), NULL);
	event_base_dispatch(base);
	return EXIT_SUCCESS;
}
