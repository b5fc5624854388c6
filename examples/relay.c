/* A relay between unix sockets: each client that connects to LISTEN is joined with a connection to CONNECT. Bytes,
 * descriptors at their exact byte, half-closes and closes pass in both directions.
 *
 *     ./relay /tmp/agent.sock "$SSH_AUTH_SOCK" &
 *     SSH_AUTH_SOCK=/tmp/agent.sock ssh-add -l
 *
 * The server sees this process in place of the client (SO_PEERCRED). Only this user, and root, can therefore connect
 * to LISTEN: its mode is 0600. SIGINT and SIGTERM end the relay. */

#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <ferry/ferry.h>

static struct event_base *base;
static const char *target;

static void connected(struct ferry_connector *connector, int status, struct ferry_transport *server,
                      void *relay)
{
	(void)connector;
	if (status == 0 && (status = ferry_relay_set_server(relay, server)) == 0)
		return; /* it frees itself when both connections have ended */
	warnx("%s: %s", target, strerror(-status));
	ferry_transport_free(server);
	ferry_relay_free(relay);
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *client, void *context)
{
	struct ferry_relay *relay;
	(void)listener, (void)context;
	int status = ferry_relay_new(&relay, client, NULL, NULL, NULL);
	if (status < 0) {
		warnx("client: %s", strerror(-status));
		ferry_transport_free(client);
	} else if ((status = ferry_connector_new_unix(NULL, base, target, NULL, connected, relay)) <
	           0) {
		connected(NULL, status, NULL, relay);
	}
}

static void stop(evutil_socket_t number, short events, void *context)
{
	(void)number, (void)events, (void)context;
	event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT; /* the mode is 0600 */
	struct ferry_listener *listener;
	if (argc != 3)
		errx(2, "usage: relay LISTEN CONNECT");
	target = argv[2];
	base = event_base_new();
	options.lock = true; /* takes the place of a relay that was killed */
	int status = ferry_listener_new_unix(&listener, base, argv[1], &options, accepted, NULL);
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", argv[1], strerror(-status));
	event_add(evsignal_new(base, SIGINT, stop, NULL), NULL);
	event_add(evsignal_new(base, SIGTERM, stop, NULL), NULL);
	event_base_dispatch(base);
	ferry_listener_free(listener); /* removes the socket file */
	return EXIT_SUCCESS;
}
