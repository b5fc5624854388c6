/* battery [--debug-mode] [--tls] theme ...: runs the cases of these themes. A theme is a file of cases. With --tls, over
 * connections with TLS in the kernel alone, which not every kernel has. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/thread.h>

#include "carrier.h"

static const char *const themes[] = {"order",  "watermarks", "enabling",  "timeouts",
                                     "ends",   "connecting", "callbacks", "freeing",
                                     "limits", "sockets",    "threads",   "slow_readers"};
enum { THEME_COUNT = sizeof(themes) / sizeof(themes[0]) };

static const char *const carrier_names[CARRIER_COUNT] = {"stock on unix",  "stock on TCP",
                                                         "ferry on unix",  "ferry on TCP",
                                                         "ferry on pipes", "ferry on TLS"};

/* By their lines: the compiler may register those of a file in any order. */
static struct battery_case *cases;

void battery_register(struct battery_case *battery_case)
{
	struct battery_case **at = &cases;
	while (*at != NULL && (*at)->test->line < battery_case->test->line)
		at = &(*at)->next;
	battery_case->next = *at;
	*at = battery_case;
}

static bool is_of_theme(const struct battery_case *battery_case, const char *theme)
{
	const char *slash = strrchr(battery_case->test->file, '/');
	const char *file = slash != NULL ? slash + 1 : battery_case->test->file;
	size_t length = strlen(theme);
	return strncmp(file, theme, length) == 0 && strcmp(file + length, ".c") == 0;
}

static void add_theme(Suite *suite, int theme, int carriers)
{
	static char names[THEME_COUNT][CARRIER_COUNT][64]; /* check keeps the pointers */
	for (int i = 0; i < CARRIER_COUNT; i++) {
		if ((carriers & 1 << i) == 0)
			continue;
		char *name = names[theme][i];
		snprintf(name, sizeof(names[0][0]), "%s, %s", themes[theme], carrier_names[i]);
		TCase *tcase = support_case(suite, name);
		for (const struct battery_case *one = cases; one != NULL; one = one->next)
			if (is_of_theme(one, themes[theme]) && (one->carriers & 1 << i))
				tcase_add_loop_test(tcase, one->test, i, i + 1);
	}
}

static int find_theme(const char *name)
{
	for (int i = 0; i < THEME_COUNT; i++)
		if (strcmp(themes[i], name) == 0)
			return i;
	fprintf(stderr, "no such theme: %s\n", name);
	exit(EXIT_FAILURE);
}

/* Whether the kernel has loaded it. */
static bool kernel_has_tls(void)
{
	char protocols[256] = "";
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_available_ulp", "re");
	if (file == NULL)
		return false;
	bool read = fgets(protocols, sizeof(protocols), file) != NULL;
	fclose(file);
	return read && strstr(protocols, "tls") != NULL;
}

int main(int argc, char **argv)
{
	int first = 1, carriers = ~ON_TLS;
	if (first < argc && strcmp(argv[first], "--debug-mode") == 0) {
		event_enable_debug_mode();
		first++;
	}
	if (first < argc && strcmp(argv[first], "--tls") == 0) {
		if (!kernel_has_tls()) {
			printf("SKIPPED: this kernel has no TLS, or has not loaded it\n");
			return 77;
		}
		carriers = ON_TLS;
		first++;
	}
	Suite *suite = suite_create("battery");
	for (int i = first; i < argc; i++) {
		/* Locks have to be there before the first event_base; other themes go without. */
		if (strcmp(argv[i], "threads") == 0 && evthread_use_pthreads() != 0)
			return EXIT_FAILURE;
		add_theme(suite, find_theme(argv[i]), carriers);
	}
	return support_run(suite);
}
