#include "programs/ferry-proxy/clients.h"

#include "programs/ferry-proxy/client_listener.h"
#include "programs/ferry-proxy/routes.h"
#include "programs/ferry-proxy/services.h"
#include "programs/ferry-proxy/tls_hello.h"
#include "programs/http/answer.h"
#include "programs/http/head.h"
#include "programs/shared/access_log.h"
#include "programs/shared/client_address.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum {
	LINGER_BYTES = 256 * 1024, /* the most input that is dropped after a refusal */
	SPARE_FDS = 64             /* descriptors for other purposes than clients */
};

static const struct timeval linger_timeout = {.tv_sec = 2};
static const struct timeval accept_pause = {.tv_usec = 100000};
static const struct timeval hurry_begun = {.tv_sec = 2};
static const struct timeval hurry_silent = {.tv_usec = 250000};

enum state {
	EXPECTING, /* waits for the PROXY header */
	READING,   /* reads the head, or the ClientHello */
	ANSWERING, /* writes the refusal */
	LINGERING /* drops input until the client has read the refusal: a close with unread input resets */
};

struct client {
	struct clients *clients;
	struct client *next;
	struct client **link; /* the pointer to this client */
	struct bufferevent *bev;
	struct event *deadline;
	enum state state;
	bool kept; /* it has had an answer */
	bool tls;  /* it begins with a ClientHello, and gets no answer in clear text */
	bool inet; /* its socket is one of IPv4 or IPv6 */
	size_t lingered;
	struct client_address address;
	struct http_head head;
	struct access_entry *entry; /* of the refusal; NULL: no line is due */
	int status;
	size_t body;
};

/* The reasons for which accepting is paused; bits. */
enum pause { NOT_STARTED = 1, NO_DESCRIPTORS = 2, TOO_MANY = 4, QUEUES_FULL = 8 };

struct clients {
	struct event_base *base;
	const struct conf *conf;
	const struct routes *routes;
	struct services *services;
	struct client_listener *listeners[CONF_LISTENS];
	unsigned int listener_count;
	unsigned int pauses;
	struct event *accept_again;
	struct client *first;
	unsigned long count;
	struct idle_clients *idle;
	unsigned long most;
	bool out_of_descriptors; /* and the log has a line about it */
	uint64_t accepted;
	uint64_t tls;
	uint64_t gone;
	struct refusals refusals;
	const struct access_log *access_log; /* NULL: none */
};

/* ---- the pauses of accepting ---- */

static void set_pause(struct clients *clients, enum pause why, bool is)
{
	unsigned int before = clients->pauses;
	if (is)
		clients->pauses |= why;
	else
		clients->pauses &= ~(unsigned int)why;
	if ((before == 0) == (clients->pauses == 0))
		return;
	for (unsigned int i = 0; i < clients->listener_count; i++)
		client_listener_enable(clients->listeners[i], before != 0);
}

/* A client needs a descriptor while its head is read, then until a worker has claimed it, and again while it idles. */
static bool have_room(const struct clients *clients)
{
	return clients->count + services_unclaimed(clients->services) +
	           idle_clients_count(clients->idle) <
	       clients->most;
}

static void pause_briefly(struct clients *clients, enum pause why)
{
	if (event_add(clients->accept_again, &accept_pause) == 0)
		set_pause(clients, why, true);
}

/* The client that idles longest leaves. False: none does. */
static bool make_room(struct clients *clients)
{
	return have_room(clients) || idle_clients_drop_one(clients->idle);
}

static void resume_accepting(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct clients *clients = context;
	set_pause(clients, NO_DESCRIPTORS, false);
	if (make_room(clients))
		set_pause(clients, TOO_MANY, false);
	else
		event_add(clients->accept_again, &accept_pause);
}

void clients_set_full(struct clients *clients, bool full)
{
	program_log(full ? "accepting is paused: no queue has room" : "accepting resumes");
	set_pause(clients, QUEUES_FULL, full);
}

/* ---- one client ---- */

