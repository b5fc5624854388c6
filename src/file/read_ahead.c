#include "file/read_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "file/copy.h"
#include "kernel/clock.h"

enum {
	LIVELY_MAX = 16,   /* threads whose reads return: enough to keep disks busy */
	THREADS_MAX = 512, /* with those that hang */
	HANGS_USEC = 50000,
	IDLE_SECONDS = 5, /* then an idle thread ends */
	STEP = 16 * 1024, /* one read into the page cache; the thread may stop after it */
};

enum piece_state { QUEUED, RUNNING, ENDED };

struct piece {
	struct read_ahead *owner;
	struct read_piece result;
	size_t wanted;
	enum piece_state state;
	struct piece *next; /* in the queue, or in the list of the running */
	int64_t since;      /* the start of the current read, in microseconds */
};

struct read_ahead {
	int fd, event_fd;
	int last_fd;                            /* another descriptor to close at the end; or -1 */
	unsigned int generation;                /* of the pool */
	unsigned int references;                /* the owner's, and one for each running piece */
	bool dropped;                           /* by the owner */
	bool expected;                          /* the owner waits for the oldest piece */
	struct piece pieces[READ_AHEAD_PIECES]; /* a ring */
	unsigned int first, count;
};

/* All threads of the process, and their work. In a child of fork(2), a new one. */
static struct pool {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct piece *queue, **tail; /* NULL: an empty queue */
	struct piece *running;
	unsigned int queued, threads, idle, users, generation;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static pthread_once_t fork_watched = PTHREAD_ONCE_INIT;

/* ---- the queue ---- */

static void enqueue(struct piece *piece)
{
	if (pool.queue == NULL)
		pool.tail = &pool.queue;
	piece->state = QUEUED;
	piece->next = NULL;
	*pool.tail = piece;
	pool.tail = &piece->next;
	pool.queued++;
}

static void unlink_piece(struct piece **list, const struct piece *piece)
{
	while (*list != NULL && *list != piece)
		list = &(*list)->next;
	if (*list != NULL)
		*list = piece->next;
}

static void take_out(struct piece *piece)
{
	unlink_piece(&pool.queue, piece);
	pool.tail = &pool.queue;
	while (*pool.tail != NULL)
		pool.tail = &(*pool.tail)->next;
	pool.queued--;
}

static struct piece *piece_at(struct read_ahead *read_ahead, unsigned int index)
{
	return &read_ahead->pieces[(read_ahead->first + index) % READ_AHEAD_PIECES];
}

static bool hangs(const struct piece *piece)
{
	return clock_now() - piece->since >= HANGS_USEC;
}

/* ---- the end of a file ---- */

static void close_and_free(struct read_ahead *read_ahead)
{
	for (unsigned int i = 0; i < read_ahead->count; i++)
		free(piece_at(read_ahead, i)->result.copy);
	if (read_ahead->event_fd >= 0)
		close(read_ahead->event_fd);
	if (read_ahead->last_fd >= 0)
		close(read_ahead->last_fd);
	close(read_ahead->fd);
	free(read_ahead);
}

/* ---- a thread ---- */

static enum read_place find_place(int fd)
{
	static const struct {
		unsigned long type;
		enum read_place place;
	} types[] = {
	    {0x6969, PLACE_SERVER},     /* NFS */
	    {0x65735546, PLACE_SERVER}, /* FUSE */
	    {0xff534d42, PLACE_SERVER}, /* CIFS */
	    {0xfe534d42, PLACE_SERVER}, /* SMB2 */
	    {0x01021997, PLACE_SERVER}, /* 9P */
	    {0x00c36400, PLACE_SERVER}, /* Ceph */
	    {0x5346414f, PLACE_SERVER}, /* AFS */
	    {0x01021994, PLACE_MEMORY}, /* tmpfs, memfd */
	    {0x858458f6, PLACE_MEMORY}, /* ramfs */
	    {0x958458f6, PLACE_MEMORY}, /* hugetlbfs */
	};
	struct statfs status;

