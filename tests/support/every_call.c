#include "every_call.h"

#include <stdio.h>
#include <string.h>

#include "support.h"

bool struck;
static const struct every_callback *callback_now;
static const struct every_call *call_now;

/* AddressSanitizer calls this before it reports. */
void __asan_on_error(void); /* NOLINT(bugprone-reserved-identifier) */
void __asan_on_error(void)  /* NOLINT(bugprone-reserved-identifier) */
{
	if (call_now != NULL)
		fprintf(stderr, "%s in %s\n", call_now->name, callback_now->name);
}

void strike(const char *name)
{
	if (struck || callback_now == NULL || strcmp(name, callback_now->name) != 0)
		return;
	struck = true;
	call_now->call();
}

void every_call_run(const struct every_callback *callback, const struct every_call *calls,
                    int count, void (*set_up)(void), void (*tear_down)(void))
{
	for (int i = 0; i < count; i++) {
		int before = count_open_fds();
		set_up();
		struck = false;
		callback_now = callback;
		call_now = &calls[i];
		callback->provoke();
		ck_assert_msg(struck, "%s does not run (before %s)", callback->name, calls[i].name);
		tear_down();
		callback_now = NULL;
		ck_assert_msg(count_open_fds() == before, "%s in %s: %d descriptors, %d before",
		              calls[i].name, callback->name, count_open_fds(), before);
	}
}
