/* What a user's program does at the least: ferry's functions and libevent's, found by what ferry
 * itself says of how to build with it. Compiles as C and as C++. */

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
