#include "outgoing.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ancillary.h"
#include "sigpipe.h"

struct mark {
	uint64_t position;
	struct outgoing_file *file; /* or NULL: a descriptor */
	int fd;
};

enum {
	CAPACITY_MIN = 16,    /* kept while idle, so that a descriptor now and then allocates nothing */
	VECTORS_MAX = 64,     /* evbuffer chains in one sendmsg(2) */
	FILE_HEAD_MAX = 4096, /* bytes of a file that are copied to carry descriptors */
	CALLS_PER_FLUSH = 256 /* however few bytes each sends, others get their turn then */
};

/* ---- the ring of marks ---- */

static struct mark *mark_at(const struct outgoing *outgoing, unsigned int index)
{
	return &outgoing->marks[(outgoing->first + index) & (outgoing->capacity - 1)];
}

static int make_room(struct outgoing *outgoing)
{
	if (outgoing->count < outgoing->capacity)
		return 0;

	unsigned int capacity = outgoing->capacity == 0 ? CAPACITY_MIN : outgoing->capacity * 2;
	struct mark *marks = malloc(capacity * sizeof(*marks));
	if (marks == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < outgoing->count; i++)
		marks[i] = *mark_at(outgoing, i);
	free(outgoing->marks);
	outgoing->marks = marks;
	outgoing->first = 0;
	outgoing->capacity = capacity;
	return 0;
}

static void drop_marks(struct outgoing *outgoing, unsigned int count)
{
	outgoing->count -= count;
	if (outgoing->count > 0) {
		outgoing->first = (outgoing->first + count) & (outgoing->capacity - 1);
		return;
	}
	outgoing->first = 0;
	if (outgoing->capacity > CAPACITY_MIN) {
		free(outgoing->marks);
		outgoing->marks = NULL;
		outgoing->capacity = 0;
	}
}

static void remove_mark(struct outgoing *outgoing, unsigned int index)
{
	/* Those before it move up: a file is at the front, or behind few descriptors. */
	for (; index > 0; index--)
		*mark_at(outgoing, index) = *mark_at(outgoing, index - 1);
	drop_marks(outgoing, 1);
}

static int push_mark(struct outgoing *outgoing, struct mark mark)
{
	int status = make_room(outgoing);
	if (status == 0)
		*mark_at(outgoing, outgoing->count++) = mark;
	return status;
}

static uint64_t end_of(const struct outgoing *outgoing)
{
	return outgoing->drained + evbuffer_get_length(outgoing->buffer);
}

/* ---- descriptors ---- */

static void settle_end(struct outgoing *outgoing)
{
	uint64_t end = end_of(outgoing);
	if (outgoing->end_position == end)
		return;
	outgoing->end_position = end;
	outgoing->fds_at_end = 0;
	outgoing->fds_at_end_all = 0;
}

int outgoing_admits_fd(struct outgoing *outgoing)
{
	settle_end(outgoing);
	if (outgoing->fd_count >= outgoing->fd_limit)
		return -ENOBUFS;
	/* All that wait for the same byte go in one message. A file between them parts them, but one
	 * that turns out to be empty does not: together they must never be more than a message
	 * holds. */
	if (outgoing->fds_at_end >= outgoing->max_fds_per_message ||
	    outgoing->fds_at_end_all >= ANCILLARY_MAX_FDS)
		return -ENOBUFS;
	return 0;
}

int outgoing_push_fd(struct outgoing *outgoing, int fd)
{
	struct mark mark = {.position = end_of(outgoing), .fd = fd};

	int status = push_mark(outgoing, mark);
	if (status < 0)
		return status;
	settle_end(outgoing);
	outgoing->fds_at_end++;
	outgoing->fds_at_end_all++;
	outgoing->fd_count++;
	if (outgoing->fd_count > outgoing->stats->fds_queued_max)
		outgoing->stats->fds_queued_max = outgoing->fd_count;
	return 0;
}

