#ifndef FERRY_PROGRAMS_FERRY_WORKER_CONNECTION_H
#define FERRY_PROGRAMS_FERRY_WORKER_CONNECTION_H

/* One connection from inside. connection.c has its life, answers.c the answer to one request; nobody else
 * includes this header. */

#include "programs/ferry-worker/connections.h"
#include "programs/http/head.h"

struct evbuffer;
struct event;
struct ferry_transport;

enum connection_state {
	CONNECTION_READING,
	CONNECTION_WAITING, /* for a descriptor, or for memory */
	CONNECTION_ANSWERING,
	CONNECTION_LINGERING,
	CONNECTION_GONE
};

struct connection {
	struct connections *connections;
	struct connection *next;
	struct connection **link; /* the pointer to this connection */
	struct connection_tag tag;
	char *name;

	struct ferry_transport *transport;
	struct event *deadline;
	enum connection_state state;
	bool keep_alive;
	bool input_over;    /* the client has ended its sending half */
	unsigned int files; /* in the stream; `finished` of each is still to come */
	size_t lingered;
	unsigned int retries;
	struct http_head head;
};

/* ---- connection.c ---- */

struct evbuffer *connection_input(const struct connection *connection);

/* Resets the connection, because the answer cannot be given or completed; connection_lost follows. */
void connection_abandon(struct connection *connection);

/* Writes the bytes of `out`, and continues when the stream is empty. */
void connection_queue_answer(struct connection *connection, struct evbuffer *out);

/* Waits a moment, with the request in the input, and answers it then. False: it has waited long enough. */
bool connection_wait(struct connection *connection);

/* Frees a connection that is GONE. */
void connection_free_memory(struct connection *connection);

/* ---- answers.c ---- */

/* Answers the request with the head `connection->head`. `text` is the head's text. No callback runs
 * within the call: the answer is queued. */
void connection_answer(struct connection *connection, const char *text);

/* Answers with an error. `fields` are more fields of the head, or NULL; `why` is the text for people, or
 * NULL. */
void connection_refuse(struct connection *connection, int status, const char *fields,
                       const char *why);

#endif
