/* Everything at once, for hours. See soak.h, and tests/README.md for the commands.
 *
 * FERRY_TEST_SEED determines each step. FERRY_SOAK_STEPS has the number of steps, or FERRY_SOAK_SECONDS a time after
 * which no more step begins. No verdict depends on the time. */

#include "soak.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "model_trace.h"
#include "test.h"

enum { STEPS = 20000, ROUND = 2000, WARM_ROUNDS = 3, RSS_SLACK_KIB = 16 * 1024 };
/* The buffers of the channels that stay open keep a block or none, after what they have carried. */
enum { KEPT_BLOCKS = 32, SETTLE_SECONDS = 120 };
enum { FDS_MAX = 1000 }; /* below the usual limit; the parts need fewer at a time */

static const struct soak_part *const parts[] = {&soak_links,    &soak_messages,  &soak_lines,
                                                &soak_handoffs, &soak_processes, &soak_takeovers};

struct soak_totals soak_totals;

struct sample {
	int fds;
	long blocks, rss; /* KiB */
};

/* Shared with the process that prints the failure. */
static struct progress {
	uint64_t steps;
	bool over;
} * progress;
static uint32_t seed;
static time_t start;

/* A sanitizer and valgrind keep memory of their own. */
#ifdef SOAK_IS_INSTRUMENTED
static const bool memory_is_ours = false;
#else
static const bool memory_is_ours = true;
#endif

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static uint64_t setting(const char *name)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : 0;
}

/* ---- samples ---- */

static long resident_kib(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long pages = 0;

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fscanf(file, "%*d %ld", &pages), 1);
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static struct sample take_sample(void)
{
	return (struct sample){
	    .fds = count_open_fds(), .blocks = soak_heap_blocks(), .rss = resident_kib()};
}

static bool is_as_before(const struct sample *first)
{
	return count_open_fds() <= first->fds && soak_heap_blocks() <= first->blocks + KEPT_BLOCKS;
}

/* The bufferevents that were freed are finalised by the loop, and threads that read files end. */
static void settle(const struct sample *first)
{
	time_t deadline = seconds_now() + SETTLE_SECONDS;

	pump_turns(4);
	while (first->fds > 0 && !is_as_before(first) && seconds_now() < deadline) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		pump_turns(1);
	}
}

static void check_flat(const struct sample *first, const struct sample *now)
{
	demand(now->fds == first->fds, "%d descriptors, and %d at first", now->fds, first->fds);
	demand(now->blocks <= first->blocks + KEPT_BLOCKS, "%ld blocks, and %ld at first", now->blocks,
	       first->blocks);
	demand(!memory_is_ours || now->rss <= first->rss + RSS_SLACK_KIB, "%ld KiB, and %ld at first",
	       now->rss, first->rss);
}

static struct sample rest(const struct sample *first)
{
	for (int i = 0; i < COUNT(parts); i++) {
		trace("rest: %s", parts[i]->name);
		parts[i]->rest();
	}
	trace("rest: as at the first one");
	settle(first);
	struct sample now = take_sample();
	if (first->fds > 0)
		check_flat(first, &now);
	return now;
}

/* ---- output ---- */

static void print_head(void)
{
	printf("%8s %10s %9s %11s %7s %9s %9s %8s %8s %5s\n", "seconds", "steps", "MiB", "descriptors",
	       "files", "handoffs", "returns", "rss KiB", "blocks", "fds");
}

static void print_row(const struct sample *now)
{
	const struct soak_totals *totals = &soak_totals;

	printf("%8lld %10llu %9llu %11llu %7llu %9llu %9llu %8ld %8ld %5d\n",
	       (long long)(seconds_now() - start), (unsigned long long)progress->steps,
	       (unsigned long long)totals->bytes >> 20, (unsigned long long)totals->descriptors,
	       (unsigned long long)totals->files, (unsigned long long)totals->handoffs,
	       (unsigned long long)totals->returns, now->rss, now->blocks, now->fds);
	fflush(stdout);
}