static void free_client(struct client *client)
{
	struct clients *clients = client->clients;
	*client->link = client->next;
	if (client->next != NULL)
		client->next->link = client->link;
	access_log_end(clients->access_log, client->entry, client->status,
	               client->state == LINGERING ? client->body : 0);
	event_free(client->deadline);
	bufferevent_free(client->bev); /* and closes the descriptor, unless the handoff has it */
	free(client);
	clients->count--;
	if ((clients->pauses & TOO_MANY) != 0 && have_room(clients))
		set_pause(clients, TOO_MANY, false);
}

static void drop_failed(struct client *client)
{
	client->clients->refusals.failed++;
	free_client(client);
}

static void log_refusal(struct client *client, const struct http_answer *answer, const char *text)
{
	char name[FERRY_ADDRESS_TEXT_SIZE];
	if (client->clients->access_log == NULL || client->entry != NULL)
		return;
	client->entry = access_entry_new(
	    ferry_address_format(&client->address.client, name, sizeof(name)), &client->head, text);
	client->status = answer->status;
	client->body = http_answer_length(answer);
}

/* The bytes of a refusal are in the output. */
static void answer_client(struct client *client, bool added)
{
	struct evbuffer *input = bufferevent_get_input(client->bev);
	evbuffer_drain(input, evbuffer_get_length(input));
	client->state = ANSWERING;
	if (!added || bufferevent_enable(client->bev, EV_READ | EV_WRITE) < 0 ||
	    event_add(client->deadline, &linger_timeout) < 0)
		drop_failed(client);
}

static void send_alert(struct client *client, unsigned char alert)
{
	unsigned char record[TLS_ALERT_SIZE];
	tls_alert_put(record, alert);
	answer_client(client,
	              evbuffer_add(bufferevent_get_output(client->bev), record, sizeof(record)) == 0);
}

/* The answer fits into the empty buffer of the socket: one write sends all of it. `text` is that of the head, if it is
 * complete. */
static void refuse_client(struct client *client, int status, const char *why, const char *text)
{
	struct http_answer answer = {.status = status,
	                             .why = why,
	                             .retry_after =
	                                 status == 503 ? client->clients->conf->retry_after : 0,
	                             .without_body = client->head.method == HTTP_HEAD};
	log_refusal(client, &answer, text);
	answer_client(client, http_answer_add(bufferevent_get_output(client->bev), &answer) == 0);
}

static void add_client(struct clients *clients, struct client *client)
{
	client->clients = clients;
	client->next = clients->first;
	client->link = &clients->first;
	if (client->next != NULL)
		client->next->link = &client->next;
	clients->first = client;
	clients->count++;
}

static void client_readable(struct bufferevent *bev, void *context);
static void answer_written(struct bufferevent *bev, void *context);
static void client_event(struct bufferevent *bev, short what, void *context);
static void client_timed_out(evutil_socket_t fd, short what, void *context);

/* Owns the descriptor, also on failure. */
static struct client *new_client(struct clients *clients, int fd)
{
	struct client *client = malloc(sizeof(*client));
	if (client == NULL) {
		close(fd);
		return NULL;
	}
	*client =
	    (struct client){.deadline = evtimer_new(clients->base, client_timed_out, client),
	                    .bev = bufferevent_socket_new(clients->base, fd, BEV_OPT_CLOSE_ON_FREE)};
	http_head_init(&client->head);
	http_head_set_limits(&client->head, clients->conf->head_size, clients->conf->head_fields);
	if (client->bev == NULL || client->deadline == NULL) {
		if (client->bev != NULL)
			bufferevent_free(client->bev);
		else
			close(fd);
		if (client->deadline != NULL)
			event_free(client->deadline);
		free(client);
		return NULL;
	}
	bufferevent_setcb(client->bev, client_readable, answer_written, client_event, client);
	add_client(clients, client);
	return client;
}

