#include "upgrade/candidates.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/transport.h"

#include "kernel/socket.h"
#include "message/wire.h"
#include "takeover/wire.h"
#include "util/log.h"

enum { CANDIDATES_MAX = 64 };

struct candidate {
	struct candidates *candidates;
	struct candidate *next;
	struct ferry_transport *transport; /* does not read yet */
	struct event *event;
};

struct candidates {
	struct event_base *base;
	struct timeval timeout;
	candidates_begun_cb begun;
	void *context;
	struct candidate *first; /* has waited longest */
	unsigned int count;
};

int candidates_new(struct candidates **out, struct event_base *base, const struct timeval *timeout,
                   candidates_begun_cb begun, void *context)
{
	struct candidates *candidates = calloc(1, sizeof(*candidates));

	if (candidates == NULL)
		return -ENOMEM;
	candidates->base = base;
	candidates->timeout = *timeout;
	candidates->begun = begun;
	candidates->context = context;
	*out = candidates;
	return 0;
}

static void remove_candidate(struct candidate *candidate)
{
	struct candidate **link = &candidate->candidates->first;

	while (*link != candidate)
		link = &(*link)->next;
	*link = candidate->next;
	candidate->candidates->count--;
	event_free(candidate->event);
	ferry_transport_free(candidate->transport);
	free(candidate);
}

/* Reads nothing: the takeover reads the message itself. A message as short as this comes in one piece. */
static bool is_first_message(const unsigned char *bytes, ssize_t length)
{
	struct message_header header;

	return length == MESSAGE_HEADER_SIZE && message_header_get(bytes, &header) == NULL &&
	       !header.refusal && header.type == TAKEOVER_WIRE_HELLO;
}

static ssize_t peek(int fd, void *bytes, size_t size)
{
	ssize_t length;

	do {
		length = recv(fd, bytes, size, MSG_PEEK | MSG_DONTWAIT);
	} while (length < 0 && errno == EINTR);
	return length;
}

static void on_event(evutil_socket_t fd, short what, void *argument)
{
	struct candidate *candidate = argument;
	struct candidates *candidates = candidate->candidates;
	unsigned char bytes[MESSAGE_HEADER_SIZE];
	const bool is_readable = (what & EV_READ) != 0;
	ssize_t length = is_readable ? peek(fd, bytes, sizeof(bytes)) : -1;

	/* A wake-up without bytes. */
	if (is_readable && length < 0 && errno == EAGAIN &&
	    event_add(candidate->event, &candidates->timeout) == 0)
		return;
	if (is_first_message(bytes, length)) {
		struct ferry_transport *transport = candidate->transport;
		candidate->transport = NULL;
		remove_candidate(candidate);
		candidates->begun(transport, candidates->context);
		return;
	}
	if (length > 0)
		log_line(FERRY_LOG_WARNING,
		         "a process at the control socket does not begin a takeover: closed");
	else if (length < 0 && (what & EV_TIMEOUT) != 0)
		log_line(FERRY_LOG_WARNING, "a process at the control socket sends nothing: closed");
	remove_candidate(candidate);
}

static void append(struct candidates *candidates, struct candidate *candidate)
{
	struct candidate **link = &candidates->first;

	while (*link != NULL)
		link = &(*link)->next;
	*link = candidate;
	candidates->count++;
}

int candidates_add(struct candidates *candidates, struct ferry_transport *transport)
{
	const int fd = bufferevent_getfd(ferry_transport_get_bufferevent(transport));
	const int status = socket_check_peer_user(fd);
	if (status != 0)
		return status;
	struct candidate *candidate = calloc(1, sizeof(*candidate));
	if (candidate == NULL)
		return -ENOMEM;
	candidate->event = event_new(candidates->base, fd, EV_READ, on_event, candidate);
	if (candidate->event == NULL || event_add(candidate->event, &candidates->timeout) < 0) {
		if (candidate->event != NULL)
			event_free(candidate->event);
		free(candidate);
		return -ENOMEM;
	}
	if (candidates->count == CANDIDATES_MAX)
		remove_candidate(candidates->first);
	candidate->candidates = candidates;
	candidate->transport = transport;
	append(candidates, candidate);
	return 0;
}

void candidates_free(struct candidates *candidates)
{
	if (candidates == NULL)
		return;
	while (candidates->first != NULL)
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it has taken itself off the list */
		remove_candidate(candidates->first);
	free(candidates);
}
