#include "proxy_clients.h"

#include "http_answer.h"
#include "http_head.h"
#include "program.h"
#include "proxy_workers.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

/* Input that a client may still send after it was refused. */
enum { LINGER_BYTES = 256 * 1024 };

static const struct timeval wait_timeout = {.tv_sec = 2};
static const struct timeval linger_timeout = {.tv_sec = 2};
static const struct timeval accept_pause = {.tv_usec = 100000};

enum state {
	READING,   /* the head */
	WAITING,   /* for a worker's channel to have room */
	ANSWERING, /* why it is refused */
	LINGERING  /* until the client has read that: closing with unread input would reset */
};

struct client {
	struct proxy_clients *clients;
	struct client *next;
	struct client **link; /* what points to this one */
	struct client *next_waiting;
	struct bufferevent *bev;
	struct event *deadline;
	enum state state;
	size_t lingered;
	struct http_head head;
};

struct proxy_clients {
	struct event_base *base;
	struct proxy_workers *workers;
	struct evconnlistener *listener;
	struct event *accept_again;
	struct timeval head_timeout;
	struct client *first;
	struct client *first_waiting; /* a queue, by next_waiting */
	struct client **last_waiting;
	unsigned long count;
	unsigned long most;
	bool out_of_descriptors; /* said once */
};

static void wait_in_queue(struct client *client)
{
	struct proxy_clients *clients = client->clients;
	client->state = WAITING;
	client->next_waiting = NULL;
	*clients->last_waiting = client;
	clients->last_waiting = &client->next_waiting;
}

static void leave_queue(struct client *client)
{
	struct proxy_clients *clients = client->clients;
	struct client **link = &clients->first_waiting;
	while (*link != client)
		link = &(*link)->next_waiting;
	*link = client->next_waiting;
	if (*link == NULL)
		clients->last_waiting = link;
}

static void free_client(struct client *client)
{
	struct proxy_clients *clients = client->clients;
	if (client->state == WAITING)
		leave_queue(client);
	*client->link = client->next;
	if (client->next != NULL)
		client->next->link = client->link;
	event_free(client->deadline);
	bufferevent_free(client->bev); /* closes the descriptor, unless it was taken out */
	free(client);
	if (clients->count-- == clients->most && clients->listener != NULL)
		evconnlistener_enable(clients->listener);
}

/* The answer is short, and the socket has taken nothing before: it leaves at the first try. */
static void refuse(struct client *client, int status, const char *fields, const char *why)
{
	struct http_answer answer = {.status = status,
	                             .fields = fields,
	                             .why = why,
	                             .without_body = client->head.method == HTTP_HEAD};
	struct evbuffer *input = bufferevent_get_input(client->bev);
	evbuffer_drain(input, evbuffer_get_length(input));
	client->state = ANSWERING;
	if (http_answer_add(bufferevent_get_output(client->bev), &answer) < 0 ||
	    bufferevent_enable(client->bev, EV_READ | EV_WRITE) < 0 ||
	    event_add(client->deadline, &linger_timeout) < 0)
		free_client(client);
}

/* Everything that was read goes with the descriptor. Its events are deleted already: a closed
 * descriptor whose connection lives on elsewhere could not be taken out of epoll any more. */
static int try_to_hand_off(struct client *client)
{
	struct bufferevent *bev = client->bev;
	int status = proxy_workers_hand_off(client->clients->workers, bufferevent_getfd(bev),
	                                    bufferevent_get_input(bev));
	if (status < 0)
		return status;
	bufferevent_setfd(bev, -1);
	free_client(client);
	return 0;
}

static void refuse_for_now(struct client *client)
{
	refuse(client, 503, "Retry-After: 1\r\n", "no worker is free");
}

/* The head is whole. Nothing more is read of the client here, whatever happens. */
static void hand_off(struct client *client)
{
	bufferevent_disable(client->bev, EV_READ | EV_WRITE);
	int status = client->clients->first_waiting == NULL ? try_to_hand_off(client) : -EAGAIN;
	if (status == -EAGAIN && event_add(client->deadline, &wait_timeout) == 0)
		wait_in_queue(client);
	else if (status < 0)
		refuse_for_now(client);
}

/* Who waits longest goes first. */
static void workers_have_room(void *context)
{
	struct proxy_clients *clients = context;
	struct client *next;
	for (struct client *client = clients->first_waiting; client != NULL; client = next) {
		next = client->next_waiting; /* hand-offs and refusals free no other client */
		int status = try_to_hand_off(client);
		if (status == -EAGAIN)
			return;
		if (status < 0) {
			leave_queue(client);
			refuse_for_now(client);
		}
	}
}

static void read_head(struct client *client, struct evbuffer *input)
{
	size_t length = evbuffer_get_length(input);
	if (length > HTTP_HEAD_LIMIT)
		length = HTTP_HEAD_LIMIT;
	if (length == 0)
		return;
	const char *text = (const char *)evbuffer_pullup(input, (ev_ssize_t)length);
	if (text == NULL) {
		free_client(client);
		return;
	}
	int result = http_head_parse(&client->head, text, length);
	if (result > 0)
		hand_off(client);
	else if (result < 0)
		refuse(client, -result, NULL, client->head.error);
}

static void can_read(struct bufferevent *bev, void *context)
{
	struct client *client = context;
	struct evbuffer *input = bufferevent_get_input(bev);
	if (client->state == READING) {
		read_head(client, input);
		return;
	}
	client->lingered += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
	if (client->lingered > LINGER_BYTES)
		free_client(client);
}

