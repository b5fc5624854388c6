#include "programs/ferry-proxy/tls_hello.h"

#include "programs/ferry-proxy/tls_routes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <ferry/client_hello.h>

static void route_hello(struct tls_hello *out, const struct tls_routes *routes,
                        const struct ferry_client_hello *hello)
{
	struct ferry_client_hello_info info;
	ferry_client_hello_get_info(hello, &info);
	const char *name = info.server_name != NULL ? info.server_name : "";
	int service = tls_routes_find(routes, hello);
	out->kind = service >= 0 ? TLS_HELLO_ROUTED : TLS_HELLO_NO_ROUTE;
	if (service >= 0) {
		out->service = (unsigned int)service;
	} else if (service == -EPROTONOSUPPORT) {
		out->alert = TLS_ALERT_NO_APPLICATION_PROTOCOL;
		(void)snprintf(out->why, sizeof(out->why),
		               "no route for the application protocols of a client of '%s'", name);
	} else {
		out->alert = TLS_ALERT_UNRECOGNIZED_NAME;
		(void)snprintf(out->why, sizeof(out->why), "no route for the server name '%s'", name);
	}
}

int tls_hello_read(struct tls_hello *out, const struct tls_routes *routes, struct evbuffer *input)
{
	struct ferry_client_hello *hello;
	const char *error = NULL;
	int status = ferry_client_hello_read(&hello, input, 0, &error);
	if (status == -EAGAIN)
		return status;
	*out = (struct tls_hello){.kind = TLS_HELLO_FAILED, .alert = TLS_ALERT_INTERNAL_ERROR};
	if (status == 0) {
		route_hello(out, routes, hello);
		ferry_client_hello_free(hello);
		return 0;
	}
	if (status == -EPROTONOSUPPORT)
		out->kind = TLS_HELLO_NOT_TLS;
	else if (status == -EPROTO || status == -EMSGSIZE)
		out->kind = TLS_HELLO_MALFORMED;
	if (out->kind == TLS_HELLO_MALFORMED)
		out->alert = TLS_ALERT_DECODE_ERROR;
	(void)snprintf(out->why, sizeof(out->why), "%s", error != NULL ? error : strerror(-status));
	return 0;
}

void tls_alert_put(unsigned char out[TLS_ALERT_SIZE], unsigned char alert)
{
	/* Type alert, version 1.2, 2 bytes: fatal, and the alert. */
	const unsigned char record[TLS_ALERT_SIZE] = {21, 3, 3, 0, 2, 2, alert};
	memcpy(out, record, sizeof(record));
}
