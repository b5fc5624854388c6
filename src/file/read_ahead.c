#include "file/read_ahead.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	JOBS_MAX = 64,    /* enough to keep the disk busy; if full, the loop asks again */
	STEP = 64 * 1024, /* one read; after it the thread checks whether it is to stop */
};

struct job {
	int fd; /* a duplicate; -1 once dropped */
	int64_t offset;
	size_t length;
	bool cancelled;
};

struct read_ahead {
	const void *owner;
	pid_t process;
	unsigned int users;
	struct read_ahead *next;

	pthread_t thread;
	pthread_mutex_t lock; /* of the members from here to `stop` */
	pthread_cond_t changed;
	struct job jobs[JOBS_MAX]; /* a ring, in the order of the tickets */
	/* readahead(2) has been called for the first `begun` of `count` jobs. */
	unsigned int first, count, begun;
	uint64_t first_ticket;
	const struct job *busy; /* the job on which the thread works without the lock */
	bool stop;

	unsigned char scratch[STEP]; /* only the thread's; the bytes are not used */
};

/* All threads of this process, one for each owner. The list is used when a transport meets its first cold
 * file, and when that transport ends. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct read_ahead *all;
static uint64_t threads_started;

/* ---- the thread ---- */

static struct job *job_at(struct read_ahead *read_ahead, unsigned int index)
{
	return &read_ahead->jobs[(read_ahead->first + index) % JOBS_MAX];
}

/* Makes the disk start on the next job. The thread does this for the whole queue before it waits for any
 * job: the disk may serve several at a time. */
static void begin_next(struct read_ahead *read_ahead)
{
	struct job *job = job_at(read_ahead, read_ahead->begun++);
	struct job work = *job;

	if (work.fd < 0)
		return;
	read_ahead->busy = job;
	pthread_mutex_unlock(&read_ahead->lock);
	readahead(work.fd, work.offset, work.length);
	pthread_mutex_lock(&read_ahead->lock);
	read_ahead->busy = NULL;
}

/* readahead(2) does not wait, and may read less than was requested, or nothing on some file systems.
 * pread(2) waits and reads everything. */
static void read_step(struct read_ahead *read_ahead, struct job *job)
{
	struct job work = *job;

	read_ahead->busy = job;
	pthread_mutex_unlock(&read_ahead->lock);
	ssize_t length =
	    pread(work.fd, read_ahead->scratch, work.length < STEP ? work.length : STEP, work.offset);
	pthread_mutex_lock(&read_ahead->lock);
	read_ahead->busy = NULL;
	if (length > 0) {
		job->offset += length;
		job->length -= (size_t)length;
	} else {
		job->length = 0; /* an error shows again when the transport sends the piece */
	}
}

static void go_on_with_first(struct read_ahead *read_ahead)
{
	struct job *job = job_at(read_ahead, 0);

	if (job->fd >= 0 && !job->cancelled && job->length > 0)
		read_step(read_ahead, job);
	if (job->fd >= 0 && !job->cancelled && job->length > 0)
		return;
	if (job->fd >= 0)
		close(job->fd);
	read_ahead->first = (read_ahead->first + 1) % JOBS_MAX;
	read_ahead->first_ticket++;
	read_ahead->count--;
	read_ahead->begun--;
}

static void *run(void *argument)
{
	struct read_ahead *read_ahead = argument;

	pthread_mutex_lock(&read_ahead->lock);
	while (!read_ahead->stop) {
		if (read_ahead->begun < read_ahead->count)
			begin_next(read_ahead);
		else if (read_ahead->count > 0)
			go_on_with_first(read_ahead);
		else
			pthread_cond_wait(&read_ahead->changed, &read_ahead->lock);
	}
	pthread_mutex_unlock(&read_ahead->lock);
	return NULL;
}

/* ---- start and end ---- */

static int start_thread(struct read_ahead *read_ahead)
{
	sigset_t every, previous;

	/* The program's own threads handle its signals: this thread blocks all of them. */
	sigfillset(&every);
	bool masked = pthread_sigmask(SIG_SETMASK, &every, &previous) == 0;
	int error = pthread_create(&read_ahead->thread, NULL, run, read_ahead);
	if (masked)
		pthread_sigmask(SIG_SETMASK, &previous, NULL);
	if (error == 0)
		pthread_setname_np(read_ahead->thread, "ferry-readahead");
	return error;
}

static struct read_ahead *start(const void *owner)
{
	struct read_ahead *read_ahead = calloc(1, sizeof(*read_ahead));

