/* TLS over a transport: libevent's OpenSSL filter (libevent_openssl) on the bufferevent of a transport,
 * 1 MiB each way, and the ends of a connection. The filter knows of nothing but a bufferevent; the
 * certificate is made here. */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "ferry/ferry.h"

#include "test.h"
#include "wire.h"

enum { MIB = 1024 * 1024 };

/* ---- a certificate for this process ---- */

static EVP_PKEY *key;
static X509 *certificate;
static SSL_CTX *server_context, *client_context;

static void make_certificate(void)
{
	key = EVP_EC_gen("P-256");
	certificate = X509_new();
	ck_assert_ptr_nonnull(key);
	ck_assert_ptr_nonnull(certificate);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	X509_NAME *name = X509_get_subject_name(certificate);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"ferry", -1, -1, 0);
	X509_set_issuer_name(certificate, name);
	ck_assert_int_gt(X509_sign(certificate, key, EVP_sha256()), 0);
}

static SSL_CTX *make_context(const SSL_METHOD *method, int version)
{
	SSL_CTX *context = SSL_CTX_new(method);
	ck_assert_ptr_nonnull(context);
	ck_assert_int_eq(SSL_CTX_set_min_proto_version(context, version), 1);
	ck_assert_int_eq(SSL_CTX_set_max_proto_version(context, version), 1);
	return context;
}

/* The client trusts this certificate and no other. */
static void make_contexts(int version)
{
	make_certificate();
	server_context = make_context(TLS_server_method(), version);
	ck_assert_int_eq(SSL_CTX_use_certificate(server_context, certificate), 1);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey(server_context, key), 1);
	client_context = make_context(TLS_client_method(), version);
	SSL_CTX_set_verify(client_context, SSL_VERIFY_PEER, NULL);
	ck_assert_int_eq(X509_STORE_add_cert(SSL_CTX_get_cert_store(client_context), certificate), 1);
}

static void free_contexts(void)
{
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/* ---- an end ---- */

struct end {
	struct bufferevent *under;         /* the socket's */
	struct ferry_transport *transport; /* on it; NULL: the bufferevent is a stock one */
	struct bufferevent *tls;           /* the filter; NULL once freed */
	SSL *ssl;

	uint64_t sent, received;
	unsigned int connected, ended, failed;
	unsigned int fd_count;
	uint32_t mark; /* of the last descriptor */
	uint64_t fd_at;
};
static struct end client, server;

static void on_read(struct bufferevent *bev, void *context)
{
	struct end *end = context;
	static unsigned char data[65536];
	size_t length;

	while ((length = bufferevent_read(bev, data, sizeof(data))) > 0) {
		size_t right = 0;
		while (right < length && data[right] == support_byte(end->received + right))
			right++;
		ck_assert_uint_eq(right, length);
		end->received += length;
	}
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	(void)bev;
	struct end *end = context;
	if ((what & BEV_EVENT_CONNECTED) != 0)
		end->connected++;
	if ((what & BEV_EVENT_EOF) != 0)
		end->ended++;
	if ((what & BEV_EVENT_ERROR) != 0)
		end->failed++;
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	struct end *end = context;
	end->mark = marked_number(fd);
	end->fd_at = end->received;
	end->fd_count++;
	close(fd);
}

static void send_bytes(struct end *end, size_t length)
{
	unsigned char *data = malloc(length);
	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < length; i++)
		data[i] = support_byte(end->sent++);
	ck_assert_int_eq(bufferevent_write(end->tls, data, length), 0);
	free(data);
}

static bool has_received(void *argument)
{
	const struct end *end = argument;
	ck_assert_uint_eq(client.failed + server.failed, 0);
	return end->received == (end == &client ? server.sent : client.sent);
}

static void open_end(struct end *end, int fd, bool on_ferry, SSL_CTX *context)
{
	const bool is_server = context == server_context;
	memset(end, 0, sizeof(*end));
	end->under = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(end->under);
	if (on_ferry) {
		ck_assert_int_eq(ferry_transport_new(&end->transport, end->under), 0);
		ck_assert_int_eq(ferry_transport_set_fd_cb(end->transport, on_fd, end), 0);
	}
	end->ssl = SSL_new(context);
	ck_assert_ptr_nonnull(end->ssl);
	/* Without BEV_OPT_CLOSE_ON_FREE: the bufferevent below is the transport's to free. */
	end->tls = bufferevent_openssl_filter_new(
	    base, end->under, end->ssl,
	    is_server ? BUFFEREVENT_SSL_ACCEPTING : BUFFEREVENT_SSL_CONNECTING, 0);
	ck_assert_ptr_nonnull(end->tls);
	bufferevent_setcb(end->tls, on_read, NULL, on_event, end);
	bufferevent_enable(end->tls, EV_READ | EV_WRITE);
}

static void free_tls(struct end *end)
{
	if (end->tls == NULL)
		return;
	bufferevent_free(end->tls);
	end->tls = NULL;
	pump_turns(2); /* the loop finalises it */
	SSL_free(end->ssl);
}

