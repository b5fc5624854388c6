#ifndef FERRY_PROGRAMS_FERRY_WORKER_CONNECTION_H
#define FERRY_PROGRAMS_FERRY_WORKER_CONNECTION_H

/* One connection from inside. connection.c has its life, answers.c the answer to one request, leaving.c its way back
 * to the proxy; nobody else includes this header. */

#include "programs/ferry-worker/connections.h"
#include "programs/ferry-worker/stream.h"
#include "programs/http/head.h"
#include "programs/shared/client_address.h"

struct access_entry;
struct event;

enum connection_state {
	CONNECTION_READING,
	CONNECTION_WAITING, /* for a descriptor, or for memory */
	CONNECTION_ANSWERING,
	CONNECTION_LINGERING,
	CONNECTION_LEAVING, /* goes back to the proxy from the loop */
	CONNECTION_GONE
};

struct connection {
	struct connections *connections;
	struct connection *next;
	struct connection **link; /* the pointer to this connection */
	struct connection_tag tag;

	/* While its first request is answered on the bare socket, in the callback that has brought it: no stream is made
	 * unless there is something to wait for, and no list has the connection. NULL: it has a stream. */
	struct ferry_handoff *handoff;
	uint64_t written; /* bytes of that answer */
	struct stream stream;
	struct event *deadline; /* NULL until there is one */
	int64_t due, armed;     /* it, and its event: microseconds of the monotonic clock; 0: none */
	enum connection_state state;
	bool keep_alive;
	bool answered;      /* a request, at least */
	bool routes_each;   /* each request has a route of its own */
	bool recalled;      /* the proxy asks for it */
	bool reading;       /* not paused */
	bool head_begun;    /* a byte of the request's head has come */
	bool input_over;    /* the client has ended its sending half */
	unsigned int files; /* in the stream; `finished` of each is still to come */
	bool file_is_last;  /* the stream is empty, and only the end of the file is to come */
	size_t lingered;
	unsigned int retries;
	unsigned int attempt;   /* for the page of its way */
	unsigned int requests;  /* since it is here */
	int status;             /* of the answer in the stream; 0: none is counted */
	int64_t began;          /* when the head was complete, in microseconds of the monotonic clock */
	uint64_t counted;       /* bytes sent with the answers before */
	struct timeval claimed; /* on the wall clock; 0 without such a page */
	struct access_entry *entry; /* the line of the access log; NULL: none is due */
	int entry_status;
	uint64_t body; /* bytes of the answer's body, without a file */
	uint64_t sent; /* bytes of its files */
	size_t blob_length;
	/* Last: these are long, and not cleared. */
	unsigned char blob[CLIENT_ADDRESS_MAX]; /* of the handoff */
	struct http_head head;
};

/* ---- connection.c ---- */

/* Writes the name of the client into `text`, of FERRY_ADDRESS_TEXT_SIZE bytes, and returns it. */
const char *connection_client_name(const struct connection *connection, char *text);

struct evbuffer *connection_input(const struct connection *connection);

/* The text of its head, which is complete. NULL: there is no memory. */
const char *connection_head_text(const struct connection *connection);

/* Makes the stream, if it has none yet. 0 or a negative errno. */
int connection_need_stream(struct connection *connection);

/* Writes a whole answer. 0 or a negative errno. */
int connection_write(struct connection *connection, const void *bytes, size_t length);

/* Whether it waits for its next request, and has nothing of it. */
bool connection_is_idle(const struct connection *connection);

/* Resets the connection, because the answer cannot be given or completed; connection_lost follows. */
void connection_abandon(struct connection *connection);

/* The same, with the bytes of `out` dropped: they must not be in the next answer. */
void connection_abandon_answer(struct connection *connection, struct evbuffer *out);

/* Sets the deadline, in place of one that is set. False: there is no memory. */
bool connection_set_deadline(struct connection *connection, const struct timeval *after);
void connection_clear_deadline(struct connection *connection);

/* Writes the bytes of `out`, and continues when the stream is empty. */
void connection_queue_answer(struct connection *connection, struct evbuffer *out);

/* Continues when the stream is empty: the answer is in it. And: its file has left it. */
void connection_finish_answer(struct connection *connection);
void connection_file_sent(struct connection *connection);

/* Reads nothing meanwhile, and watches whether the client goes. */
void connection_pause_reading(struct connection *connection);

/* An answer with this status begins. */
void connection_begin_answer(struct connection *connection, int status);

/* Waits a moment, with the request in the input, and answers it then. False: it has waited long enough. */
bool connection_wait(struct connection *connection);

/* Frees a connection that is GONE. */
void connection_free_memory(struct connection *connection);

/* Serves the connection on a stream, which the callee owns, also on failure. 0, or a negative errno. */
int connection_start(struct connection *connection, const struct stream *stream);

/* Frees a connection without a stream. */
void connection_remove(struct connection *connection);

/* ---- leaving.c ---- */

/* Whether the proxy would take it back. The state of TLS is in this process, and stays. */
bool connection_can_return(const struct connection *connection);

/* Whether the connection goes back now that it waits for its next request. */
bool connection_is_to_leave(const struct connection *connection);

/* Whether its next request may be for another service, and nobody takes it back: it is answered 421. */
bool connection_is_stranded(const struct connection *connection);

/* It waits for its next request: it leaves after `keep`, if the proxy takes it back. */
void connection_keep(struct connection *connection);

/* Returns the connection in a later turn of the loop: its callbacks are on the stack now. */
void connection_leave(struct connection *connection);

/* Returns it now, and frees it. If the proxy has not taken it, it is served on. Not in its stream's callbacks. */
void connection_give_back(struct connection *connection);

/* ---- answers.c ---- */

/* Answers the request with the head `connection->head`. `text` is the head's text. No callback runs
 * within the call: the answer is queued. */
void connection_answer(struct connection *connection, const char *text);

/* Answers with an error. `fields` are more fields of the head, or NULL; `why` is the text for people, or
 * NULL. */
void connection_refuse(struct connection *connection, int status, const char *fields,
                       const char *why);

#endif
