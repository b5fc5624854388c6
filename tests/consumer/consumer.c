/* The smallest program of a user: it calls ferry's functions and libevent's, and is built with the flags that
 * ferry's package gives. Compiles as C and as C++. */

#include <ferry/ferry.h>

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct event_base *base = event_base_new();
	if (base == NULL)
		return 1;
	event_base_free(base);
	ferry_log_set_cb(NULL);
	printf("ferry %s with libevent %s\n", ferry_version(), event_get_version());
	return strcmp(ferry_version(), FERRY_VERSION) == 0 ? 0 : 1;
}