/* Closes the first `count` marks, which are descriptors. */
static void close_first(struct outgoing *outgoing, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct mark *mark = mark_at(outgoing, i);
		if (mark->position == outgoing->end_position)
			outgoing->fds_at_end_all--;
		close(mark->fd);
	}
	drop_marks(outgoing, count);
	outgoing->fd_count -= count;
	if (outgoing->file_count == 0)
		outgoing->fds_at_end = outgoing->fds_at_end_all;
}

unsigned int outgoing_close_fds(struct outgoing *outgoing)
{
	unsigned int count = 0;
	while (count < outgoing->count && mark_at(outgoing, count)->file == NULL)
		count++;
	outgoing->stats->fds_unsent += count;
	close_first(outgoing, count);
	return count;
}

/* ---- files ---- */

int outgoing_push_file(struct outgoing *outgoing, struct outgoing_file *file)
{
	struct mark mark = {.position = end_of(outgoing), .file = file, .fd = -1};

	int status = push_mark(outgoing, mark);
	if (status < 0)
		return status;
	settle_end(outgoing);
	if (file->source.remaining > 0)
		outgoing->fds_at_end = 0;
	outgoing->file_count++;
	return 0;
}

static void finish_at(struct outgoing *outgoing, unsigned int index, int status)
{
	struct outgoing_file *file = mark_at(outgoing, index)->file;

	remove_mark(outgoing, index);
	outgoing->file_count--;
	if (outgoing->file_count == 0)
		outgoing->fds_at_end = outgoing->fds_at_end_all;
	if (outgoing->progressed == file)
		outgoing->progressed = NULL;
	close(file->source.fd);
	file->source.fd = -1;
	file->status = status;
	file->next = NULL;
	*outgoing->finished_tail = file;
	outgoing->finished_tail = &file->next;
	if (status == 0)
		outgoing->stats->files_sent++;
}

void outgoing_finish_file(struct outgoing *outgoing, struct outgoing_file *file, int status)
{
	for (unsigned int i = 0; i < outgoing->count; i++) {
		if (mark_at(outgoing, i)->file == file) {
			finish_at(outgoing, i, status);
			return;
		}
	}
}

bool outgoing_report(struct outgoing *outgoing)
{
	struct outgoing_file *file = outgoing->finished;

	if (file != NULL) {
		outgoing->finished = file->next;
		if (outgoing->finished == NULL)
			outgoing->finished_tail = &outgoing->finished;
		file->finished(file);
		return true;
	}
	file = outgoing->progressed;
	if (file == NULL)
		return false;
	outgoing->progressed = NULL;
	file->progress(file);
	return true;
}

/* ---- the write loop ---- */

/* One turn of it. SIGPIPE is kept off from the first call that has no flag for it on, until user code
 * runs. */
struct turn {
	int fd;
	size_t budget;
	size_t sent;
	unsigned int calls;
	struct sigpipe_guard guard;
	bool guarded;
	bool raised;
};

static bool is_spent(const struct turn *turn)
{
	return turn->sent >= turn->budget || turn->calls >= CALLS_PER_FLUSH;
}

static void guard_turn(struct turn *turn)
{
	if (!turn->guarded)
		sigpipe_block(&turn->guard);
	turn->guarded = true;
}

static void unguard_turn(struct turn *turn)
{
	if (turn->guarded)
		sigpipe_restore(&turn->guard, turn->raised);
	turn->guarded = false;
	turn->raised = false;
}

/* What goes next: `fds` descriptors and `bytes` bytes of the buffer; or, when there are no bytes,
 * the file. */
struct next {
	unsigned int fds;
	size_t bytes;
	struct outgoing_file *file;
};

static bool rides_along(const struct outgoing *outgoing, const struct mark *mark,
                        unsigned int before, uint64_t position, uint64_t end)
{
	if (mark->file != NULL || before >= ANCILLARY_MAX_FDS)
		return false;
	if (mark->position <= position)
		return true;
	return outgoing->coalescing && mark->position < end && before < outgoing->max_fds_per_message;
}

/* `ahead`: bytes of the buffer that are sent already, and not yet drained. A mark may lie behind:
 * after bufferevent_setfd() libevent itself wrote past it. It goes with what is next. */
