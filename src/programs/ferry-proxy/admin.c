#include "programs/ferry-proxy/admin.h"

#include "programs/ferry-proxy/admin_answer.h"
#include "programs/ferry-proxy/demo.h"
#include "programs/ferry-proxy/health.h"
#include "programs/ferry-proxy/page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

/* The requests of operators and of Prometheus are small and quick. */
enum { TIMEOUT_SECONDS = 10, HEADERS_MAX = 8192, BODY_MAX = 4096 };

static const struct timeval accept_pause = {.tv_usec = 100000};

static const char health_path[] = "/-/healthz";

struct admin {
	struct admin *next; /* in `admins` */
	struct evhttp *http;
	struct evhttp_bound_socket *bound; /* NULL: accepts no more */
	struct evconnlistener *listener;   /* of `bound` */
	struct event *accept_again;
	int fd; /* or -1 */
	admin_fill_cb fill;
	void *context;
	struct demo *demo; /* NULL: none */
};

static void answer_health(struct evhttp_request *request, const char *path,
                          const struct snapshot *snapshot)
{
	struct evbuffer *body = evbuffer_new();
	int health = body != NULL ? health_add(body, path + strlen(health_path), snapshot) : -ENOMEM;
	if (health == -ENOENT)
		admin_answer_text(request, HTTP_NOTFOUND, "Not Found", "there is no such service");
	else if (health < 0)
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	else
		admin_answer_body(request, health, health == HTTP_OK ? "OK" : "Service Unavailable",
		                  "text/plain; charset=utf-8", body);
	if (body != NULL)
		evbuffer_free(body);
}

