#include "programs/ferry-proxy/admin_answer.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/util.h>

void admin_answer_set(struct evhttp_request *request, const char *name, const char *value)
{
	(void)evhttp_add_header(evhttp_request_get_output_headers(request), name, value);
}

/* A policy that the caller has set stays. */
static void set_policy(struct evhttp_request *request)
{
	struct evkeyvalq *fields = evhttp_request_get_output_headers(request);
	if (evhttp_find_header(fields, "Content-Security-Policy") == NULL)
		admin_answer_set(request, "Content-Security-Policy",
		                 "default-src 'none'; style-src 'self'; script-src 'self'; "
		                 "img-src 'self'; connect-src 'self'; base-uri 'none'; "
		                 "form-action 'none'; frame-ancestors 'none'");
	admin_answer_set(request, "X-Content-Type-Options", "nosniff");
	admin_answer_set(request, "Referrer-Policy", "same-origin");
	admin_answer_set(request, "Cache-Control", "no-store");
}

void admin_answer_body(struct evhttp_request *request, int status, const char *reason,
                       const char *type, struct evbuffer *body)
{
	char length[24];
	evutil_snprintf(length, sizeof(length), "%zu", evbuffer_get_length(body));
	admin_answer_set(request, "Content-Type", type);
	admin_answer_set(request, "Content-Length", length);
	set_policy(request);
	if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD)
		evbuffer_drain(body, evbuffer_get_length(body));
	evhttp_send_reply(request, status, reason, body);
}

void admin_answer_text(struct evhttp_request *request, int status, const char *reason,
                       const char *text)
{
	struct evbuffer *body = evbuffer_new();
	if (body == NULL || evbuffer_add_printf(body, "%s\n", text) < 0)
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	else
		admin_answer_body(request, status, reason, "text/plain; charset=utf-8", body);
	if (body != NULL)
		evbuffer_free(body);
}