static struct next find_next(const struct outgoing *outgoing, size_t ahead)
{
	struct next next = {.bytes = evbuffer_get_length(outgoing->buffer) - ahead};
	uint64_t position = outgoing->drained + ahead;
	uint64_t end = position + next.bytes;

	while (next.fds < outgoing->count &&
	       rides_along(outgoing, mark_at(outgoing, next.fds), next.fds, position, end))
		next.fds++;
	if (next.fds < outgoing->count) {
		const struct mark *mark = mark_at(outgoing, next.fds);
		if (mark->position > position)
			next.bytes = (size_t)(mark->position - position);
		else if (mark->file != NULL)
			next.bytes = 0;
		else if (next.bytes > 1)
			next.bytes = 1; /* more descriptors than a message holds: the next byte takes them */
		next.file = mark->file;
	}
	return next;
}

/* EAGAIN and its like become a state, other errors stay. */
static int state_of(struct outgoing *outgoing, int error)
{
	switch (error) {
	case -EAGAIN:
		outgoing->stats->send_eagain++;
		return OUTGOING_FULL;
	case -ENOBUFS:
	case -ENOMEM:
	case -ETOOMANYREFS: /* too many descriptors of this user in flight */
		outgoing->stats->send_retries++;
		return OUTGOING_STARVED;
	default:
		return error;
	}
}

static ssize_t transmit(struct outgoing *outgoing, struct turn *turn, struct iovec *vectors,
                        int count, unsigned int fds, bool more)
{
	union ancillary_output room;
	int numbers[ANCILLARY_MAX_FDS];
	struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
	ssize_t length;

	/* The socket was replaced by one that would drop them without a word. */
	if (fds > 0 && !outgoing->carries_fds)
		return -EOPNOTSUPP;
	if (fds > 0) {
		for (unsigned int i = 0; i < fds; i++)
			numbers[i] = mark_at(outgoing, i)->fd;
		ancillary_attach(&message, &room, numbers, fds);
	}
	turn->calls++;
	if (!outgoing->is_socket)
		guard_turn(turn);
	do {
		outgoing->stats->send_calls++;
		length = outgoing->is_socket ? sendmsg(turn->fd, &message,
		                                       MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0))
		                             : writev(turn->fd, vectors, count);
	} while (length < 0 && errno == EINTR);
	if (length < 0) {
		turn->raised |= errno == EPIPE;
		return -errno;
	}

	/* The descriptors are in the message's first byte: after a short count they have gone too, and
	 * with the rest they would go again. */
	if (length > 0 && fds > 0) {
		outgoing->stats->fds_sent += fds;
		close_first(outgoing, fds);
	}
	turn->sent += (size_t)length;
	outgoing->stats->bytes_sent += (uint64_t)length;
	return length;
}

/* What was seen of the buffer in one look: `count` vectors, the first of them cut by what is sent. */
struct view {
	struct evbuffer_iovec vectors[VECTORS_MAX];
	int first, count;
	size_t length;
};

static void look(const struct outgoing *outgoing, struct view *view, size_t max)
{
	view->first = 0;
	view->length = 0;
	view->count =
	    evbuffer_peek(outgoing->buffer, (ev_ssize_t)max, NULL, view->vectors, VECTORS_MAX);
	if (view->count > VECTORS_MAX)
		view->count = VECTORS_MAX;
	for (int i = 0; i < view->count; i++) {
		/* A peek gives whole chains. */
		if (view->vectors[i].iov_len > max - view->length)
			view->vectors[i].iov_len = max - view->length;
		view->length += view->vectors[i].iov_len;
	}
}

/* Sends the first `length` bytes of the view, with descriptors, as one message; moves on by what was
 * sent. */
