#include "programs/ferry-proxy/report_text.h"

#include <stdarg.h>
#include <string.h>

#include <event2/buffer.h>

void text_add(struct text *text, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	if (!text->failed && evbuffer_add_vprintf(text->out, format, arguments) < 0)
		text->failed = true;
	va_end(arguments);
}

void text_add_bytes(struct text *text, const char *bytes, size_t length)
{
	if (!text->failed && evbuffer_add(text->out, bytes, length) < 0)
		text->failed = true;
}

const char *worker_state_name(enum worker_state state)
{
	static const char *const names[WORKER_STATES] = {
	    [WORKER_STARTING] = "starting",
	    [WORKER_READY] = "ready",
	    [WORKER_DRAINING] = "draining",
	    [WORKER_WAITING] = "waiting",
	};
	return names[state];
}

const struct refusal_reason refusal_reasons[REFUSAL_REASONS] = {
    {"bad_request", offsetof(struct refusals, bad_request)},
    {"no_route", offsetof(struct refusals, no_route)},
    {"too_slow", offsetof(struct refusals, too_slow)},
    {"queue_full", offsetof(struct refusals, queue_full)},
    {"expired", offsetof(struct refusals, expired)},
    {"bad_proxy_header", offsetof(struct refusals, bad_proxy_header)},
    {"bad_client_hello", offsetof(struct refusals, bad_client_hello)},
    {"no_tls_route", offsetof(struct refusals, no_tls_route)},
    {"failed", offsetof(struct refusals, failed)},
};

uint64_t report_number_at(const void *structure, size_t offset)
{
	uint64_t number;
	memcpy(&number, (const char *)structure + offset, sizeof(number));
	return number;
}
