#include "programs/ferry-proxy/conf.h"

#include "programs/ferry-proxy/routes.h"
#include "programs/ferry-proxy/tls_routes.h"
#include "programs/http/head.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

static const char *const choices[] = {
    [FERRY_DISPATCH_LEAST_OUTSTANDING] = "least",
    [FERRY_DISPATCH_ROUND_ROBIN] = "round-robin",
    [FERRY_DISPATCH_BY_KEY] = "by-client",
};

enum { CHOICES = sizeof(choices) / sizeof(choices[0]) };

void conf_init(struct conf *conf)
{
	*conf = (struct conf){.single = {.address = "127.0.0.1", .port = 8080},
	                      .queue = 1024,
	                      .queue_timeout = {.tv_sec = 5},
	                      .answer_timeout = {.tv_sec = 5},
	                      .start_timeout = {.tv_sec = 60},
	                      .head_timeout = {.tv_sec = 10},
	                      .idle_timeout = {.tv_sec = 60},
	                      .drain_timeout = {.tv_sec = 60},
	                      .head_size = HTTP_HEAD_LIMIT,
	                      .head_fields = HTTP_HEAD_FIELDS,
	                      .keep = 1,
	                      .retry_after = 1,
	                      .scheduling = SCHED_BATCH};
}

const char *conf_choice_name(enum ferry_dispatch_choice choice)
{
	return choices[choice];
}

bool conf_find_choice(const char *name, enum ferry_dispatch_choice *choice)
{
	for (unsigned int i = 0; i < CHOICES; i++)
		if (strcmp(name, choices[i]) == 0) {
			*choice = (enum ferry_dispatch_choice)i;
			return true;
		}
	return false;
}

int conf_find_service(const struct conf *conf, const char *name)
{
	for (unsigned int i = 0; i < conf->service_count; i++)
		if (strcmp(conf->services[i].name, name) == 0)
			return (int)i;
	return -1;
}

void conf_free(struct conf *conf)
{
	for (unsigned int i = 0; i < conf->listen_count; i++)
		ferry_proxy_protocol_sources_free(conf->listens[i].from);
	routes_free(conf->routes);
	tls_routes_free(conf->tls_routes);
	free(conf->text);
	memset(conf, 0, sizeof(*conf));
}
