/* A dispatcher that makes TLS handshakes, gives the keys to the kernel, and hands the connections to a worker. The
 * worker has no TLS library: it sends the file by sendfile(2), and the kernel encrypts. docs/tls.md has the rest.
 *
 *     modprobe tls                    (once, as root)
 *     ./tls_handoff 127.0.0.1:7443 cert.pem key.pem FILE &
 *     echo | openssl s_client -quiet -connect 127.0.0.1:7443 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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
		errx(EXIT_FAILURE, "channel");
	return transport;
}

/* The dispatcher counts the connections of a worker. */
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

static void handoff_received(struct ferry_worker *from, struct ferry_handoff *handoff, void *base)
{
	static const struct ferry_protocol protocol = {.data_received = data_received,
	                                               .connection_lost = lost};
	struct ferry_handoff_info info;
	struct ferry_transport *client;
	(void)from;
	ferry_handoff_get_info(handoff, &info);
	if (ferry_handoff_to_transport(&client, handoff, base, BEV_OPT_CLOSE_ON_FREE) < 0)
		return; /* which closes it */
	if (ferry_transport_set_protocol(client, &protocol, (void *)(uintptr_t)info.id) < 0)
		errx(EXIT_FAILURE, "no memory");
}

static void dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(from);
	worker = NULL;
}

static int work(int channel)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .dispatcher_lost = dispatcher_lost};
	struct event_base *base = event_base_new();
	if (ferry_worker_new(&worker, transport_new(base, channel), &callbacks, base) < 0)
		errx(EXIT_FAILURE, "worker");
	return event_base_dispatch(base);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *dispatcher)
{
	struct ferry_handoff *handoff = NULL;
	(void)listener, (void)address, (void)length;
	int status = kernel_tls_accept(tls, fd, NULL, 0);
	if (status == 0)
		status = ferry_handoff_new(&handoff, fd);
	if (handoff == NULL)
		close(fd);
	else if ((status = ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL)) < 0)
		ferry_handoff_free(handoff);
	if (status < 0)
		warnx("client: %s", strerror(-status));
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	struct ferry_dispatcher *dispatcher = NULL;
	int length = sizeof(address), ends[2], pid;
	if (argc != 5 || evutil_parse_sockaddr_port(argv[1], (struct sockaddr *)&address, &length) < 0)
		errx(2, "usage: tls_handoff ADDRESS:PORT CERTIFICATE KEY FILE");
	if ((file = open(argv[4], O_RDONLY | O_CLOEXEC)) < 0)
		err(EXIT_FAILURE, "%s", argv[4]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (pid = fork()) < 0)
		err(EXIT_FAILURE, "worker");
	close(ends[pid == 0 ? 0 : 1]);
	if (pid == 0)
		return work(ends[1]);
	tls = kernel_tls_context(argv[2], argv[3]); /* the worker never sees the key */
	if (tls == NULL)
		errx(EXIT_FAILURE, "%s, %s: no certificate with its key", argv[2], argv[3]);
	struct event_base *base = event_base_new();
	if (base == NULL || ferry_dispatcher_new(&dispatcher, base, NULL, NULL) < 0 ||
	    ferry_dispatcher_add_worker(NULL, dispatcher, transport_new(base, ends[0]), NULL) < 0)
		errx(EXIT_FAILURE, "dispatcher");
	unsigned int options = LEV_OPT_LEAVE_SOCKETS_BLOCKING | LEV_OPT_REUSEABLE;
	if (evconnlistener_new_bind(base, accepted, dispatcher, options, -1,
	                            (struct sockaddr *)&address, length) == NULL)
		err(EXIT_FAILURE, "%s", argv[1]);
	return event_base_dispatch(base);
}