static ssize_t send_from_view(struct outgoing *outgoing, struct turn *turn, struct view *view,
                              size_t length, unsigned int fds, bool more)
{
	int last = view->first;
	size_t before = 0;

	while (before + view->vectors[last].iov_len < length)
		before += view->vectors[last++].iov_len;
	size_t whole = view->vectors[last].iov_len;
	view->vectors[last].iov_len = length - before;
	ssize_t sent =
	    transmit(outgoing, turn, &view->vectors[view->first], last - view->first + 1, fds, more);
	view->vectors[last].iov_len = whole;
	if (sent < (ssize_t)length)
		return sent; /* an error or a full socket: the view is not used again */

	struct evbuffer_iovec *rest = &view->vectors[last];
	rest->iov_base = (unsigned char *)rest->iov_base + (length - before);
	rest->iov_len -= length - before;
	view->first = last;
	view->length -= length;
	return sent;
}

/* Sends bytes of the buffer, up to the next file: a message for each descriptor among them, all from
 * one look at the buffer. */
static int send_bytes(struct outgoing *outgoing, struct turn *turn)
{
	size_t queued = evbuffer_get_length(outgoing->buffer), done = 0;
	size_t left = turn->budget - turn->sent;
	struct view view;
	int state = OUTGOING_IDLE;

	look(outgoing, &view, queued < left ? queued : left);
	while (state == OUTGOING_IDLE && view.length > 0) {
		struct next next = find_next(outgoing, done);
		if (next.bytes == 0 || is_spent(turn))
			break;
		bool whole = next.bytes <= view.length;
		size_t length = whole ? next.bytes : view.length;
		bool more = whole && outgoing->is_inet && next.file != NULL && !next.file->held &&
		            next.file->source.remaining > 0;
		ssize_t sent = send_from_view(outgoing, turn, &view, length, next.fds, more);
		if (sent < 0)
			state = state_of(outgoing, (int)sent);
		else if ((size_t)sent < length)
			state = OUTGOING_FULL;
		done += sent > 0 ? (size_t)sent : 0;
	}

	/* Callbacks on the buffer run in here: they must find the positions right, and the program's own
	 * signal mask. */
	unguard_turn(turn);
	outgoing->drained += done;
	outgoing->own_drain += done;
	evbuffer_unfreeze(outgoing->buffer, 1);
	evbuffer_drain(outgoing->buffer, done);
	evbuffer_freeze(outgoing->buffer, 1);
	return state;
}

static void count_file_bytes(struct outgoing *outgoing, struct outgoing_file *file, size_t length)
{
	file->sent += length;
	outgoing->progressed = file;
	outgoing->stats->file_bytes_sent += length;
}

/* Whether an error of sendfile(2) is the connection's and not the file's. */
static bool is_connection_error(int error)
{
	switch (error) {
	case -EPIPE:
	case -ECONNRESET:
	case -ECONNABORTED:
	case -ENOTCONN:
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -EHOSTDOWN:
	case -ENETDOWN:
	case -ENETUNREACH:
	case -ENETRESET:
		return true;
	default:
		return false;
	}
}

/* What a read of a file that gave nothing means: its end, or a state. */
static int file_gave_nothing(struct outgoing *outgoing, const struct next *next, int error)
{
	if (error == 0) {
		finish_at(outgoing, next->fds, next->file->source.open_ended ? 0 : -EIO);
		return OUTGOING_IDLE;
	}
	int state = state_of(outgoing, error);
	if (state >= 0 || is_connection_error(error))
		return state;
	finish_at(outgoing, next->fds, error);
	return OUTGOING_IDLE;
}

/* Descriptors directly before a file travel with its first bytes, which are copied for it:
 * sendfile(2) carries none. */
static int send_file_head(struct outgoing *outgoing, struct turn *turn, const struct next *next)
{
	unsigned char head[FILE_HEAD_MAX];
	struct file_source *source = &next->file->source;
	size_t left = turn->budget - turn->sent;

	ssize_t length = file_source_peek(source, head, left < sizeof(head) ? left : sizeof(head));
	if (length <= 0)
		return file_gave_nothing(outgoing, next, (int)length);
	struct iovec vector = {.iov_base = head, .iov_len = (size_t)length};
	ssize_t sent = transmit(outgoing, turn, &vector, 1, next->fds, false);
	if (sent < 0)
		return state_of(outgoing, (int)sent);
	file_source_skip(source, (size_t)sent);
	count_file_bytes(outgoing, next->file, (size_t)sent);
	return sent < length ? OUTGOING_FULL : OUTGOING_IDLE;
}

