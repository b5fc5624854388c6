#include "read_ahead.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* More are not worth having: the disk has enough to do, and the loop asks again. */
enum { JOBS_MAX = 64 };

struct job {
	int fd;
	int64_t offset;
	size_t length;
};

struct read_ahead {
	const void *owner;
	unsigned int users;
	struct read_ahead *next;

	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct job jobs[JOBS_MAX]; /* a ring */
	unsigned int first, count;
	bool stop;
};

/* All of this process's, by owner. Looked at when a transport meets its first cold file, and when that
 * transport ends. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct read_ahead *all;

static bool next_job(struct read_ahead *read_ahead, struct job *job)
{
	pthread_mutex_lock(&read_ahead->lock);
	while (read_ahead->count == 0 && !read_ahead->stop)
		pthread_cond_wait(&read_ahead->changed, &read_ahead->lock);
	bool found = read_ahead->count > 0;
	if (found) {
		*job = read_ahead->jobs[read_ahead->first];
		read_ahead->first = (read_ahead->first + 1) % JOBS_MAX;
		read_ahead->count--;
	}
	/* When it is to stop, what is left is only closed. */
	bool wanted = !read_ahead->stop;
	pthread_mutex_unlock(&read_ahead->lock);

	if (found && !wanted)
		job->length = 0;
	return found;
}

static void *run(void *argument)
{
	struct job job;

	while (next_job(argument, &job)) {
		if (job.length > 0)
			readahead(job.fd, job.offset, job.length);
		close(job.fd);
	}
	return NULL;
}

static int start_thread(struct read_ahead *read_ahead)
{
	sigset_t every, previous;

	/* The program's signals are for the program's threads. */
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &previous);
	int error = pthread_create(&read_ahead->thread, NULL, run, read_ahead);
	pthread_sigmask(SIG_SETMASK, &previous, NULL);
	return error;
}

static struct read_ahead *start(const void *owner)
{
	struct read_ahead *read_ahead = calloc(1, sizeof(*read_ahead));

	if (read_ahead == NULL)
		return NULL;
	read_ahead->owner = owner;
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

struct read_ahead *read_ahead_acquire(const void *owner)
{
	pthread_mutex_lock(&all_lock);
	struct read_ahead *found = all;
	while (found != NULL && found->owner != owner)
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
	pthread_cond_destroy(&read_ahead->changed);
	pthread_mutex_destroy(&read_ahead->lock);
	free(read_ahead);
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
	if (last)
		stop(read_ahead);
}

bool read_ahead_request(struct read_ahead *read_ahead, int fd, int64_t offset, size_t length)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	bool taken = false;

	if (copy < 0)
		return false;
	pthread_mutex_lock(&read_ahead->lock);
	if (read_ahead->count < JOBS_MAX) {
		unsigned int last = (read_ahead->first + read_ahead->count++) % JOBS_MAX;
		read_ahead->jobs[last] = (struct job){copy, offset, length};
		pthread_cond_signal(&read_ahead->changed);
		taken = true;
	}
	pthread_mutex_unlock(&read_ahead->lock);
	if (!taken)
		close(copy);
	return taken;
}