static void print_summary(const struct sample *first, const struct sample *last)
{
	const struct soak_totals *totals = &soak_totals;

	printf("soak: %llu steps, %lld s, bytes %llu, descriptors %llu, files %llu, messages "
	       "%llu, "
	       "lines %llu, connections %llu, handoffs %llu, returns %llu, parked %llu, "
	       "workers replaced %llu, processes replaced %llu and killed %llu, cut %llu, "
	       "takeovers %llu, withdrawn %llu, rss %ld→%ld KiB, blocks %ld→%ld, fds %d→%d, "
	       "0 failures\n",
	       (unsigned long long)progress->steps, (long long)(seconds_now() - start),
	       (unsigned long long)totals->bytes, (unsigned long long)totals->descriptors,
	       (unsigned long long)totals->files, (unsigned long long)totals->messages,
	       (unsigned long long)totals->lines, (unsigned long long)totals->connections,
	       (unsigned long long)totals->handoffs, (unsigned long long)totals->returns,
	       (unsigned long long)totals->parked, (unsigned long long)totals->workers,
	       (unsigned long long)totals->replacements, (unsigned long long)totals->kills,
	       (unsigned long long)totals->cut, (unsigned long long)totals->takeovers,
	       (unsigned long long)totals->withdrawn, first->rss, last->rss, first->blocks,
	       last->blocks, first->fds, last->fds);
}

/* ---- the steps ---- */

static const struct soak_part *choose_part(void)
{
	uint32_t sum = 0;
	int n = 0;

	for (int i = 0; i < COUNT(parts); i++)
		sum += parts[i]->weight;
	for (uint32_t at = support_random_below(sum); at >= parts[n]->weight; n++)
		at -= parts[n]->weight;
	return parts[n];
}

/* Each step has random numbers of its own: what a process or a thread does meanwhile changes no later choice. */
static void make_step(void)
{
	support_reseed(seed + (uint32_t)progress->steps * 2654435761U);
	const struct soak_part *part = choose_part();
	trace("step %llu: %s", (unsigned long long)progress->steps, part->name);
	part->step();
	pump_turns(1);
	progress->steps++;
}

static bool goes_on(uint64_t count, uint64_t seconds)
{
	return seconds > 0 ? seconds_now() - start < (time_t)seconds : progress->steps < count;
}

static void ignore(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

/* libevent keeps a block for each descriptor number that ever had an event. All of them are there before the first
 * sample. */
static void fill_event_map(void)
{
	int fd = eventfd(0, EFD_CLOEXEC), copies[FDS_MAX], count = 0;

	ck_assert_int_ge(fd, 0);
	do {
		copies[count] = fcntl(fd, F_DUPFD_CLOEXEC, fd);
		ck_assert_int_ge(copies[count], 0);
	} while (copies[count++] < FDS_MAX - 1);
	while (count-- > 0) {
		struct event *event = event_new(base, copies[count], EV_READ, ignore, NULL);
		ck_assert(event != NULL && event_add(event, NULL) == 0);
		event_free(event);
		close(copies[count]);
	}
	close(fd);
}

/* Whatever has ended the soak: an assertion, a signal, or a sanitizer. */
static void print_failure(void)
{
	if (progress->over)
		return;
	printf("failed in step %llu; to repeat: sh tests/soak/run.sh --steps %llu --seed %u\n",
	       (unsigned long long)progress->steps,
	       (unsigned long long)(progress->steps / ROUND + 1) * ROUND, support_seed());
}

static void begin_round(void)
{
	char command[128];

	snprintf(command, sizeof(command), "sh tests/soak/run.sh --steps %llu --seed %u",
	         (unsigned long long)progress->steps + ROUND, seed);
	trace_begin(command);
}

static void begin(void)
{
	seed = support_seed();
	start = seconds_now();
	begin_round();
	fill_event_map();
	for (int i = 0; i < COUNT(parts); i++)
		parts[i]->open();
	print_head();
}

TEST(everything_at_once_stays_right_and_flat)
{
	const uint64_t seconds = setting("FERRY_SOAK_SECONDS");
	const uint64_t count = setting("FERRY_SOAK_STEPS") > 0 ? setting("FERRY_SOAK_STEPS") : STEPS;
	struct sample first = {.fds = 0}, last = first;
	time_t printed = 0;

	begin();
	for (unsigned int round = 0; round < WARM_ROUNDS + 1 || goes_on(count, seconds); round++) {
		begin_round();
		for (int i = 0; i < ROUND; i++)
			make_step();
		last = rest(&first);
		if (round == WARM_ROUNDS - 1)
			first = last;
		if (round == WARM_ROUNDS - 1 || seconds_now() - printed >= 60) {
			print_row(&last);
			printed = seconds_now();
		}
	}
	print_row(&last);
	print_summary(&first, &last);
	for (int i = 0; i < COUNT(parts); i++)
		parts[i]->close();
	progress->over = true;
}

BEFORE_ALL
{
	progress =
	    mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED)
		abort();
	atexit(print_failure);
	soak_heap_take_over();
}