	if (read_ahead == NULL)
		return NULL;
	read_ahead->owner = owner;
	read_ahead->process = getpid();
	/* In a forked child, a ticket of the parent's thread is below all tickets of the child's thread, and
	 * counts as done. */
	read_ahead->first_ticket = ++threads_started << 32;
	pthread_mutex_init(&read_ahead->lock, NULL);
	pthread_cond_init(&read_ahead->changed, NULL);
	if (start_thread(read_ahead) != 0) {
		pthread_cond_destroy(&read_ahead->changed);
		pthread_mutex_destroy(&read_ahead->lock);
		free(read_ahead);
		return NULL;
	}
	read_ahead->next = all;
	all = read_ahead;
	return read_ahead;
}

/* After fork(2) the thread does not exist in the child, where its lock may be locked for ever. */
static bool is_here(const struct read_ahead *read_ahead)
{
	return read_ahead->process == getpid();
}

bool read_ahead_is_lost(const struct read_ahead *read_ahead)
{
	return !is_here(read_ahead);
}

struct read_ahead *read_ahead_acquire(const void *owner)
{
	pthread_mutex_lock(&all_lock);
	struct read_ahead *found = all;
	while (found != NULL && (found->owner != owner || !is_here(found)))
		found = found->next;
	if (found == NULL)
		found = start(owner);
	if (found != NULL)
		found->users++;
	pthread_mutex_unlock(&all_lock);
	return found;
}

static void stop(struct read_ahead *read_ahead)
{
	pthread_mutex_lock(&read_ahead->lock);
	read_ahead->stop = true;
	pthread_cond_signal(&read_ahead->changed);
	pthread_mutex_unlock(&read_ahead->lock);
	pthread_join(read_ahead->thread, NULL);
	for (unsigned int i = 0; i < read_ahead->count; i++)
		if (job_at(read_ahead, i)->fd >= 0)
			close(job_at(read_ahead, i)->fd);
	pthread_cond_destroy(&read_ahead->changed);
	pthread_mutex_destroy(&read_ahead->lock);
}

void read_ahead_release(struct read_ahead *read_ahead)
{
	if (read_ahead == NULL)
		return;
	pthread_mutex_lock(&all_lock);
	bool last = --read_ahead->users == 0;
	if (last) {
		struct read_ahead **link = &all;
		while (*link != read_ahead)
			link = &(*link)->next;
		*link = read_ahead->next;
	}
	pthread_mutex_unlock(&all_lock);
	if (!last)
		return;
	if (is_here(read_ahead))
		stop(read_ahead);
	free(read_ahead);
}

/* ---- requests ---- */

static uint64_t push(struct read_ahead *read_ahead, struct job job)
{
	uint64_t ticket = 0;

	pthread_mutex_lock(&read_ahead->lock);
	if (read_ahead->count < JOBS_MAX) {
		*job_at(read_ahead, read_ahead->count) = job;
		ticket = read_ahead->first_ticket + read_ahead->count++;
		pthread_cond_signal(&read_ahead->changed);
	}
	pthread_mutex_unlock(&read_ahead->lock);
	return ticket;
}

uint64_t read_ahead_request(struct read_ahead *read_ahead, int fd, int64_t offset, size_t length)
{
	if (!is_here(read_ahead))
		return 0;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return 0;
	uint64_t ticket =
	    push(read_ahead, (struct job){.fd = copy, .offset = offset, .length = length});
	if (ticket == 0)
		close(copy);
	return ticket;
}

bool read_ahead_is_done(struct read_ahead *read_ahead, uint64_t ticket)
{
	if (!is_here(read_ahead))
		return true;
	pthread_mutex_lock(&read_ahead->lock);
	bool done = ticket < read_ahead->first_ticket;
	pthread_mutex_unlock(&read_ahead->lock);
	return done;
}

void read_ahead_cancel(struct read_ahead *read_ahead, uint64_t ticket)
{
	if (!is_here(read_ahead))
		return;
	pthread_mutex_lock(&read_ahead->lock);
	if (ticket >= read_ahead->first_ticket) {
		struct job *job = job_at(read_ahead, (unsigned int)(ticket - read_ahead->first_ticket));
		job->cancelled = true;
		if (job != read_ahead->busy && job->fd >= 0) {
			close(job->fd);
			job->fd = -1;
		}
	}
	pthread_mutex_unlock(&read_ahead->lock);
}
