/* A line chat whose users stay connected, with their names, while the program is replaced.
 *
 *     ./immortal_chat 127.0.0.1:7000        prints "chat PID"
 *     socat - TCP:127.0.0.1:7000            the first line is the user's name
 *     kill -HUP PID, or kill -USR2 PID      starts the program that is now on disk, which prints its own pid
 *
 * The new process takes over the listening socket, and then each user with the name as the blob, once its output is
 * sent. If the new program does not start, the old one goes on.
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

struct user {
	LIST_ENTRY(user) link;
	struct bufferevent *bev;
	char name[32];
};

static LIST_HEAD(user_list, user) users;
static struct event_base *base;
static struct evconnlistener *listener; /* NULL: this process was replaced */
static struct ferry_upgrade *upgrade;

static void check(int status, const char *subject)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", subject, strerror(-status));
}

static void forget(struct bufferevent *bev, short events, void *context)
{
	struct user *user = context;
	(void)events;
	LIST_REMOVE(user, link);
	bufferevent_free(bev);
	free(user);
	if (listener == NULL && LIST_EMPTY(&users))
		ferry_upgrade_finish(upgrade);
}

/* Once the output is sent: before, the first call refuses it. */
static void leave(struct bufferevent *bev, void *context)
{
	struct user *user = context;
	struct ferry_handoff *handoff;
	if (listener != NULL || ferry_handoff_from_bufferevent(&handoff, bev) < 0)
		return;
	check(ferry_handoff_set_blob(handoff, user->name, strlen(user->name)), user->name);
	check(ferry_upgrade_give(upgrade, handoff), user->name);
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

static void started(struct ferry_upgrade *of, struct ferry_socket_set *set, void *text)
{
	const unsigned int flags = LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
	struct sockaddr_storage address;
	int length = sizeof(address), fd = ferry_socket_set_find(set, "chat");
	if (fd >= 0) {
		listener = evconnlistener_new(base, accepted, NULL, flags, 0, fd);
	} else if (evutil_parse_sockaddr_port(text, (struct sockaddr *)&address, &length) == 0) {
		listener = evconnlistener_new_bind(base, accepted, NULL, flags, -1,
		                                   (struct sockaddr *)&address, length);
		check(listener != NULL ? 0 : -errno, text);
		fd = evconnlistener_get_fd(listener);
		check(ferry_socket_set_add(set, "chat", fd, FERRY_FD_TAKE), text);
	}
	check(listener != NULL ? ferry_upgrade_ready(of) : -EINVAL, text);
}

static void serving(struct ferry_upgrade *of, void *context)
{
	(void)of, (void)context;
	printf("chat %ld\n", (long)getpid());
}

static void received(struct ferry_upgrade *of, struct ferry_handoff *handoff, void *context)
{
	struct bufferevent *bev = NULL;
	size_t length;
	(void)of, (void)context;
	const char *name = ferry_handoff_get_blob(handoff, &length);
	if (ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE) == 0)
		add_user(bev, name, length);
	ferry_handoff_free(handoff);
}

static void replaced(struct ferry_upgrade *of, void *context)
{
	struct user *user, *next;
	(void)context;
	evconnlistener_free(listener);
	listener = NULL;
	if (LIST_EMPTY(&users))
		ferry_upgrade_finish(of);
	for (user = LIST_FIRST(&users); user != NULL; user = next) {
		next = LIST_NEXT(user, link);
		leave(user->bev, user);
	}
}

static void finished(struct ferry_upgrade *of, void *context)
{
	(void)of, (void)context;
	event_base_loopbreak(base);
}

static void signalled(struct ferry_upgrade *of, int number, void *context)
{
	(void)context;
	if (number != SIGHUP)
		event_base_loopbreak(base);
	else if (ferry_upgrade_start(of) < 0)
		warnx("no new process");
}

int main(int argc, char **argv)
{
	static const struct ferry_upgrade_callbacks callbacks = {.started = started,
	                                                         .serving = serving,
	                                                         .connection_received = received,
	                                                         .replaced = replaced,
	                                                         .finished = finished,
	                                                         .signalled = signalled};
	struct ferry_upgrade_options options = {.size = sizeof(options), .argv = argv};
	if (argc != 2)
		errx(2, "usage: immortal_chat ADDRESS:PORT");
	setvbuf(stdout, NULL, _IOLBF, 0);
	base = event_base_new();
	check(ferry_upgrade_new(&upgrade, base, &options, &callbacks, argv[1]), "upgrade");
	check(ferry_upgrade_watch_signals(upgrade), "signals");
	event_base_dispatch(base);
	ferry_upgrade_free(upgrade);
	return EXIT_SUCCESS;
}
