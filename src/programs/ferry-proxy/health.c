#include "programs/ferry-proxy/health.h"

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>

static const char *service_trouble(const struct service_snapshot *service)
{
	size_t i = 0;
	while (i < service->worker_count && service->workers[i].state != WORKER_READY)
		i++;
	if (i == service->worker_count)
		return "no worker is ready";
	return service->is_full ? "the queue is full" : NULL;
}

static int add_service(struct evbuffer *out, const struct service_snapshot *service)
{
	const char *trouble = service_trouble(service);
	return evbuffer_add_printf(out, "%s: %s\n", service->name, trouble != NULL ? trouble : "ok") < 0
	           ? -ENOMEM
	           : 0;
}

static int add_proxy(struct evbuffer *out, const struct snapshot *snapshot, bool *healthy)
{
	*healthy = false;
	for (size_t i = 0; i < snapshot->service_count; i++)
		*healthy = *healthy || service_trouble(&snapshot->services[i]) == NULL;
	if (evbuffer_add_printf(out, "%s\n", *healthy ? "ok" : "no service can serve") < 0)
		return -ENOMEM;
	for (size_t i = 0; i < snapshot->service_count; i++)
		if (add_service(out, &snapshot->services[i]) < 0)
			return -ENOMEM;
	return 0;
}

int health_add(struct evbuffer *out, const char *rest, const struct snapshot *snapshot)
{
	const struct service_snapshot *service = NULL;
	bool healthy = false;
	int status;
	for (size_t i = 0; rest[0] == '/' && i < snapshot->service_count; i++)
		if (strcmp(snapshot->services[i].name, rest + 1) == 0)
			service = &snapshot->services[i];
	if (rest[0] == '/' && service == NULL)
		return -ENOENT;
	if (snapshot->not_serving != NULL) {
		status = evbuffer_add_printf(out, "%s\n", snapshot->not_serving) < 0 ? -ENOMEM : 0;
	} else if (service != NULL) {
		healthy = service_trouble(service) == NULL;
		status = add_service(out, service);
	} else {
		status = add_proxy(out, snapshot, &healthy);
	}
	if (status < 0)
		return status;
	return healthy ? 200 : 503;
}
