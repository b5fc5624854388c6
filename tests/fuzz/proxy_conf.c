/* The proxy's configuration file. Its reader either refuses it, with one line of text that has the
 * place and the reason, and leaves nothing allocated; or returns a configuration that is within the
 * documented limits. */

#include "fuzz.h"

#include <string.h>

#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/routes.h"

static void check_taken(const struct conf *conf)
{
	FUZZ_CHECK(conf->listen_count >= 1 && conf->listen_count <= CONF_LISTENS);
	FUZZ_CHECK(conf->service_count >= 1 && conf->service_count <= CONF_SERVICES);
	FUZZ_CHECK(conf->queue >= 1);
	for (unsigned int i = 0; i < conf->service_count; i++) {
		const struct conf_service *service = &conf->services[i];
		FUZZ_CHECK(conf_find_service(conf, service->name) == (int)i);
		FUZZ_CHECK(service->root != NULL || service->socket != NULL);
		FUZZ_CHECK((service->workers > 0) == (service->root != NULL));
	}
	int service = routes_find(conf->routes, "", 0, "/", 1);
	FUZZ_CHECK(service >= 0 && (unsigned int)service < conf->service_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf conf;
	static const struct conf empty;
	char error[CONF_ERROR_SIZE] = "";

	memset(&conf, 0xa5, sizeof(conf));
	if (conf_read_text(&conf, "conf", (const char *)data, size, error)) {
		FUZZ_CHECK(error[0] == '\0');
		check_taken(&conf);
		conf_free(&conf);
	} else {
		FUZZ_CHECK(strncmp(error, "conf", 4) == 0 && strlen(error) < sizeof(error));
		for (const char *at = error; *at != '\0'; at++)
			FUZZ_CHECK((unsigned char)*at >= ' ' && *at != '\x7f');
	}
	FUZZ_CHECK(memcmp((const unsigned char *)&conf, (const unsigned char *)&empty, sizeof(conf)) ==
	           0);
	return 0;
}
