#ifndef FERRY_PROGRAMS_FERRY_PROXY_TLS_HELLO_H
#define FERRY_PROGRAMS_FERRY_PROXY_TLS_HELLO_H

/* What happens to a TLS client: its ClientHello is read without being consumed, and names a service, or the client is
 * refused. The proxy has no key: a refusal is an alert that is not encrypted, which TLS allows before the handshake. */

#include <stddef.h>

struct evbuffer;
struct tls_routes;

enum tls_hello_kind {
	TLS_HELLO_ROUTED,    /* to `service` */
	TLS_HELLO_NO_ROUTE,  /* refused with `alert` */
	TLS_HELLO_MALFORMED, /* refused with `alert` */
	TLS_HELLO_NOT_TLS, /* the first byte is not that of TLS: a client of HTTP without TLS, most likely */
	TLS_HELLO_FAILED /* no memory */
};

/* The alerts of RFC 8446, section 6. */
enum {
	TLS_ALERT_DECODE_ERROR = 50,
	TLS_ALERT_INTERNAL_ERROR = 80,
	TLS_ALERT_UNRECOGNIZED_NAME = 112,
	TLS_ALERT_NO_APPLICATION_PROTOCOL = 120
};

enum { TLS_HELLO_WHY_SIZE = 320, TLS_ALERT_SIZE = 7, TLS_HANDSHAKE_BYTE = 22 };

struct tls_hello {
	enum tls_hello_kind kind;
	unsigned int service;
	unsigned char alert;
	char why[TLS_HELLO_WHY_SIZE]; /* the reason of a refusal, for the log */
};

/* 0, or -EAGAIN: the ClientHello is not complete. */
int tls_hello_read(struct tls_hello *out, const struct tls_routes *routes, struct evbuffer *input);

/* Writes the record of a fatal alert. */
void tls_alert_put(unsigned char out[TLS_ALERT_SIZE], unsigned char alert);

#endif