static void close_end(struct end *end)
{
	free_tls(end);
	if (end->transport != NULL)
		ferry_transport_free(end->transport);
	else if (end->under != NULL)
		bufferevent_free(end->under);
	memset(end, 0, sizeof(*end));
	pump_turns(2);
}

/* ---- what there is to be connected ---- */

/* One of the numbers that a test is looped over. */
struct way {
	enum pair_kind kind;
	bool client_on_ferry, server_on_ferry;
	int version;
};

enum { WAYS = 12 };

static struct way way_of(int number)
{
	return (struct way){
	    .kind = number % 2 == 0 ? PAIR_UNIX : PAIR_TCP,
	    .client_on_ferry = number / 2 % 3 != 1,
	    .server_on_ferry = number / 2 % 3 != 2,
	    .version = number / 6 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION,
	};
}

/* TCP's smallest window is below loopback's segments, and each would wait for the other end's timer. */
static void shrink(enum pair_kind kind, int socket)
{
	const int size = 32768;
	if (kind == PAIR_UNIX) {
		wire_shrink(socket);
		return;
	}
	ck_assert_int_eq(setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	ck_assert_int_eq(setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
}

static void connect_ends(const struct way *way, bool small_buffers)
{
	int fds[2];
	make_contexts(way->version);
	make_pair(way->kind, fds);
	if (small_buffers) {
		shrink(way->kind, fds[0]);
		shrink(way->kind, fds[1]);
	}
	open_end(&client, fds[0], way->client_on_ferry, client_context);
	open_end(&server, fds[1], way->server_on_ferry, server_context);
}

static void expect_connected(void)
{
	pump_until_count(&client.connected, 1);
	pump_until_count(&server.connected, 1);
	ck_assert_int_eq(SSL_get_verify_result(client.ssl), X509_V_OK);
	ck_assert_int_eq(SSL_version(client.ssl), SSL_version(server.ssl));
}

static void disconnect(void)
{
	close_end(&client);
	close_end(&server);
	free_contexts();
}

static void exchange(size_t length)
{
	send_bytes(&client, length);
	send_bytes(&server, length);
	pump_until(has_received, &client);
	pump_until(has_received, &server);
}

/* libevent sends no close_notify of its own; the program does, with this call. */
static void send_close_notify(struct end *end)
{
	ck_assert_int_ge(SSL_shutdown(end->ssl), 0);
}

/* ---- bytes ---- */

TEST_CASE("bytes");

LOOP_TEST(a_mebibyte_goes_each_way, WAYS)
{
	const struct way way = way_of(_i);
	connect_ends(&way, false);
	exchange(MIB);
	expect_connected();
	disconnect();
}

LOOP_TEST(a_mebibyte_goes_each_way_at_the_smallest_buffers, WAYS)
{
	const struct way way = way_of(_i);
	connect_ends(&way, true);
	/* The filter stops writing records at this mark, and continues when the write callback of the
	 * bufferevent under it reports them sent. */
	bufferevent_setwatermark(client.under, EV_WRITE, 0, 1000);
	bufferevent_setwatermark(server.under, EV_WRITE, 0, 3000);
	exchange(MIB);
	expect_connected();
	disconnect();
}

LOOP_TEST(paused_reading_goes_on, WAYS)
{
	const struct way way = way_of(_i);
	connect_ends(&way, true);
	expect_connected();
	bufferevent_disable(server.tls, EV_READ);
	send_bytes(&server, MIB);
	send_bytes(&client, MIB);
	pump_until(has_received, &client);
	ck_assert_uint_lt(server.received, MIB);
	bufferevent_enable(server.tls, EV_READ);
	pump_until(has_received, &server);
	disconnect();
}

LOOP_TEST(single_bytes_go_in_turn, WAYS)
{
	const struct way way = way_of(_i);
	connect_ends(&way, false);
	for (int i = 0; i < 200; i++) {
		send_bytes(&client, 1);
		pump_until(has_received, &server);
		send_bytes(&server, 1);
		pump_until(has_received, &client);
	}
	disconnect();
}

/* The filter's bytes are bytes like others: a descriptor travels with the record written after it. */
TEST(descriptors_travel_beside_the_records)
{
	connect_ends(&(struct way){PAIR_UNIX, true, true, TLS1_3_VERSION}, false);
	expect_connected();
	exchange(10000);
	for (unsigned int i = 0; i < 20; i++) {
		ck_assert_int_eq(
		    ferry_transport_send_fd(client.transport, make_marked_fd(i), FERRY_FD_TAKE), 0);
		const uint64_t position = client.sent;
		send_bytes(&client, 1 + i * 997);
		pump_until(has_received, &server);
		ck_assert_uint_eq(server.fd_count, i + 1);
		ck_assert_uint_eq(server.mark, i);
		ck_assert_uint_eq(server.fd_at, position);
	}
	ck_assert_uint_eq(client.fd_count, 0);
	disconnect();
}

/* ---- ends ---- */

TEST_CASE("ends");

LOOP_TEST(a_close_notify_is_a_clean_end_for_the_peer, WAYS)
{
	const struct way way = way_of(_i);
	connect_ends(&way, true);
	expect_connected();
	send_bytes(&client, MIB);
	pump_until(has_received, &server);
	send_close_notify(&client);
	pump_until_count(&server.ended, 1);
	ck_assert_uint_eq(server.failed, 0);
	ck_assert_int_ne(SSL_get_shutdown(server.ssl) & SSL_RECEIVED_SHUTDOWN, 0);
	disconnect();
}

/* The transport sends the bytes that the filter has written to it, close_notify included, and then
 * ends. */
LOOP_TEST(lose_connection_sends_the_records_and_the_close_notify_first, 4)
{
	connect_ends(
	    &(struct way){_i % 2 == 0 ? PAIR_UNIX : PAIR_TCP, true, _i / 2 == 0, TLS1_3_VERSION}, true);
	expect_connected();
	send_bytes(&client, 100000);
	/* All of it is in the transport's stream, and little of it with the kernel. */
	while (evbuffer_get_length(bufferevent_get_output(client.tls)) > 0)
		pump_turns(1);
	send_close_notify(&client);
	free_tls(&client);
	ck_assert_int_eq(ferry_transport_lose_connection(client.transport), 0);
	pump_until(has_received, &server);
	pump_until_count(&server.ended, 1);
	ck_assert_uint_eq(server.failed, 0);
	ck_assert_int_ne(SSL_get_shutdown(server.ssl) & SSL_RECEIVED_SHUTDOWN, 0);
	disconnect();
}

/* Half-close of the socket below: the sender of the close_notify still reads all of the peer's. */
LOOP_TEST(after_lose_write_connection_the_peers_records_are_still_read, 4)
{
	connect_ends(
	    &(struct way){_i % 2 == 0 ? PAIR_UNIX : PAIR_TCP, true, _i / 2 == 0, TLS1_3_VERSION}, true);
	expect_connected();
	bufferevent_disable(server.tls, EV_READ);
	send_bytes(&server, MIB);
	send_bytes(&client, 1000);
	send_close_notify(&client);
	ck_assert_int_eq(ferry_transport_lose_write_connection(client.transport), 0);
	pump_until(has_received, &client);
	bufferevent_enable(server.tls, EV_READ);
	pump_until(has_received, &server);
	pump_until_count(&server.ended, 1);
	ck_assert_uint_eq(server.failed, 0);

	send_close_notify(&server);
	pump_until_count(&client.ended, 1);
	ck_assert_uint_eq(client.failed, 0);
	disconnect();
}

LOOP_TEST(an_end_without_close_notify_is_an_error, WAYS)
{
	const struct way way = way_of(_i);
	connect_ends(&way, false);
	expect_connected();
	exchange(10000);
	close_end(&client);
	pump_until_count(&server.failed, 1);
	ck_assert_uint_eq(server.ended, 0);
	ck_assert_int_eq(SSL_get_shutdown(server.ssl) & SSL_RECEIVED_SHUTDOWN, 0);
	disconnect();
}

LOOP_TEST(an_untrusted_certificate_ends_the_handshake_for_both, WAYS)
{
	const struct way way = way_of(_i);
	connect_ends(&way, false);
	SSL_set_verify(client.ssl, SSL_VERIFY_PEER, NULL);
	SSL_set0_verify_cert_store(client.ssl, X509_STORE_new());
	pump_until_count(&client.failed, 1);
	pump_until_count(&server.failed, 1);
	ck_assert_uint_eq(client.connected, 0);
	ck_assert_uint_eq(client.received + server.received, 0);
	disconnect();
}

/* The filter may go, and the transport is used without it from then on. */
TEST(a_filter_that_is_freed_leaves_a_transport_that_works)
{
	connect_ends(&(struct way){PAIR_UNIX, true, true, TLS1_3_VERSION}, false);
	expect_connected();
	exchange(10000);
	free_tls(&client);
	free_tls(&server);
	bufferevent_setcb(server.under, on_read, NULL, on_event, &server);
	bufferevent_enable(server.under, EV_READ);
	const unsigned char byte = support_byte(client.sent++);
	ck_assert_int_eq(ferry_transport_send_fd(client.transport, make_marked_fd(77), FERRY_FD_TAKE),
	                 0);
	ck_assert_int_eq(ferry_transport_write(client.transport, &byte, 1), 0);
	pump_until(has_received, &server);
	ck_assert_uint_eq(server.fd_count, 1);
	ck_assert_uint_eq(server.mark, 77);
	disconnect();
}

BEFORE_ALL
{
	/* All that OpenSSL opens and keeps for the process, before descriptors are counted. */
	OPENSSL_init_ssl(0, NULL);
}