static void all_is_written(struct bufferevent *bev, void *context)
{
	struct client *client = context;
	if (client->state != ANSWERING)
		return;
	client->state = LINGERING;
	shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void something_happened(struct bufferevent *bev, short what, void *context)
{
	struct client *client = context;
	/* A client that ended its half may still read its answer: the deadline bounds how long. */
	if ((what & BEV_EVENT_EOF) != 0 && client->state == ANSWERING &&
	    evbuffer_get_length(bufferevent_get_output(bev)) > 0)
		return;
	free_client(client);
}

/* A client that has sent nothing at all has asked for nothing: browsers open connections ahead, and
 * would take a 408 for the answer to their next request. */
static void deadline_passed(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct client *client = context;
	if (client->state == WAITING) {
		leave_queue(client);
		refuse_for_now(client);
	} else if (client->state == READING &&
	           evbuffer_get_length(bufferevent_get_input(client->bev)) > 0) {
		refuse(client, 408, NULL, "the request head took too long");
	} else {
		free_client(client);
	}
}

static int start(struct client *client)
{
	bufferevent_setcb(client->bev, can_read, all_is_written, something_happened, client);
	if (event_add(client->deadline, &client->clients->head_timeout) < 0 ||
	    bufferevent_enable(client->bev, EV_READ) < 0)
		return -ENOMEM;
	return 0;
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *context)
{
	(void)address, (void)length;
	struct proxy_clients *clients = context;
	clients->out_of_descriptors = false;
	struct client *client = malloc(sizeof(*client));
	if (client == NULL) {
		close(fd);
		return;
	}
	*client =
	    (struct client){.clients = clients,
	                    .next = clients->first,
	                    .link = &clients->first,
	                    .deadline = evtimer_new(clients->base, deadline_passed, client),
	                    .bev = bufferevent_socket_new(clients->base, fd, BEV_OPT_CLOSE_ON_FREE)};
	http_head_init(&client->head);
	if (client->bev == NULL || client->deadline == NULL) {
		if (client->bev != NULL)
			bufferevent_free(client->bev);
		else
			close(fd);
		if (client->deadline != NULL)
			event_free(client->deadline);
		free(client);
		return;
	}
	if (client->next != NULL)
		client->next->link = &client->next;
	clients->first = client;
	if (++clients->count == clients->most)
		evconnlistener_disable(listener);
	if (start(client) < 0)
		free_client(client);
}

/* EMFILE and its like come again at once while a connection waits: accepting pauses. */
static void accept_failed(struct evconnlistener *listener, void *context)
{
	int error = EVUTIL_SOCKET_ERROR();
	struct proxy_clients *clients = context;
	if (!clients->out_of_descriptors)
		program_say("accepting pauses: %s", strerror(error));
	clients->out_of_descriptors = true;
	if (event_add(clients->accept_again, &accept_pause) == 0)
		evconnlistener_disable(listener);
}

static void accept_again(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct proxy_clients *clients = context;
	if (clients->count < clients->most)
		evconnlistener_enable(clients->listener);
}

static int listen_on(struct proxy_clients *clients, const struct proxy_clients_options *options)
{
	errno = 0;
	clients->listener = evconnlistener_new_bind(
	    clients->base, accepted, clients,
	    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, SOMAXCONN,
	    (const struct sockaddr *)&options->address, (int)options->address_length);
	if (clients->listener == NULL)
		return errno != 0 ? -errno : -ENOMEM;
	evconnlistener_set_error_cb(clients->listener, accept_failed);
	return 0;
}

int proxy_clients_new(struct proxy_clients **out, struct event_base *base,
                      struct proxy_workers *workers, const struct proxy_clients_options *options)
{
	struct proxy_clients *clients = calloc(1, sizeof(*clients));
	if (clients == NULL)
		return -ENOMEM;
	clients->base = base;
	clients->workers = workers;
	clients->last_waiting = &clients->first_waiting;
	clients->head_timeout = options->head_timeout;
	clients->most = options->most_clients;
	clients->accept_again = evtimer_new(base, accept_again, clients);
	int status = clients->accept_again != NULL ? listen_on(clients, options) : -ENOMEM;
	if (status < 0) {
		proxy_clients_free(clients);
		return status;
	}
	proxy_workers_set_room_cb(workers, workers_have_room, clients);
	*out = clients;
	return 0;
}

int proxy_clients_name(const struct proxy_clients *clients, char *out, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[INET6_ADDRSTRLEN], port[6];
	if (getsockname(evconnlistener_get_fd(clients->listener), (struct sockaddr *)&address,
	                &length) < 0)
		return -errno;
	if (getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
	                NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return -EINVAL;
	evutil_snprintf(out, size, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
	return 0;
}

void proxy_clients_free(struct proxy_clients *clients)
{
	if (clients == NULL)
		return;
	proxy_workers_set_room_cb(clients->workers, NULL, NULL);
	if (clients->listener != NULL)
		evconnlistener_free(clients->listener);
	clients->listener = NULL;
	struct client *next;
	for (struct client *client = clients->first; client != NULL; client = next) {
		next = client->next;
		free_client(client);
	}
	if (clients->accept_again != NULL)
		event_free(clients->accept_again);
	free(clients);
}