	if (fstatfs(fd, &status) < 0)
		return PLACE_SERVER;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (((unsigned long)status.f_type & 0xffffffff) == types[i].type)
			return types[i].place;
	return PLACE_DISK;
}

/* Begins another read; false if nobody wants the piece any more. */
static bool begin_read(struct piece *piece)
{
	pthread_mutex_lock(&pool.lock);
	bool wanted = !piece->owner->dropped;
	piece->since = clock_now();
	pthread_mutex_unlock(&pool.lock);
	return wanted;
}

/* readahead(2) makes the disk start on the whole piece, does not wait, and may read less than was requested, or
 * nothing on some file systems. pread(2) waits and reads everything. */
static void read_into_cache(struct piece *piece, int fd)
{
	unsigned char scratch[STEP]; /* the bytes are not used */
	struct read_piece *result = &piece->result;

	readahead(fd, result->offset, piece->wanted);
	while (result->length < piece->wanted && begin_read(piece)) {
		size_t left = piece->wanted - result->length;
		ssize_t got =
		    pread(fd, scratch, left < STEP ? left : STEP, result->offset + (int64_t)result->length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			result->error = -errno;
		if (got <= 0)
			break;
		result->length += (size_t)got;
	}
}

/* Without the lock. Only this thread uses the piece's result meanwhile. */
static void read_piece(struct piece *piece, int fd)
{
	struct read_piece *result = &piece->result;

	if (result->copy != NULL) {
		result->length =
		    file_copy_fill(result->copy, fd, result->offset, piece->wanted, &result->error);
		return;
	}
	result->place = find_place(fd);
	read_into_cache(piece, fd);
}

static void notify(struct read_ahead *read_ahead)
{
	if (!read_ahead->expected || piece_at(read_ahead, 0)->state != ENDED)
		return;
	read_ahead->expected = false;
	if (read_ahead->event_fd >= 0)
		(void)!write(read_ahead->event_fd, &(uint64_t){1}, sizeof(uint64_t));
}

static void run_piece(struct piece *piece)
{
	struct read_ahead *owner = piece->owner;
	int fd = owner->fd;

	take_out(piece);
	piece->state = RUNNING;
	piece->since = clock_now();
	piece->next = pool.running;
	pool.running = piece;
	owner->references++;
	pthread_mutex_unlock(&pool.lock);
	read_piece(piece, fd);
	pthread_mutex_lock(&pool.lock);
	unlink_piece(&pool.running, piece);
	piece->state = ENDED;
	bool last = --owner->references == 0;
	if (!owner->dropped)
		notify(owner);
	if (!last)
		return;
	pthread_mutex_unlock(&pool.lock);
	close_and_free(owner); /* close(2) may hang as the read did */
	pthread_mutex_lock(&pool.lock);
}

/* False: there is no work, and the thread ends. */
static bool wait_for_work(void)
{
	struct timespec until;
	int error = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_SECONDS;
	pool.idle++;
	while (pool.queue == NULL && pool.users > 0 && error == 0)
		error = pthread_cond_timedwait(&pool.changed, &pool.lock, &until);
	pool.idle--;
	return pool.queue != NULL;
}

static void *run(void *unused)
{
	pthread_mutex_lock(&pool.lock);
	do {
		while (pool.queue != NULL)
			run_piece(pool.queue);
	} while (wait_for_work());
	pool.threads--;
	pthread_mutex_unlock(&pool.lock);
	return unused;
}

/* ---- starting threads ---- */

static void start_thread(void)
{
	pthread_t thread;
	sigset_t every, previous;

	/* The program's own threads handle its signals: this thread blocks all of them. */
	sigfillset(&every);
	bool masked = pthread_sigmask(SIG_SETMASK, &every, &previous) == 0;
	if (pthread_create(&thread, NULL, run, NULL) == 0) {
		pool.threads++;
		pthread_setname_np(thread, "ferry-readahead");
		pthread_detach(thread); /* the lock keeps it alive so far */
	}
	if (masked)
		pthread_sigmask(SIG_SETMASK, &previous, NULL);
}

/* Threads for the queue, unless enough are at work and none of these hangs. */
static void provide_threads(void)
{
	unsigned int hanging = 0;

	for (const struct piece *piece = pool.running; piece != NULL; piece = piece->next)
		hanging += hangs(piece);
	if (pool.queued > pool.idle && pool.threads - hanging < LIVELY_MAX &&
	    pool.threads < THREADS_MAX)
		start_thread();
	pthread_cond_signal(&pool.changed);
}

/* The child has no threads, and what they had in hand is lost. */
static void renew_pool(void)
{
	unsigned int generation = pool.generation + 1;

	pool = (struct pool){.lock = PTHREAD_MUTEX_INITIALIZER,
	                     .changed = PTHREAD_COND_INITIALIZER,
	                     .generation = generation};
}

static void watch_fork(void)
{
	pthread_atfork(NULL, NULL, renew_pool);
}

/* ---- the owner's calls ---- */

struct read_ahead *read_ahead_new(int fd)
{
	struct read_ahead *read_ahead = calloc(1, sizeof(*read_ahead));

	if (read_ahead == NULL)
		return NULL;
	pthread_once(&fork_watched, watch_fork);
	read_ahead->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (read_ahead->fd < 0) {
		free(read_ahead);
		return NULL;
	}
	read_ahead->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	read_ahead->last_fd = -1;
	read_ahead->references = 1;
	pthread_mutex_lock(&pool.lock);
	read_ahead->generation = pool.generation;
	pool.users++;
	pthread_mutex_unlock(&pool.lock);
	return read_ahead;
}

bool read_ahead_is_lost(const struct read_ahead *read_ahead)
{
	return read_ahead->generation != pool.generation;
}

int read_ahead_get_event_fd(const struct read_ahead *read_ahead)
{
	return read_ahead->event_fd;
}

void read_ahead_clear(struct read_ahead *read_ahead)
{
	uint64_t count;

	if (read_ahead->event_fd >= 0)
		(void)!read(read_ahead->event_fd, &count, sizeof(count));
}

int read_ahead_request(struct read_ahead *read_ahead, int64_t offset, size_t length,
                       struct file_copy *copy)
{
	if (read_ahead->count == READ_AHEAD_PIECES)
		return -ENOBUFS;
	struct piece *piece = piece_at(read_ahead, read_ahead->count);
	*piece = (struct piece){
	    .owner = read_ahead, .result = {.offset = offset, .copy = copy}, .wanted = length};
	int status = 0;
	pthread_mutex_lock(&pool.lock);
	enqueue(piece);
	provide_threads();
	if (pool.threads == 0) {
		take_out(piece);
		status = -EAGAIN;
	} else {
		read_ahead->count++;
	}
	pthread_mutex_unlock(&pool.lock);
	return status;
}

unsigned int read_ahead_count(const struct read_ahead *read_ahead)
{
	return read_ahead->count;
}

int64_t read_ahead_first(const struct read_ahead *read_ahead)
{
	return read_ahead->pieces[read_ahead->first].result.offset;
}

bool read_ahead_collect(struct read_ahead *read_ahead, struct read_piece *out)
{
	pthread_mutex_lock(&pool.lock);
	struct piece *piece = piece_at(read_ahead, 0);
	bool ended = read_ahead->count > 0 && piece->state == ENDED;
	if (ended) {
		*out = piece->result;
		read_ahead->first = (read_ahead->first + 1) % READ_AHEAD_PIECES;
		read_ahead->count--;
	}
	pthread_mutex_unlock(&pool.lock);
	return ended;
}

bool read_ahead_expect(struct read_ahead *read_ahead, bool *queued)
{
	pthread_mutex_lock(&pool.lock);
	const struct piece *piece = piece_at(read_ahead, 0);
	read_ahead->expected = read_ahead->count > 0 && piece->state != ENDED;
	*queued = read_ahead->expected && piece->state == QUEUED;
	if (*queued)
		provide_threads();
	bool expected = read_ahead->expected;
	pthread_mutex_unlock(&pool.lock);
	return expected;
}

bool read_ahead_closes(struct read_ahead *read_ahead, int fd)
{
	bool closes = false;

	if (read_ahead_is_lost(read_ahead))
		return false;
	pthread_mutex_lock(&pool.lock);
	for (unsigned int i = 0; i < read_ahead->count; i++) {
		const struct piece *piece = piece_at(read_ahead, i);
		closes |= piece->state == RUNNING && hangs(piece);
	}
	if (closes)
		read_ahead->last_fd = fd;
	pthread_mutex_unlock(&pool.lock);
	return closes;
}

void read_ahead_free(struct read_ahead *read_ahead)
{
	bool last = true;

	if (!read_ahead_is_lost(read_ahead)) {
		pthread_mutex_lock(&pool.lock);
		for (unsigned int i = 0; i < read_ahead->count; i++)
			if (piece_at(read_ahead, i)->state == QUEUED)
				take_out(piece_at(read_ahead, i));
		read_ahead->dropped = true;
		last = --read_ahead->references == 0;
		if (--pool.users == 0)
			pthread_cond_broadcast(&pool.changed);
		pthread_mutex_unlock(&pool.lock);
	}
	if (last)
		close_and_free(read_ahead);
}