static int send_file_body(struct outgoing *outgoing, struct turn *turn, const struct next *next)
{
	guard_turn(turn);
	turn->calls++;
	outgoing->stats->sendfile_calls++;
	ssize_t sent = file_source_send(&next->file->source, turn->fd, turn->budget - turn->sent);
	if (sent <= 0) {
		turn->raised |= sent == -EPIPE;
		return file_gave_nothing(outgoing, next, (int)sent);
	}
	turn->sent += (size_t)sent;
	outgoing->stats->bytes_sent += (uint64_t)sent;
	count_file_bytes(outgoing, next->file, (size_t)sent);
	return OUTGOING_IDLE;
}

static int send_file(struct outgoing *outgoing, struct turn *turn, const struct next *next)
{
	if (next->file->held)
		return OUTGOING_HELD;
	int state = OUTGOING_IDLE;
	if (next->file->source.remaining > 0) {
		state = next->fds > 0 ? send_file_head(outgoing, turn, next)
		                      : send_file_body(outgoing, turn, next);
	}
	/* The file may be out of the stream already, if it could not be read. */
	if (next->file->source.fd >= 0 && next->file->source.remaining == 0)
		outgoing_finish_file(outgoing, next->file, 0);
	return state;
}

void outgoing_note_drained(struct outgoing *outgoing, size_t count)
{
	uint64_t own = count < outgoing->own_drain ? count : outgoing->own_drain;
	outgoing->own_drain -= own;
	outgoing->drained += count - own;
}

int outgoing_flush(struct outgoing *outgoing, int fd, size_t budget, size_t *sent)
{
	struct turn turn = {.fd = fd, .budget = budget};
	int state = OUTGOING_IDLE;

	while (state == OUTGOING_IDLE && !outgoing->stopped) {
		struct next next = find_next(outgoing, 0);
		if (next.bytes == 0 && next.file == NULL)
			break;
		if (is_spent(&turn))
			state = OUTGOING_YIELDED;
		else if (next.bytes > 0)
			state = send_bytes(outgoing, &turn);
		else
			state = send_file(outgoing, &turn, &next);
	}
	unguard_turn(&turn);
	*sent = turn.sent;
	return state;
}

/* ---- lifetime ---- */

void outgoing_init(struct outgoing *outgoing, struct evbuffer *buffer,
                   struct ferry_transport_stats *stats)
{
	*outgoing = (struct outgoing){
	    .buffer = buffer,
	    .stats = stats,
	    .finished_tail = &outgoing->finished,
	    .fd_limit = 1024,
	    .max_fds_per_message = 64,
	};
}

void outgoing_abandon(struct outgoing *outgoing, int status)
{
	while (outgoing->count > 0) {
		outgoing_close_fds(outgoing);
		if (outgoing->count > 0)
			finish_at(outgoing, 0, status);
	}
}

void outgoing_stop(struct outgoing *outgoing, int status)
{
	outgoing->stopped = true;
	outgoing_abandon(outgoing, status);
	evbuffer_unfreeze(outgoing->buffer, 1);
	evbuffer_drain(outgoing->buffer, evbuffer_get_length(outgoing->buffer));
	evbuffer_freeze(outgoing->buffer, 1);
}

void outgoing_release(struct outgoing *outgoing)
{
	assert(outgoing->count == 0 && outgoing->finished == NULL);
	free(outgoing->marks);
	outgoing->marks = NULL;
}

bool outgoing_is_held(const struct outgoing *outgoing)
{
	struct next next = find_next(outgoing, 0);
	return next.bytes == 0 && next.file != NULL && next.file->held;
}

bool outgoing_is_sent(const struct outgoing *outgoing)
{
	return outgoing->file_count == 0 && evbuffer_get_length(outgoing->buffer) == 0;
}
