/* A dispatcher without keys, and a worker that has them. The dispatcher reads the ClientHello and hands the connection
 * over with these bytes. The worker makes the handshake, gives the keys to the kernel, and sends the file by sendfile(2):
 * tls_handoff.c the other way round. docs/tls.md has the rest.
 *
 *     modprobe tls                    (once, as root)
 *     ./tls_passthrough 127.0.0.1:7443 cert.pem key.pem FILE &
 *     echo | openssl s_client -quiet -connect 127.0.0.1:7443 -servername a.example */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
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

#include "kernel_tls.h"

static int file;
static SSL_CTX *tls;
static struct ferry_worker *worker;

static struct ferry_transport *transport_new(struct event_base *base, int fd)
{
	struct ferry_transport *transport;
	if (base == NULL || ferry_transport_new_socket(&transport, base, fd) < 0)
		errx(EXIT_FAILURE, "no transport");
	return transport;
}

/* The dispatcher counts the connections of a worker, and has no worker itself. */
static void lost(struct ferry_transport *client, int reason, void *id)
{
	(void)reason;
	ferry_transport_free(client);
	ferry_worker_done(worker, (uint64_t)(uintptr_t)id);
}

/* Whatever the client has sent: it gets the file. close_notify goes behind it. */
static void data_received(struct ferry_transport *client, struct evbuffer *input, void *id)
{
	(void)id;
	evbuffer_drain(input, evbuffer_get_length(input));
	if (ferry_transport_send_file(NULL, client, file, FERRY_FD_DUP, 0, FERRY_TO_END, 0, NULL,
	                              NULL) < 0 ||
	    ferry_transport_lose_connection(client) < 0)
		ferry_transport_abort_connection(client);
}

/* If it is not stolen, the return closes the connection. */
static void handoff_received(struct ferry_worker *from, struct ferry_handoff *handoff, void *base)
{
	static const struct ferry_protocol protocol = {.data_received = data_received,
	                                               .connection_lost = lost};
	struct ferry_handoff_info info;
	size_t length;
	const void *bytes = ferry_handoff_get_bytes(handoff, &length);
	(void)from;
	ferry_handoff_get_info(handoff, &info);
	int status = kernel_tls_accept(tls, ferry_handoff_get_fd(handoff), bytes, length);
	if (status == 0)
		ferry_transport_set_protocol(transport_new(base, ferry_handoff_steal_fd(handoff)),
		                             &protocol, (void *)(uintptr_t)info.id);
	else
		warnx("handshake: %s", strerror(-status));
}

static void dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(from);
	worker = NULL;
}

static int work(int channel, const char *certificate, const char *key)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .dispatcher_lost = dispatcher_lost};
	struct event_base *base = event_base_new();
	tls = kernel_tls_context(certificate, key);
	if (tls == NULL)
		errx(EXIT_FAILURE, "%s, %s: no certificate with its key", certificate, key);
	if (ferry_worker_new(&worker, transport_new(base, channel), &callbacks, base) < 0)
		errx(EXIT_FAILURE, "worker");
	return event_base_dispatch(base);
}

/* A server also has a deadline for this, and routes by the name. */
static void hello_received(struct ferry_transport *client, struct evbuffer *input, void *dispatcher)
{
	struct ferry_client_hello *hello;
	struct ferry_client_hello_info info;
	struct ferry_handoff *handoff;
	int status = ferry_client_hello_read(&hello, input, 0, NULL);
	if (status == -EAGAIN)
		return;
	if (status < 0 || ferry_handoff_from_transport(&handoff, client) < 0) {
		ferry_transport_abort_connection(client);
		return;
	}
	if (ferry_client_hello_get_info(hello, &info) == 0 && info.server_name != NULL)
		printf("%s\n", info.server_name);
	ferry_client_hello_free(hello);
	if (ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL) < 0)
		ferry_handoff_free(handoff);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *dispatcher)
{
	static const struct ferry_protocol protocol = {.data_received = hello_received,
	                                               .connection_lost = lost};
	(void)address, (void)length;
	struct ferry_transport *client = transport_new(evconnlistener_get_base(listener), fd);
	ferry_transport_set_protocol(client, &protocol, dispatcher);
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	struct ferry_dispatcher *dispatcher = NULL;
	int length = sizeof(address), ends[2], pid;
	if (argc != 5 || evutil_parse_sockaddr_port(argv[1], (struct sockaddr *)&address, &length) < 0)
		errx(2, "usage: tls_passthrough ADDRESS:PORT CERTIFICATE KEY FILE");
	if ((file = open(argv[4], O_RDONLY | O_CLOEXEC)) < 0)
		err(EXIT_FAILURE, "%s", argv[4]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (pid = fork()) < 0)
		err(EXIT_FAILURE, "worker");
	close(ends[pid == 0 ? 0 : 1]);
	if (pid == 0)
		return work(ends[1], argv[2], argv[3]); /* the dispatcher never sees the key */
	setlinebuf(stdout);
	struct event_base *base = event_base_new();
	if (base == NULL || ferry_dispatcher_new(&dispatcher, base, NULL, NULL) < 0 ||
	    ferry_dispatcher_add_worker(NULL, dispatcher, transport_new(base, ends[0]), NULL) < 0)
		errx(EXIT_FAILURE, "dispatcher");
	if (evconnlistener_new_bind(base, accepted, dispatcher, LEV_OPT_REUSEABLE, -1,
	                            (struct sockaddr *)&address, length) == NULL)
		err(EXIT_FAILURE, "%s", argv[1]);
	return event_base_dispatch(base);
}
