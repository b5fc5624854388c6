/* Uses each part of the library once, and says what has become of it:
 *
 *     everything [--files N] [--heap KIB] [--scarce] FOLDER
 *
 * Without an option each part must do all of its work. With one something is scarce: descriptor slots, memory, or what
 * the caller knows of. A part may then report an error, or wait. After some turns of the loop the slots and the memory
 * are there again, and the part must come to its end. It is run again, and must do all of its work. Nothing may come
 * that nobody has sent, and no descriptor may be left.
 *
 * Exit status: 0; 1 after a failure; 77 if the memory of the process cannot be limited. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "parts.h"

enum { SCARCE_TURNS = 100, SECONDS_MAX = 120, FDS_LOOKED_AT = 4096, TICK_USEC = 2000 };

static unsigned int files;  /* --files; 0: as many as there are */
static long heap_kib = -1;  /* --heap; -1: as much as there is */
static bool scarce;         /* any of the options */
static unsigned int faults; /* of this program's run */

static void fail(const char *part, const char *what)
{
	printf("%s: %s\n", part, what);
	faults++;
}

static unsigned int count_open(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < FDS_LOOKED_AT; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* ---- what is scarce ---- */

static void set_limit(unsigned int resource, rlim_t soft)
{
	struct rlimit limit;

	getrlimit(resource, &limit);
	limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
	setrlimit(resource, &limit);
}

/* The blocks that nobody else can have: a list. */
struct block {
	struct block *next;
};
static struct block *blocks;

static bool take_block(size_t size)
{
	struct block *block = malloc(size);

	if (block == NULL)
		return false;
	block->next = blocks;
	blocks = block;
	return true;
}

static void free_blocks(size_t count)
{
	while (blocks != NULL && count-- > 0) {
		struct block *block = blocks;
		blocks = block->next;
		free(block);
	}
}

/* The memory that the process has mapped now; 0: unknown. */
static rlim_t mapped_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file == NULL)
		return 0;
	if (fscanf(file, "%lu", &pages) != 1)
		pages = 0;
	fclose(file);
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

enum { KIB = 1024 };

/* No more than so much: the process gets no more from the kernel, and all that malloc(3) still has is taken. */
static void take_heap(size_t kib)
{
	set_limit(RLIMIT_AS, mapped_bytes());
	for (size_t size = 256 * KIB; size > KIB; size /= 2)
		while (take_block(size))
			continue;
	while (take_block(KIB))
		continue;
	free_blocks(kib);
	if (kib == 0)
		for (size_t size = KIB / 2; size >= sizeof(struct block); size /= 2)
			while (take_block(size))
				continue;
}

static void make_scarce(void)
{
	if (files > 0)
		set_limit(RLIMIT_NOFILE, files);
	if (heap_kib >= 0)
		take_heap((size_t)heap_kib);
}

static void make_plenty(void)
{
	if (files > 0)
		set_limit(RLIMIT_NOFILE, RLIM_INFINITY);
	if (heap_kib < 0)
		return;
	set_limit(RLIMIT_AS, RLIM_INFINITY);
	free_blocks(SIZE_MAX);
}

/* ---- a part ---- */

static void tick(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static bool turn(const struct part *part)
{
	event_base_loop(loop, EVLOOP_ONCE);
	return part->is_over != NULL ? part->is_over() : outcome.over;
}

static void pump(const struct part *part, bool is_scarce)
{
	const time_t start = seconds_now();
	bool over = outcome.over;

	for (int turns = 0; !over && is_scarce && turns < SCARCE_TURNS; turns++)
		over = turn(part);
	if (is_scarce)
		make_plenty();
	while (!over && seconds_now() - start < SECONDS_MAX)
		over = turn(part);
	if (!over)
		fail(part->name, "does not come to its end");
}

static void judge(const struct part *part, bool is_scarce)
{
	if (outcome.wrong)
		fail(part->name, "something came that nobody has sent");
	if (!is_scarce && !outcome.whole)
		fail(part->name, "is not whole");
	if (!is_scarce && outcome.error < 0)
		fail(part->name, "has reported an error");
	printf("%s%s: %s, %s\n", part->name, is_scarce ? ", scarce" : "",
	       outcome.whole ? "whole" : "not whole",
	       outcome.error < 0 ? strerrorname_np(-outcome.error) : "no error");
}

static void run(const struct part *part, bool is_scarce)
{
	const unsigned int open_before = count_open();

	outcome = (struct outcome){0};
	loop = event_base_new();
	struct event *ticker = event_new(loop, -1, EV_PERSIST, tick, NULL);
	event_add(ticker, &(struct timeval){.tv_usec = TICK_USEC});
	if (is_scarce)
		make_scarce();
	part->start();
	pump(part, is_scarce);
	part->finish();
	for (int i = 0; i < 3; i++) /* freed bufferevents are finalised by the loop */
		event_base_loop(loop, EVLOOP_NONBLOCK);
	event_free(ticker);
	event_base_free(loop);
	judge(part, is_scarce);
	if (count_open() != open_before)
		fail(part->name, "a descriptor is left, or was closed twice");
}

static int usage(void)
{
	fputs("usage: everything [--files N] [--heap KIB] [--scarce] FOLDER\n", stderr);
	return 2;
}

static bool read_arguments(int count, char **arguments)
{
	int at = 1;

	for (; at < count && arguments[at][0] == '-'; at++) {
		scarce = true;
		if (strcmp(arguments[at], "--files") == 0 && at + 1 < count)
			files = (unsigned int)strtoul(arguments[++at], NULL, 10);
		else if (strcmp(arguments[at], "--heap") == 0 && at + 1 < count)
			heap_kib = strtol(arguments[++at], NULL, 10);
		else if (strcmp(arguments[at], "--scarce") != 0)
			return false;
	}
	folder = at + 1 == count ? arguments[at] : NULL;
	return folder != NULL;
}

int main(int argc, char **argv)
{
	static char buffer[BUFSIZ]; /* stdio would allocate one */

	setvbuf(stdout, buffer, _IOLBF, sizeof(buffer));
	if (!read_arguments(argc, argv))
		return usage();
	if (heap_kib >= 0 && mapped_bytes() == 0) {
		puts("SKIPPED: the size of the process is unknown");
		return 77;
	}
	for (size_t i = 0; i < part_count; i++) {
		if (scarce)
			run(&parts[i], true);
		/* Only the caller can end a scarcity that it has made. */
		if (!scarce || files > 0 || heap_kib >= 0)
			run(&parts[i], false);
	}
	printf("%u faults\n", faults);
	return faults == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
