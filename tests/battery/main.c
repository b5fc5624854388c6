/* battery [--debug-mode] theme ...: runs the cases of these themes. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/thread.h>

#include "carrier.h"

static const struct theme {
	const char *name;
	void (*add)(const struct battery *battery);
} themes[] = {
    {"order", order_cases},         {"watermarks", watermarks_cases},
    {"enabling", enabling_cases},   {"timeouts", timeouts_cases},
    {"ends", ends_cases},           {"connecting", connecting_cases},
    {"callbacks", callbacks_cases}, {"freeing", freeing_cases},
    {"limits", limits_cases},       {"sockets", sockets_cases},
    {"threads", threads_cases},
};
enum { THEME_COUNT = sizeof(themes) / sizeof(themes[0]) };

static const char *const carrier_names[CARRIER_COUNT] = {
    "stock on unix", "stock on TCP", "ferry on unix", "ferry on TCP", "ferry on pipes"};

static void add_theme(Suite *suite, const struct theme *theme)
{
	static char names[THEME_COUNT][CARRIER_COUNT][64]; /* check keeps the pointers */
	struct battery battery;
	for (int i = 0; i < CARRIER_COUNT; i++) {
		char *name = names[theme - themes][i];
		snprintf(name, sizeof(names[0][0]), "%s, %s", theme->name, carrier_names[i]);
		battery.on[i] = support_case(suite, name);
	}
	theme->add(&battery);
}

static const struct theme *find_theme(const char *name)
{
	for (int i = 0; i < THEME_COUNT; i++)
		if (strcmp(themes[i].name, name) == 0)
			return &themes[i];
	fprintf(stderr, "no such theme: %s\n", name);
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	int first = 1;
	if (first < argc && strcmp(argv[first], "--debug-mode") == 0) {
		event_enable_debug_mode();
		first++;
	}
	Suite *suite = suite_create("battery");
	for (int i = first; i < argc; i++) {
		/* Locks have to be there before the first event_base; other themes go without. */
		if (strcmp(argv[i], "threads") == 0 && evthread_use_pthreads() != 0)
			return EXIT_FAILURE;
		add_theme(suite, find_theme(argv[i]));
	}
	return support_run(suite);
}
