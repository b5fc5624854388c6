#include "programs/ferry-proxy/conf_reload.h"

#include <string.h>

static bool same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_access(const struct conf_access *a, const struct conf_access *b)
{
	return a->mode == b->mode && a->group == b->group;
}

static bool same_listens(const struct conf *conf, const struct conf *fresh)
{
	if (conf->listen_count != fresh->listen_count)
		return false;
	for (unsigned int i = 0; i < conf->listen_count; i++) {
		const struct conf_listen *a = &conf->listens[i], *b = &fresh->listens[i];
		if (!ferry_address_equal(&a->address, &b->address) || strcmp(a->systemd, b->systemd) != 0 ||
		    !same_access(&a->access, &b->access))
			return false;
	}
	return true;
}

static bool same_services(const struct conf *conf, const struct conf *fresh)
{
	if (conf->service_count != fresh->service_count)
		return false;
	for (unsigned int i = 0; i < conf->service_count; i++) {
		const struct conf_service *a = &conf->services[i], *b = &fresh->services[i];
		if (strcmp(a->name, b->name) != 0 || !same_text(a->root, b->root) ||
		    !same_text(a->socket, b->socket) || !same_access(&a->access, &b->access) ||
		    !same_text(a->tls_certificate, b->tls_certificate) ||
		    !same_text(a->tls_key, b->tls_key) || a->workers != b->workers ||
		    a->choice != b->choice)
			return false;
	}
	return true;
}

const char *conf_reload_obstacle(const struct conf *conf, const struct conf *fresh)
{
	if (!same_listens(conf, fresh))
		return "listen";
	if (!same_services(conf, fresh))
		return "service";
	if (!ferry_address_equal(&conf->admin, &fresh->admin))
		return "admin";
	if (!same_text(conf->control, fresh->control))
		return "control";
	if (!same_text(conf->access_log, fresh->access_log))
		return "access-log";
	if (strcmp(conf->user, fresh->user) != 0 || conf->gid != fresh->gid)
		return "user";
	if (conf->max_clients != fresh->max_clients)
		return "max-clients";
	return NULL;
}

void conf_reload_exchange(struct conf *conf, struct conf *fresh)
{
	struct conf former = *conf;
	*conf = *fresh;
	*fresh = former;
}