/* "/-/healthz" and "/-/healthz/SERVICE". */
static bool is_health_path(const char *path)
{
	size_t length = strlen(health_path);
	return strncmp(path, health_path, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static void answer_report(struct evhttp_request *request, const char *type,
                          int (*add)(struct evbuffer *out, const struct snapshot *snapshot),
                          const struct snapshot *snapshot)
{
	struct evbuffer *body = evbuffer_new();
	if (body == NULL || add(body, snapshot) < 0)
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	else
		admin_answer_body(request, HTTP_OK, "OK", type, body);
	if (body != NULL)
		evbuffer_free(body);
}

static void answer_file(struct evhttp_request *request, const struct page_file *file)
{
	struct evbuffer *body = evbuffer_new();
	if (body == NULL || evbuffer_add(body, file->bytes, *file->length) < 0)
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	else
		admin_answer_body(request, HTTP_OK, "OK", file->type, body);
	if (body != NULL)
		evbuffer_free(body);
}

static void answer_path(struct admin *admin, struct evhttp_request *request, const char *path)
{
	const struct page_file *file = page_find_file(path);
	if (file != NULL) {
		answer_file(request, file);
		return;
	}
	struct snapshot snapshot = {.version = ""};
	admin->fill(&snapshot, admin->context);
	if (is_health_path(path))
		answer_health(request, path, &snapshot);
	else if (strcmp(path, "/-/status") == 0)
		answer_report(request, "text/html; charset=utf-8", report_add_page, &snapshot);
	else
		answer_report(request, "text/plain; version=0.0.4; charset=utf-8", report_add_metrics,
		              &snapshot);
}

static bool is_known_path(const char *path)
{
	return page_find_file(path) != NULL || is_health_path(path) || strcmp(path, "/-/status") == 0 ||
	       strcmp(path, "/-/metrics") == 0;
}

static void answer_demo(struct admin *admin, struct evhttp_request *request, const char *path)
{
	struct snapshot snapshot = {.version = ""};
	admin->fill(&snapshot, admin->context);
	demo_answer(admin->demo, request, path, &snapshot);
}

static void request_received(struct evhttp_request *request, void *context)
{
	struct admin *admin = context;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	enum evhttp_cmd_type command = evhttp_request_get_command(request);
	if (path != NULL && admin->demo != NULL && demo_has_path(path)) {
		answer_demo(admin, request, path);
	} else if (path == NULL || !is_known_path(path)) {
		admin_answer_text(request, HTTP_NOTFOUND, "Not Found",
		                  "the paths are /-/status, /-/metrics and /-/healthz");
	} else if (command != EVHTTP_REQ_GET && command != EVHTTP_REQ_HEAD) {
		admin_answer_set(request, "Allow", "GET, HEAD");
		admin_answer_text(request, HTTP_BADMETHOD, "Method Not Allowed", "only GET and HEAD");
	} else {
		answer_path(admin, request, path);
	}
}

/* All admins. A listener has one context for both of its callbacks, and evhttp sets that: the error
 * callback finds its admin here. */
static struct admin *admins;

static void leave_admins(const struct admin *admin)
{
	struct admin **link = &admins;
	while (*link != NULL && *link != admin)
		link = &(*link)->next;
	if (*link != NULL)
		*link = admin->next;
}

/* With a connection in the backlog EMFILE would recur at once: accepting is paused. */
static void admin_accept_failed(struct evconnlistener *listener, void *context)
{
	(void)context;
	struct admin *admin = admins;
	while (admin != NULL && admin->listener != listener)
		admin = admin->next;
	if (admin != NULL && event_add(admin->accept_again, &accept_pause) == 0)
		evconnlistener_disable(listener);
}

static void resume_admin(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct admin *admin = context;
	if (admin->bound != NULL)
		evconnlistener_enable(admin->listener);
}

static void init_http(struct admin *admin)
{
	/* All methods that evhttp knows: it would answer 501 to others itself. */
	evhttp_set_allowed_methods(admin->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
	                                            EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
	                                            EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
	                                            EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_max_headers_size(admin->http, HEADERS_MAX);
	evhttp_set_max_body_size(admin->http, BODY_MAX);
	evhttp_set_timeout(admin->http, TIMEOUT_SECONDS);
	evhttp_set_gencb(admin->http, request_received, admin);
}

/* The listener does not close the descriptor: on failure the caller keeps it. */
static int start_accepting(struct admin *admin, struct event_base *base, int fd)
{
	admin->listener = evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (admin->listener == NULL)
		return -ENOMEM;
	admin->bound = evhttp_bind_listener(admin->http, admin->listener);
	if (admin->bound == NULL) {
		evconnlistener_free(admin->listener);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(admin->listener, admin_accept_failed);
	return 0;
}

int admin_new(struct admin **out, struct event_base *base, int fd, admin_fill_cb fill,
              void *context)
{
	int listens = 0;
	socklen_t length = sizeof(listens);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0 || !listens)
		return -EINVAL;
	struct admin *admin = calloc(1, sizeof(*admin));
	if (admin == NULL)
		return -ENOMEM;
	admin->fd = -1;
	admin->fill = fill;
	admin->context = context;
	admin->accept_again = evtimer_new(base, resume_admin, admin);
	admin->http = evhttp_new(base);
	int status = -ENOMEM;
	if (admin->accept_again != NULL && admin->http != NULL) {
		init_http(admin);
		status = start_accepting(admin, base, fd);
	}
	if (status < 0) {
		admin_free(admin);
		return status;
	}
	admin->fd = fd;
	admin->next = admins;
	admins = admin;
	*out = admin;
	return 0;
}

void admin_set_demo(struct admin *admin, struct demo *demo)
{
	demo_free(admin->demo);
	admin->demo = demo;
}

int admin_get_fd(const struct admin *admin)
{
	return admin->fd;
}

void admin_stop_accepting(struct admin *admin)
{
	if (admin->bound == NULL)
		return;
	evhttp_del_accept_socket(admin->http, admin->bound);
	admin->bound = NULL;
	admin->listener = NULL;
	close(admin->fd);
	admin->fd = -1;
}

void admin_free(struct admin *admin)
{
	if (admin == NULL)
		return;
	leave_admins(admin);
	/* The event of the listener is freed with evhttp, before the descriptor is closed. */
	if (admin->http != NULL)
		evhttp_free(admin->http);
	if (admin->accept_again != NULL)
		event_free(admin->accept_again);
	demo_free(admin->demo);
	if (admin->fd >= 0)
		close(admin->fd);
	free(admin);
}
