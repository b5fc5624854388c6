/* A dispatcher that makes TLS handshakes, gives the keys to the kernel, and hands the connections to a worker. The
 * worker has no TLS library: it sends the file by sendfile(2), and the kernel encrypts. docs/tls.md has the rest.
 *
 *     modprobe tls                    (once, as root)
 *     ./tls_handoff 127.0.0.1:7443 cert.pem key.pem FILE &
 *     openssl s_client -quiet -connect 127.0.0.1:7443 </dev/null
 *
 * OpenSSL before 3.2 does not give the kernel the receiving keys of TLS 1.3: there, the handshake is of TLS 1.2. */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <ferry/ferry.h>
#include <openssl/ssl.h>

static const char *path;
static SSL_CTX *tls;

static struct ferry_transport *transport_new(struct event_base *base, int fd)
{
	struct ferry_transport *transport;
	if (base == NULL || ferry_transport_new_socket(&transport, base, fd) < 0)
		errx(EXIT_FAILURE, "channel");
	return transport;
}

static void lost(struct ferry_transport *client, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_transport_free(client);
}
static const struct ferry_protocol protocol = {.connection_lost = lost};

/* close_notify goes behind the file. */
static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	struct ferry_transport *client;
	(void)worker;
	if (ferry_handoff_to_transport(&client, handoff, context, BEV_OPT_CLOSE_ON_FREE) < 0)
		return; /* which closes it */
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && ferry_transport_set_protocol(client, &protocol, NULL) == 0 &&
	    ferry_transport_send_file(NULL, client, fd, FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL,
	                              NULL) == 0 &&
	    ferry_transport_lose_connection(client) == 0)
		return;
	if (fd >= 0)
		close(fd);
	ferry_transport_free(client);
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(worker);
}

static int work(int channel)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .dispatcher_lost = dispatcher_lost};
	struct ferry_worker *worker;
	struct event_base *base = event_base_new();
	if (ferry_worker_new(&worker, transport_new(base, channel), &callbacks, base) < 0)
		errx(EXIT_FAILURE, "worker");
	return event_base_dispatch(base);
}

/* Blocks, for a second at most for each read: a server makes handshakes from the loop. The library's object is freed
 * without a shutdown, which would send close_notify. */
static int handshake(int fd)
{
	const struct timeval second = {1, 0}, never = {0, 0};
	SSL *ssl = SSL_new(tls);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
	int status = -ECONNABORTED;
	if (ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1)
		status =
		    BIO_get_ktls_send(SSL_get_wbio(ssl)) && BIO_get_ktls_recv(SSL_get_rbio(ssl)) &&
		            !SSL_has_pending(ssl)
		        ? 0
		        : -EPROTOTYPE; /* the kernel has not both keys: a server goes on with the library */
	SSL_free(ssl);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof(never));
	return status;
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *dispatcher)
{
	struct ferry_handoff *handoff = NULL;
	(void)listener, (void)address, (void)length;
	int status = handshake(fd);
	if (status == 0)
		status = ferry_handoff_new(&handoff, fd);
	if (handoff == NULL)
		close(fd);
	else if ((status = ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL)) < 0)
		ferry_handoff_free(handoff);
	if (status < 0)
		warnx("client: %s", strerror(-status));
}

static void load(const char *certificate, const char *key)
{
	tls = SSL_CTX_new(TLS_server_method());
	if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
		errx(EXIT_FAILURE, "%s, %s: no certificate with its key", certificate, key);
	SSL_CTX_set_options(tls, SSL_OP_ENABLE_KTLS | SSL_OP_NO_RENEGOTIATION);
	if (OPENSSL_VERSION_NUMBER < 0x30200000L)
		SSL_CTX_set_max_proto_version(tls, TLS1_2_VERSION);
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	struct ferry_dispatcher *dispatcher = NULL;
	int length = sizeof(address), ends[2], pid;
	if (argc != 5 || evutil_parse_sockaddr_port(argv[1], (struct sockaddr *)&address, &length) < 0)
		errx(2, "usage: tls_handoff ADDRESS:PORT CERTIFICATE KEY FILE");
	path = argv[4];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (pid = fork()) < 0)
		err(EXIT_FAILURE, "worker");
	close(ends[pid == 0 ? 0 : 1]);
	if (pid == 0)
		return work(ends[1]);
	load(argv[2], argv[3]); /* the worker never sees the key */
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