/* `bytes` are the first ones of its input. */
static void start_reading(struct client *client, const void *bytes, size_t length)
{
	const struct timeval *timeout = &client->clients->conf->head_timeout;
	/* libevent lets nobody but itself append. */
	if (evbuffer_prepend(bufferevent_get_input(client->bev), bytes, length) < 0 ||
	    event_add(client->deadline, timeout) < 0 || bufferevent_enable(client->bev, EV_READ) < 0)
		drop_failed(client);
	else if (length > 0)
		bufferevent_trigger(client->bev, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
}

/* ---- handing off, and taking back ---- */

/* NULL: it has no socket, or there is no memory. */
static struct client *take_client(struct clients *clients, struct ferry_handoff *handoff)
{
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	int fd = ferry_handoff_steal_fd(handoff);
	if (fd < 0)
		return NULL;
	if (!info.inet_stream) /* a worker may have made it blocking */
		(void)evutil_make_socket_nonblocking(fd);
	struct client *client = new_client(clients, fd);
	if (client != NULL)
		client->inet = info.inet_stream;
	return client;
}

/* No request begins with that byte. */
static bool is_tls(const struct ferry_handoff *handoff)
{
	size_t length;
	const unsigned char *bytes = ferry_handoff_get_bytes(handoff, &length);
	return length > 0 && bytes[0] == TLS_HANDSHAKE_BYTE;
}

static void answer_unserved(struct clients *clients, struct ferry_handoff *handoff,
                            uint64_t *counter)
{
	size_t length;
	const char *bytes = ferry_handoff_get_bytes(handoff, &length);
	struct http_head head;
	http_head_init(&head);
	http_head_set_limits(&head, clients->conf->head_size, clients->conf->head_fields);
	http_head_parse(&head, bytes, length); /* for the method: HEAD gets no body */
	struct client_address address = {.proxied = false};
	size_t blob_length;
	const void *blob = ferry_handoff_get_blob(handoff, &blob_length);
	client_address_get(&address, blob, blob_length);
	bool tls = is_tls(handoff);
	struct client *client = take_client(clients, handoff);
	if (client == NULL) {
		clients->refusals.failed++;
		return;
	}
	client->head = head;
	client->address = address;
	++*counter;
	if (tls)
		send_alert(client, TLS_ALERT_INTERNAL_ERROR);
	else
		refuse_client(client, 503, "no worker is free", bytes);
}

void clients_take_back(struct clients *clients, struct ferry_handoff *handoff)
{
	answer_unserved(clients, handoff, &clients->refusals.expired);
}

/* A client sends its next request, which is read as its first one was. */
static void client_woke(struct ferry_handoff *handoff, const struct client_address *address,
                        void *context)
{
	struct clients *clients = context;
	size_t length;
	const void *bytes = ferry_handoff_get_bytes(handoff, &length);
	struct client *client = take_client(clients, handoff);
	if (client == NULL) {
		clients->refusals.failed++;
	} else {
		client->state = READING;
		client->kept = true;
		client->address = *address;
		start_reading(client, bytes, length);
	}
	ferry_handoff_free(handoff);
}

void clients_take_idle(struct clients *clients, struct ferry_handoff *handoff,
                       const struct client_address *address, uint64_t idle_msec)
{
	idle_clients_add(clients->idle, handoff, address, idle_msec);
}

void clients_give_idle(struct clients *clients, idle_client_moved_cb give, void *context)
{
	idle_clients_give(clients->idle, give, context);
}

void clients_close_idle(struct clients *clients)
{
	idle_clients_close(clients->idle);
}

static int describe_client(struct ferry_handoff *handoff, const struct conf_service *service,
                           const struct client_address *address, bool routes_each)
{
	unsigned char blob[CLIENT_ADDRESS_MAX];
	char host[FERRY_ADDRESS_TEXT_SIZE];
	struct client_address described = *address;
	described.routes_each = routes_each;
	int status = ferry_handoff_set_blob(handoff, blob, client_address_put(&described, blob));
	if (status == 0)
		status = ferry_handoff_set_name(handoff, service->name);
	if (status < 0 || service->choice != FERRY_DISPATCH_BY_KEY)
		return status;
	ferry_address_format_host(&address->client, host, sizeof(host));
	return ferry_handoff_set_key(handoff, host, strlen(host));
}

static void turn_away(struct clients *clients, struct ferry_handoff *handoff)
{
	answer_unserved(clients, handoff, &clients->refusals.queue_full);
	ferry_handoff_free(handoff);
}

/* Owns the handoff. `waits`: if the queue is full, the client waits for room. */
static void offer(struct clients *clients, struct ferry_handoff *handoff, unsigned int service,
                  const struct client_address *address, bool waits)
{
	int status = services_hand_off(clients->services, service, handoff, address);
	if (status == -ENOBUFS && waits)
		status = idle_clients_wait(clients->idle, handoff, &clients->conf->queue_timeout, service);
	if (status < 0)
		turn_away(clients, handoff);
}

/* Owns the handoff. New clients wait in the backlog, and kept ones here. */
static void hand_off(struct clients *clients, struct ferry_handoff *handoff, unsigned int service,
                     const struct client_address *address, bool kept)
{
	int status = describe_client(handoff, &clients->conf->services[service], address,
	                             clients->conf->service_count > 1 && !is_tls(handoff));
	if (status == 0)
		offer(clients, handoff, service, address, kept);
	else
		turn_away(clients, handoff);
}

/* The head is complete. From now on the proxy reads nothing from the client. */
static void hand_off_client(struct client *client, unsigned int service)
{
	struct clients *clients = client->clients;
	struct client_address address = client->address;
	bool kept = client->kept, inet = client->inet;
	struct ferry_handoff *handoff;
	bufferevent_disable(client->bev, EV_READ | EV_WRITE);
	if (ferry_handoff_from_bufferevent(&handoff, client->bev) < 0) {
		drop_failed(client);
		return;
	}
	free_client(client);
	if (inet)
		ferry_handoff_set_inet_stream(handoff);
	hand_off(clients, handoff, service, &address, kept);
}

static void client_unserved(struct ferry_handoff *handoff, const struct client_address *address,
                            void *context)
{
	(void)address;
	clients_take_back(context, handoff);
	ferry_handoff_free(handoff);
}

void clients_continue(struct clients *clients)
{
	struct client_address address;
	unsigned int service;
	unsigned long left = clients_waiting(clients);
	for (; left > 0 && !services_are_full(clients->services); left--) {
		struct ferry_handoff *handoff =
		    idle_clients_take_waiting(clients->idle, &address, &service);
		if (handoff == NULL)
			return;
		offer(clients, handoff, service, &address, true);
	}
}

unsigned long clients_waiting(const struct clients *clients)
{
	return idle_clients_waiting(clients->idle);
}

/* ---- reading ---- */

static void route_client(struct client *client, const char *text)
{
	struct clients *clients = client->clients;
	int service = routes_find_head(clients->routes, &client->head, text);
	if (service >= 0) {
		hand_off_client(client, (unsigned int)service);
	} else if (service == -ENOENT) {
		clients->refusals.no_route++;
		refuse_client(client, 404, NULL, text);
	} else {
		clients->refusals.bad_request++;
		refuse_client(client, 400, "a path that programs interpret differently", text);
	}
}

/* The worker gets the ClientHello unread, and does the handshake. */
static void read_hello(struct client *client, struct evbuffer *input)
{
	struct clients *clients = client->clients;
	struct tls_hello hello;
	char from[FERRY_ADDRESS_TEXT_SIZE];
	if (tls_hello_read(&hello, clients->conf->tls_routes, input) == -EAGAIN)
		return;
	if (hello.kind == TLS_HELLO_ROUTED) {
		clients->tls++;
		hand_off_client(client, hello.service);
		return;
	}
	program_log("%s: %s", ferry_address_format(&client->address.client, from, sizeof(from)),
	            hello.why);
	if (hello.kind == TLS_HELLO_NO_ROUTE)
		clients->refusals.no_tls_route++;
	else if (hello.kind == TLS_HELLO_FAILED)
		clients->refusals.failed++;
	else
		clients->refusals.bad_client_hello++;
	if (hello.kind == TLS_HELLO_NOT_TLS)
		refuse_client(client, 400, "this address is for TLS", NULL);
	else
		send_alert(client, hello.alert);
}

static void read_head(struct client *client, struct evbuffer *input)
{
	size_t length = evbuffer_get_length(input);
	if (length > client->clients->conf->head_size)
		length = client->clients->conf->head_size;
	if (length == 0)
		return;
	const char *text = (const char *)evbuffer_pullup(input, (ev_ssize_t)length);
	if (text == NULL) {
		drop_failed(client);
		return;
	}
	int result = http_head_parse(&client->head, text, length);
	if (result > 0) {
		route_client(client, text);
	} else if (result < 0) {
		client->clients->refusals.bad_request++;
		refuse_client(client, -result, client->head.error, text);
	}
}

static void bad_proxy_header(struct client *client, const char *why)
{
	char from[FERRY_ADDRESS_TEXT_SIZE];
	program_log("%s: %s", ferry_address_format(&client->address.client, from, sizeof(from)), why);
	client->clients->refusals.bad_proxy_header++;
	free_client(client);
}

/* True: the header has been taken off. False: wait for more, or the client was freed. */
static bool read_proxy_header(struct client *client, struct evbuffer *input)
{
	struct ferry_proxy_protocol *header;
	struct ferry_proxy_protocol_info info;
	const char *error = NULL;
	int status = ferry_proxy_protocol_read(&header, input, 0, &error);
	if (status == -EAGAIN)
		return false;
	if (status < 0) {
		bad_proxy_header(client, error != NULL ? error : strerror(-status));
		return false;
	}
	ferry_proxy_protocol_get_info(header, &info);
	if (info.kind == FERRY_PROXY_PROTOCOL_PROXIED) {
		client->address.proxied = true;
		ferry_address_set(&client->address.client, info.source, info.source_length);
		ferry_address_set(&client->address.server, info.destination, info.destination_length);
	}
	ferry_proxy_protocol_free(header);
	client->state = READING;
	return true;
}

static void client_readable(struct bufferevent *bev, void *context)
{
	struct client *client = context;
	struct evbuffer *input = bufferevent_get_input(bev);
	if (client->state == EXPECTING && !read_proxy_header(client, input))
		return;
	if (client->state == READING) {
		if (client->tls)
			read_hello(client, input);
		else
			read_head(client, input);
		return;
	}
	client->lingered += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
	if (client->lingered > LINGER_BYTES)
		free_client(client);
}

static void answer_written(struct bufferevent *bev, void *context)
{
	struct client *client = context;
	if (client->state != ANSWERING)
		return;
	client->state = LINGERING;
	shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void client_event(struct bufferevent *bev, short what, void *context)
{
	struct client *client = context;
	/* A client that has ended its half may still read its answer; the deadline bounds the time. */
	if ((what & BEV_EVENT_EOF) != 0 && client->state == ANSWERING &&
	    evbuffer_get_length(bufferevent_get_output(bev)) > 0)
		return;
	if (client->state == READING || client->state == EXPECTING)
		client->clients->gone++;
	free_client(client);
}

/* A client that has sent nothing gets no answer: browsers open connections ahead of need, and would take
 * a 408 for the answer to their next request. */
static void client_timed_out(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct client *client = context;
	size_t length = evbuffer_get_length(bufferevent_get_input(client->bev));
	if (client->state == READING || client->state == EXPECTING)
		client->clients->refusals.too_slow++;
	if (client->state == READING && length > 0 && !client->tls)
		refuse_client(client, 408, "the request head took too long", NULL);
	else
		free_client(client);
}

/* ---- listeners ---- */

/* Only a load balancer may write a PROXY header. */
static bool may_connect(struct clients *clients, const struct ferry_address *from,
                        const struct conf_listen *conf)
{
	char text[FERRY_ADDRESS_TEXT_SIZE];
	if (conf->from == NULL ||
	    ferry_proxy_protocol_sources_contain(conf->from, &from->name.any, from->length))
		return true;
	program_log("%s: not an address that may send PROXY headers",
	            ferry_address_format_host(from, text, sizeof(text)));
	clients->refusals.bad_proxy_header++;
	return false;
}

/* Of a client that was just accepted: the address is that of its socket. */
static bool is_inet(const struct client_address *address)
{
	return address->client.name.any.sa_family == AF_INET ||
	       address->client.name.any.sa_family == AF_INET6;
}

/* Most clients have sent their head when they are accepted: such a client is handed off without an event of its own.
 * False: it is not; `bytes` are the first ones of its input. */
static bool hand_off_at_once(struct clients *clients, int fd, const struct client_address *address,
                             const char *bytes, size_t length)
{
	struct http_head head;
	struct ferry_handoff *handoff;
	http_head_init(&head);
	http_head_set_limits(&head, clients->conf->head_size, clients->conf->head_fields);
	if (http_head_parse(&head, bytes, length) <= 0)
		return false;
	int service = routes_find_head(clients->routes, &head, bytes);
	if (service < 0 || ferry_handoff_new(&handoff, fd) < 0)
		return false;
	if (ferry_handoff_set_bytes(handoff, bytes, length) < 0) {
		(void)ferry_handoff_steal_fd(handoff);
		ferry_handoff_free(handoff);
		return false;
	}
	if (is_inet(address))
		ferry_handoff_set_inet_stream(handoff);
	hand_off(clients, handoff, (unsigned int)service, address, false);
	return true;
}

static void start_client(struct clients *clients, int fd, const struct client_address *address,
                         const struct conf_listen *conf, const char *bytes, size_t length)
{
	struct client *client = new_client(clients, fd);
	if (client == NULL) {
		clients->refusals.failed++;
		return;
	}
	client->state = conf->proxy_protocol ? EXPECTING : READING;
	client->tls = conf->tls_passthrough;
	client->address = *address;
	client->inet = is_inet(address);
	start_reading(client, bytes, length);
}

static void client_accepted(int fd, const struct client_address *address,
                            const struct conf_listen *conf, void *context)
{
	struct clients *clients = context;
	char bytes[HTTP_HEAD_LIMIT_MAX];
	clients->out_of_descriptors = false;
	clients->accepted++;
	if (!may_connect(clients, &address->client, conf)) {
		close(fd);
		return;
	}
	if (conf->proxy_protocol || conf->tls_passthrough) {
		start_client(clients, fd, address, conf, "", 0);
	} else {
		/* The end or an error is found again. */
		ssize_t length = recv(fd, bytes, clients->conf->head_size, MSG_DONTWAIT);
		size_t read = length > 0 ? (size_t)length : 0;
		if (read == 0 || !hand_off_at_once(clients, fd, address, bytes, read))
			start_client(clients, fd, address, conf, bytes, read);
	}
	if (!make_room(clients))
		pause_briefly(clients, TOO_MANY);
}

/* With a connection in the backlog EMFILE would recur at once: accepting is paused. */
static void client_accept_failed(int error, void *context)
{
	struct clients *clients = context;
	if (!clients->out_of_descriptors)
		program_log("accepting is paused: %s", strerror(error));
	clients->out_of_descriptors = true;
	idle_clients_drop_one(clients->idle);
	pause_briefly(clients, NO_DESCRIPTORS);
}

int clients_listen(struct clients *clients, int fd, const struct conf_listen *conf)
{
	static const struct client_listener_callbacks callbacks = {.accepted = client_accepted,
	                                                           .failed = client_accept_failed};
	int status = client_listener_new(&clients->listeners[clients->listener_count], clients->base,
	                                 fd, conf, &callbacks, clients);
	if (status == 0)
		clients->listener_count++;
	return status;
}

void clients_accept(struct clients *clients)
{
	set_pause(clients, NOT_STARTED, false);
}

void clients_accept_backlog(struct clients *clients)
{
	for (unsigned int i = 0; i < clients->listener_count; i++)
		for (int left = SOMAXCONN; left > 0 && have_room(clients); left--)
			if (!client_listener_accept(clients->listeners[i]))
				break;
}

void clients_stop_accepting(struct clients *clients)
{
	while (clients->listener_count > 0)
		client_listener_free(clients->listeners[--clients->listener_count]);
	event_del(clients->accept_again);
}

/* ---- settings ---- */

void clients_set_routes(struct clients *clients, const struct routes *routes)
{
	clients->routes = routes;
}

void clients_set_access_log(struct clients *clients, const struct access_log *log)
{
	clients->access_log = log;
}

/* ---- all of them ---- */

unsigned long clients_count(const struct clients *clients)
{
	return clients->count;
}

static bool is_reading(const struct client *client)
{
	return client->state == READING || client->state == EXPECTING;
}

bool clients_are_reading(const struct clients *clients)
{
	const struct client *client = clients->first;
	while (client != NULL && !is_reading(client))
		client = client->next;
	return client != NULL;
}

/* Sets a deadline that is not later than the present one. */
static void hurry_client(struct client *client)
{
	struct timeval now, left, due = {0};
	size_t length = evbuffer_get_length(bufferevent_get_input(client->bev));
	const struct timeval *most = length > 0 ? &hurry_begun : &hurry_silent;
	event_base_gettimeofday_cached(client->clients->base, &now);
	bool pending = event_pending(client->deadline, EV_TIMEOUT, &due);
	evutil_timersub(&due, &now, &left);
	if (pending && (left.tv_sec < most->tv_sec ||
	                (left.tv_sec == most->tv_sec && left.tv_usec < most->tv_usec)))
		return;
	if (event_add(client->deadline, most) < 0)
		drop_failed(client);
}

void clients_hurry(struct clients *clients)
{
	struct client *next;
	for (struct client *client = clients->first; client != NULL; client = next) {
		next = client->next;
		if (is_reading(client))
			hurry_client(client);
	}
}

void clients_drop_readers(struct clients *clients)
{
	struct client *next;
	for (struct client *client = clients->first; client != NULL; client = next) {
		next = client->next;
		if (is_reading(client))
			free_client(client);
	}
}

void clients_fill(const struct clients *clients, struct snapshot *snapshot)
{
	snapshot->clients = clients->count;
	snapshot->clients_max = clients->most;
	snapshot->clients_accepted = clients->accepted;
	snapshot->tls_clients = clients->tls;
	snapshot->clients_gone = clients->gone;
	snapshot->refusals = clients->refusals;
	idle_clients_fill(clients->idle, snapshot);
}

int clients_new(struct clients **out, struct event_base *base, const struct conf *conf,
                const struct routes *routes, struct services *services)
{
	static const struct idle_clients_callbacks callbacks = {.woken = client_woke,
	                                                        .unserved = client_unserved};
	struct clients *clients = calloc(1, sizeof(*clients));
	if (clients == NULL)
		return -ENOMEM;
	unsigned long fds = program_raise_descriptor_limit();
	clients->base = base;
	clients->conf = conf;
	clients->routes = routes;
	clients->services = services;
	clients->pauses = NOT_STARTED;
	clients->most = fds > 2UL * SPARE_FDS ? fds - SPARE_FDS : fds / 2;
	if (conf->max_clients != 0 && conf->max_clients < clients->most)
		clients->most = conf->max_clients;
	clients->accept_again = evtimer_new(base, resume_accepting, clients);
	int status = -ENOMEM;
	if (clients->accept_again != NULL)
		status = idle_clients_new(&clients->idle, base, clients->most, &conf->idle_timeout,
		                          &callbacks, clients);
	if (status < 0) {
		if (clients->accept_again != NULL)
			event_free(clients->accept_again);
		free(clients);
		return status;
	}
	*out = clients;
	return 0;
}

void clients_free(struct clients *clients)
{
	if (clients == NULL)
		return;
	clients_stop_accepting(clients);
	struct client *next;
	for (struct client *client = clients->first; client != NULL; client = next) {
		next = client->next;
		free_client(client);
	}
	idle_clients_free(clients->idle);
	event_free(clients->accept_again);
	free(clients);
}
