#include "unix_peer.h"

#include "program.h"

#include <stdio.h>
#include <string.h>

#include <event2/event.h>
#include <ferry/ferry.h>

int unix_peer_read_arguments(struct unix_peer *peer, int argc, char **argv, int extra,
                             const char *usage)
{
	int i = 1;
	for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
		if (strcmp(argv[i], "--listen") == 0)
			peer->listens = true;
		else if (strcmp(argv[i], "--connect") == 0)
			peer->listens = false;
		else if (strcmp(argv[i], "--once") == 0)
			peer->once = true;
		else
			break;
	}
	if (argc - i != 1 + extra || strncmp(argv[i], "--", 2) == 0) {
		fputs(usage, stderr);
		return -1;
	}
	peer->path = argv[i];
	return i + 1;
}

static void stop(struct unix_peer *peer)
{
	event_base_loopbreak(peer->base);
}

void unix_connection_stands(struct unix_connection *connection, struct unix_peer *peer,
                            void (*end)(struct unix_connection *connection))
{
	connection->peer = peer;
	connection->end = end;
	LIST_INSERT_HEAD(&peer->connections, connection, others);
}

static void end_connection(struct unix_connection *connection)
{
	LIST_REMOVE(connection, others);
	connection->end(connection);
}

void unix_connection_is_over(struct unix_connection *connection)
{
	struct unix_peer *peer = connection->peer;
	end_connection(connection);
	unix_peer_is_over(peer);
}

void unix_peer_is_over(struct unix_peer *peer)
{
	if (peer->once || !peer->listens)
		stop(peer);
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	(void)listener;
	struct unix_peer *peer = context;
	peer->met(peer, transport);
}

static void connected(struct ferry_connector *connector, int status,
                      struct ferry_transport *transport, void *context)
{
	(void)connector;
	struct unix_peer *peer = context;
	if (status == 0) {
		peer->met(peer, transport);
		return;
	}
	fprintf(stderr, "%s: %s\n", peer->path, strerror(-status));
	peer->failed = true;
	stop(peer);
}

static int listen_or_connect(struct unix_peer *peer, struct ferry_listener **listener)
{
	if (peer->listens)
		return ferry_listener_new_unix(listener, peer->base, peer->path, NULL, accepted, peer);
	return ferry_connector_new_unix(NULL, peer->base, peer->path, NULL, connected, peer);
}

static int run_until_stopped(struct unix_peer *peer)
{
	/* A signal ends the loop and not the process: a socket's file is to be removed. */
	struct program_signals signals = {0};
	struct ferry_listener *listener = NULL;
	int status = program_signals_init(&signals, peer->base);
	if (status == 0)
		status = listen_or_connect(peer, &listener);
	if (status == 0)
		event_base_dispatch(peer->base);
	else
		fprintf(stderr, "%s: %s\n", peer->path, strerror(-status));
	ferry_listener_free(listener);
	program_signals_free(&signals);
	return status < 0 || peer->failed ? 1 : 0;
}

int unix_peer_run(struct unix_peer *peer)
{
	peer->base = event_base_new();
	if (peer->base == NULL) {
		fputs("no event loop\n", stderr);
		return 1;
	}
	int result = run_until_stopped(peer);
	while (!LIST_EMPTY(&peer->connections))
		end_connection(LIST_FIRST(&peer->connections));
	/* Freed transports end in the loop. */
	for (int turn = 0; turn < 3; turn++)
		event_base_loop(peer->base, EVLOOP_NONBLOCK);
	event_base_free(peer->base);
	return result;
}
