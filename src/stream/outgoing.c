#include "stream/outgoing.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "kernel/ancillary.h"
#include "kernel/fds.h"
#include "kernel/sigpipe.h"
#include "kernel/tls.h"
#include "libevent/segments.h"
#include "libevent/vectors.h"

enum {
	FILE_HEAD_MAX = 4096,  /* bytes of a file that are copied, to carry descriptors */
	CALLS_PER_FLUSH = 256, /* then other connections get their turn */
};

/* Descriptors that the kernel has taken. They are closed together, because those of one burst often have consecutive
 * numbers; and before user code runs. */
struct taken {
	int fds[2 * ANCILLARY_MAX_FDS];
	unsigned int count;
};

/* One flush. SIGPIPE is blocked from the first call that has no flag against it until user code runs. */
struct turn {
	int fd;
	size_t budget;
	size_t sent;
	unsigned int calls;
	struct sigpipe_guard guard;
	bool guarded;
	bool raised;
	bool corked;
	int users_cork; /* TCP_CORK that the user has set; -1: not looked at yet */
	bool more;      /* the last call announced more with MSG_MORE */
	struct taken *taken;
	outgoing_adopt_cb adopt;
};

static void close_taken(struct turn *turn)
{
	fds_close(turn->taken->fds, turn->taken->count);
	turn->taken->count = 0;
}

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

/* The next item to send: `fds` descriptors and `bytes` bytes of the buffer; or the file, if `bytes` is
 * 0. */
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
	return outgoing->coalescing && mark->position < end &&
	       before < outgoing->limits.fds_per_message && before < in_flight_share();
}

/* `ahead`: bytes of the buffer that are sent and not yet drained. The position of a mark may be before the
 * current one: after bufferevent_setfd() libevent itself wrote past the mark. Such a mark goes with the next
 * bytes. */
static struct next find_next(const struct outgoing *outgoing, size_t ahead)
{
	struct next next = {.bytes = evbuffer_get_length(outgoing->buffer) - ahead};
	uint64_t position = outgoing->drained + ahead;
	uint64_t end = position + next.bytes;

	while (next.fds < marks_count(outgoing->marks) &&
	       rides_along(outgoing, marks_at(outgoing->marks, next.fds), next.fds, position, end))
		next.fds++;
	if (next.fds < marks_count(outgoing->marks)) {
		const struct mark *mark = marks_at(outgoing->marks, next.fds);
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

/* Converts an error after which sending can go on to a state; returns other errors unchanged. */
static int flush_state(struct outgoing *outgoing, int error)
{
	switch (error) {
	case -EAGAIN:
		outgoing->stats.send_eagain++;
		return OUTGOING_FULL;
	case -ENOBUFS:
	case -ENOMEM:
	case -ETOOMANYREFS: /* too many descriptors in flight, of this user or of this process */
		outgoing->stats.send_retries++;
		return OUTGOING_NO_MEMORY;
	default:
		return error;
	}
}

/* Takes the first descriptors off the stream. They travel with the message's first byte: after a short count they are
 * sent too, and must not be sent again with the rest. */
static void take_fds(struct outgoing *outgoing, struct turn *turn, unsigned int fds)
{
	struct taken *taken = turn->taken;

	in_flight_sent(&outgoing->marks->in_flight);
	outgoing->marks->stats.fds_sent += fds;
	taken->count += marks_take_first(outgoing->marks, fds, taken->fds + taken->count);
	if (taken->count > ANCILLARY_MAX_FDS) /* no room for another message's */
		close_taken(turn);
}

/* Attaches the first descriptors of the stream to the message, if it may be sent now. */
static int attach_fds(struct outgoing *outgoing, const struct turn *turn, struct msghdr *message,
                      union ancillary_output *room, unsigned int fds)
{
	int fd_list[ANCILLARY_MAX_FDS];

	/* The socket was replaced by one of a family that ignores descriptors without an error. */
	if (!outgoing->carries_fds)
		return -EOPNOTSUPP;
	/* The same as the kernel's own limit: the wait is the same too. */
	if (!in_flight_admit(&outgoing->marks->in_flight, turn->fd, fds))
		return -ETOOMANYREFS;
	for (unsigned int i = 0; i < fds; i++)
		fd_list[i] = marks_at(outgoing->marks, i)->fd;
	ancillary_attach(message, room, fd_list, fds);
	return 0;
}

static ssize_t transmit(struct outgoing *outgoing, struct turn *turn, struct iovec *vectors,
                        int count, unsigned int fds, bool more)
{
	union ancillary_output room;
	struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
	ssize_t length;

	int status = fds > 0 ? attach_fds(outgoing, turn, &message, &room, fds) : 0;
	if (status < 0)
		return status;
	turn->calls++;
	if (!outgoing->is_socket)
		guard_turn(turn);
	do {
		outgoing->stats.send_calls++;
		length = outgoing->is_socket ? sendmsg(turn->fd, &message,
		                                       MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0))
		                             : writev(turn->fd, vectors, count);
	} while (length < 0 && errno == EINTR);
	int error = length < 0 ? errno : 0;
	if (fds > 0 && length > 0)
		take_fds(outgoing, turn, fds);
	else if (fds > 0)
		in_flight_withdraw(&outgoing->marks->in_flight, fds);
	turn->raised |= error == EPIPE;
	if (length < 0)
		return -error;

	turn->sent += (size_t)length;
	turn->more = more;
	outgoing->stats.bytes_sent += (uint64_t)length;
	return length;
}

static bool is_paused_file(const struct outgoing_file *file)
{
	return file->paused || file->waiting != 0;
}

static void count_file_bytes(struct outgoing *outgoing, struct outgoing_file *file, size_t length)
{
	if (length == 0)
		return;
	file->sent += length;
	outgoing->marks->progressed = file;
	outgoing->marks->stats.file_bytes_sent += length;
}

/* The file segment with which the buffer begins, if the stream has come to it. */
static struct outgoing_file *get_segment(const struct outgoing *outgoing)
{
	return outgoing->marks != NULL ? outgoing->marks->segment : NULL;
}

static void finish_file(struct outgoing *outgoing, struct outgoing_file *file, int status)
{
	if (file != get_segment(outgoing)) {
		marks_finish_file(outgoing->marks, file, status);
		return;
	}
	outgoing->marks->segment = NULL;
	outgoing->marks->segment_error = status;
	marks_retire(outgoing->marks, file, status);
}

/* The bytes of the buffer behind a file that is sent now. */
static size_t bytes_behind(const struct outgoing *outgoing, const struct outgoing_file *file)
{
	size_t length = evbuffer_get_length(outgoing->buffer);

	if (file != get_segment(outgoing))
		return length;
	return file->source.remaining < length ? length - (size_t)file->source.remaining : 0;
}

/* Accounts for bytes of the file that were read and sent in a message. */
static void skip_file_bytes(struct outgoing *outgoing, struct outgoing_file *file, size_t length)
{
	int status = length > 0 ? file_source_skip(&file->source, length) : 0;

	count_file_bytes(outgoing, file, length);
	if (file->source.remaining == 0 || status < 0)
		finish_file(outgoing, file, status);
}

/* Appends a small file to the message of the bytes before it: one system call, and on TCP one segment.
 * Returns the number of bytes. */
static size_t join_small_file(struct outgoing_file *file, size_t left, struct iovec *vector)
{
	struct file_source *source = &file->source;
	const void *data;

	if (is_paused_file(file) || source->remaining == 0 || source->remaining > FILE_SOURCE_SMALL ||
	    source->remaining > left || !file_source_may_peek(source))
		return 0;
	ssize_t length = file_source_peek(source, &data, FILE_SOURCE_SMALL);
	if (length <= 0) /* send_file() meets the same result, and handles it */
		return 0;
	*vector = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = (size_t)length};
	return (size_t)length;
}

/* Whether the end of a message should share a segment with the next item: a file; or, if the message ends
 * with a whole file, the bytes behind that file. A file that may have to wait is no reason to delay the
 * message. */
static bool goes_on(struct outgoing_file *file, size_t joined, size_t behind)
{
	if (joined > 0)
		return joined == file->source.remaining && behind > 0;
	return !is_paused_file(file) && file->source.remaining > 0 &&
	       file_source_is_ready(&file->source);
}

/* Sends the next bytes of the view as one message, with the descriptors that belong to them and a small
 * file behind them. Sets `sent` to the number of bytes of the view. */
static int send_piece(struct outgoing *outgoing, struct turn *turn, const struct vectors_view *view,
                      const struct next *next, size_t *sent)
{
	struct iovec vectors[VECTORS_VIEW_MAX + 1];
	/* Files in earlier messages of this turn have used part of the budget. */
	size_t left = turn->budget - turn->sent;
	size_t max = view->length < left ? view->length : left;
	bool whole = next->bytes <= max;
	size_t length = whole ? next->bytes : max, joined = 0;
	int count = vectors_view_copy(view, length, vectors);
	bool more = false;

	*sent = 0;
	if (whole && next->file != NULL) {
		joined = join_small_file(next->file, left - length, &vectors[count]);
		count += joined > 0;
		more = outgoing->framing == OUTGOING_SEGMENTS &&
		       goes_on(next->file, joined, view->length - length);
	} else if (view->before_segment && length == view->length) {
		more = outgoing->framing == OUTGOING_SEGMENTS;
	}
	ssize_t total = transmit(outgoing, turn, vectors, count, next->fds, more);
	if (total < 0)
		return flush_state(outgoing, (int)total);
	*sent = (size_t)total < length ? (size_t)total : length;
	if (joined > 0)
		skip_file_bytes(outgoing, next->file, (size_t)total - *sent);
	return (size_t)total < length + joined ? OUTGOING_FULL : OUTGOING_IDLE;
}

/* Takes sent bytes out of the buffer. That runs callbacks on the buffer, which must find the right positions and
 * the program's own signal mask. */
static void drain(struct outgoing *outgoing, struct turn *turn, size_t count)
{
	unguard_turn(turn);
	outgoing->drained += count;
	outgoing->own_drain += count;
	evbuffer_unfreeze(outgoing->buffer, 1);
	evbuffer_drain(outgoing->buffer, count);
	evbuffer_freeze(outgoing->buffer, 1);
}

static int send_segment(struct outgoing *outgoing, struct turn *turn);

/* Sends bytes of the buffer, `next` and what is behind it up to the next file: one message for each position with
 * descriptors, all from one view of the buffer. */
static int send_bytes(struct outgoing *outgoing, struct turn *turn, struct next next)
{
	size_t queued = evbuffer_get_length(outgoing->buffer), done = 0, sent = 0;
	size_t left = turn->budget - turn->sent;
	struct vectors_view view;
	int state;

	vectors_view_open(&view, outgoing->buffer, queued < left ? queued : left);
	if (view.length == 0)
		return send_segment(outgoing, turn);
	for (;;) {
		state = send_piece(outgoing, turn, &view, &next, &sent);
		vectors_view_skip(&view, sent);
		done += sent;
		if (state != OUTGOING_IDLE || view.length == 0 || is_spent(turn))
			break;
		next = find_next(outgoing, done);
		if (next.bytes == 0)
			break;
	}

	close_taken(turn);
	drain(outgoing, turn, done);
	return state;
}

/* Whether an error of sendfile(2) or splice(2) belongs to the connection and not to the file. */
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

/* sendfile(2) announces all the bytes that it was asked for. Before Linux 6.5, if there were fewer, the kernel waits for
 * the rest with the record that it has begun. Whether that record could not be sent now. */
static bool leaves_record(const struct outgoing *outgoing, int fd)
{
	return outgoing->framing == OUTGOING_RECORDS && tls_push(fd) == -EAGAIN;
}

/* Handles a result of a file other than bytes: its end, an error, or a state. */
static int settle_file(struct outgoing *outgoing, int fd, const struct next *next, int result)
{
	struct file_source *source = &next->file->source;

	if (result != -EAGAIN && leaves_record(outgoing, fd))
		return flush_state(outgoing, -EAGAIN);
	switch (result) {
	case FILE_SOURCE_CHANGED:
		return OUTGOING_IDLE;
	case FILE_SOURCE_DRY:
	case FILE_SOURCE_COLD:
		next->file->waiting = result;
		outgoing->marks->stats.file_waits++;
		return OUTGOING_PAUSED;
	case 0:
		finish_file(outgoing, next->file, file_source_end_status(source));
		return OUTGOING_IDLE;
	default:
		break;
	}
	int state = flush_state(outgoing, result);
	if (state >= 0 || (!source->read_failed && is_connection_error(result)))
		return state;
	finish_file(outgoing, next->file, result);
	return OUTGOING_IDLE;
}

/* Sends by copying: a file that can only be read; or the first bytes of a file with descriptors directly
 * before it, because sendfile(2) cannot carry descriptors. */
static int send_file_copied(struct outgoing *outgoing, struct turn *turn, const struct next *next)
{
	size_t left = turn->budget - turn->sent;
	size_t max = next->fds > 0 && left > FILE_HEAD_MAX ? FILE_HEAD_MAX : left;
	const void *data;

	ssize_t length = file_source_peek(&next->file->source, &data, max);
	if (length <= 0)
		return settle_file(outgoing, turn->fd, next, (int)length);
	struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = (size_t)length};
	bool more = outgoing->framing == OUTGOING_SEGMENTS &&
	            (uint64_t)length == next->file->source.remaining &&
	            bytes_behind(outgoing, next->file) > 0;
	ssize_t sent = transmit(outgoing, turn, &vector, 1, next->fds, more);
	close_taken(turn);
	if (sent < 0)
		return flush_state(outgoing, (int)sent);
	skip_file_bytes(outgoing, next->file, (size_t)sent);
	return sent < length ? OUTGOING_FULL : OUTGOING_IDLE;
}

/* The user's own cork stays. One system call, in turns that need a cork at all. */
static bool has_users_cork(struct turn *turn)
{
	int on = 0;

	if (turn->users_cork < 0 &&
	    getsockopt(turn->fd, IPPROTO_TCP, TCP_CORK, &on, &(socklen_t){sizeof(on)}) < 0)
		on = 0;
	if (turn->users_cork < 0)
		turn->users_cork = on != 0;
	return turn->users_cork > 0;
}

/* On TCP, the end of a file then shares a segment with the bytes written after it. */
static void cork(struct turn *turn)
{
	if (turn->corked || has_users_cork(turn))
		return;
	setsockopt(turn->fd, IPPROTO_TCP, TCP_CORK, &(int){1}, sizeof(int));
	turn->corked = true;
}

/* Makes the kernel send an incomplete segment, which it would otherwise delay for up to 200 ms: at the end of
 * a corked flush, or if bytes that were announced with MSG_MORE did not follow. */
static void uncork(struct turn *turn)
{
	if (turn->corked || (turn->more && !has_users_cork(turn)))
		setsockopt(turn->fd, IPPROTO_TCP, TCP_CORK, &(int){0}, sizeof(int));
}

static int send_file_in_kernel(struct outgoing *outgoing, struct turn *turn,
                               const struct next *next)
{
	struct outgoing_file *file = next->file;
	size_t left = turn->budget - turn->sent;
	uint64_t asked = file->source.remaining < left ? file->source.remaining : left;

	guard_turn(turn);
	if (outgoing->framing == OUTGOING_SEGMENTS && file->source.remaining < left &&
	    bytes_behind(outgoing, file) > 0)
		cork(turn);
	turn->calls++;
	outgoing->marks->stats.sendfile_calls++;
	ssize_t sent = file_source_send(&file->source, turn->fd, left);
	/* If the connection breaks during the call, the kernel returns a short count and raises SIGPIPE. */
	turn->raised |= sent == -EPIPE || (sent >= 0 && (uint64_t)sent < asked);
	/* The file ended early: before Linux 6.5 the kernel delays the last segment for the rest. */
	turn->more |= sent == 0 && outgoing->framing == OUTGOING_SEGMENTS;
	if (sent <= 0)
		return settle_file(outgoing, turn->fd, next, (int)sent);
	turn->sent += (size_t)sent;
	turn->more = false;
	outgoing->stats.bytes_sent += (uint64_t)sent;
	count_file_bytes(outgoing, file, (size_t)sent);
	if (file->source.remaining == 0)
		finish_file(outgoing, file, 0);
	return OUTGOING_IDLE;
}

static int send_file(struct outgoing *outgoing, struct turn *turn, const struct next *next)
{
	if (is_paused_file(next->file))
		return OUTGOING_PAUSED;
	if (next->file->source.remaining == 0) {
		finish_file(outgoing, next->file, 0);
		return OUTGOING_IDLE;
	}
	if (next->fds > 0 || file_source_must_copy(&next->file->source))
		return send_file_copied(outgoing, turn, next);
	return send_file_in_kernel(outgoing, turn, next);
}

/* ---- file segments in the buffer ---- */

void outgoing_forget_segment(struct outgoing *outgoing)
{
	if (get_segment(outgoing) == NULL)
		return;
	finish_file(outgoing, outgoing->marks->segment, -ECANCELED);
	outgoing->marks->segment_error = 0;
}

/* Whether the segment that the stream knows is the one in the buffer, at the same byte. A user's callback on the
 * buffer, or libevent after bufferevent_setfd(), may have changed the front. */
static bool is_current(const struct outgoing *outgoing, const struct segment *front)
{
	const struct file_source *source = &outgoing->marks->segment->source;

	return outgoing->marks->segment_chain == front->chain && source->fd == front->fd &&
	       source->offset == front->offset;
}

/* Makes the segment that with which the buffer begins. */
static int meet_segment(struct outgoing *outgoing, const struct segment *front,
                        outgoing_adopt_cb adopt)
{
	struct file_source source;

	if (get_segment(outgoing) != NULL && is_current(outgoing, front))
		return 0;
	outgoing_forget_segment(outgoing);
	int status = outgoing_need_marks(outgoing);
	if (status == 0)
		status = file_source_init_lent(&source, front->fd, front->offset, front->length);
	if (status < 0)
		return status;
	file_source_set_output(&source, !outgoing->is_socket);
	outgoing->marks->segment = adopt(outgoing, &source);
	outgoing->marks->segment_chain = front->chain;
	return get_segment(outgoing) != NULL ? 0 : -ENOMEM;
}

/* Sends from the file segment with which the buffer begins. A segment that ends early is dropped with the file's
 * end if libevent made it too long, and ends the connection otherwise: the bytes behind it would be taken for the
 * missing ones. */
static int send_segment(struct outgoing *outgoing, struct turn *turn)
{
	struct next next = {.fds = find_next(outgoing, 0).fds};
	struct segment front;

	if (!segments_first(outgoing->buffer, &front))
		return -EIO;
	int state = meet_segment(outgoing, &front, turn->adopt);
	if (state < 0)
		return flush_state(outgoing, state);
	next.file = outgoing->marks->segment;
	uint64_t before = next.file->sent;
	outgoing->marks->segment_error = 0;
	state = send_file(outgoing, turn, &next);
	size_t done = (size_t)(next.file->sent - before);
	if (get_segment(outgoing) == NULL && outgoing->marks->segment_error < 0)
		state = outgoing->marks->segment_error;
	else if (get_segment(outgoing) == NULL)
		done = front.length;
	drain(outgoing, turn, done);
	return state;
}

struct outgoing_file *outgoing_paused_file(const struct outgoing *outgoing)
{
	struct outgoing_file *file = get_segment(outgoing);

	if (file == NULL && marks_file_count(outgoing->marks) > 0) {
		struct next next = find_next(outgoing, 0);
		file = next.bytes == 0 ? next.file : NULL;
	}
	return file != NULL && is_paused_file(file) ? file : NULL;
}

void outgoing_note_drained(struct outgoing *outgoing, size_t count)
{
	uint64_t own = count < outgoing->own_drain ? count : outgoing->own_drain;
	outgoing->own_drain -= own;
	outgoing->drained += count - own;
}

int outgoing_flush(struct outgoing *outgoing, int fd, size_t budget, outgoing_adopt_cb adopt,
                   size_t *sent)
{
	struct taken taken;
	struct turn turn = {
	    .fd = fd, .budget = budget, .users_cork = -1, .taken = &taken, .adopt = adopt};
	int state = OUTGOING_IDLE;

	taken.count = 0;
	outgoing->replaced = false;
	outgoing->flushing = true;
	while (state == OUTGOING_IDLE && !outgoing->stopped && !outgoing->replaced) {
		struct next next = find_next(outgoing, 0);
		if (next.bytes == 0 && next.file == NULL)
			break;
		if (is_spent(&turn))
			state = OUTGOING_YIELDED;
		else if (next.bytes > 0)
			state = send_bytes(outgoing, &turn, next);
		else
			state = send_file(outgoing, &turn, &next);
	}
	unguard_turn(&turn);
	/* Else the descriptor may be closed, and its slot in use again. */
	if ((!outgoing->stopped || outgoing->left) && !outgoing->replaced)
		uncork(&turn);
	outgoing->flushing = false;
	*sent = turn.sent;
	return state;
}

/* ---- lifetime ---- */

void outgoing_init(struct outgoing *outgoing, struct evbuffer *buffer)
{
	*outgoing = (struct outgoing){
	    .buffer = buffer,
	    .limits = {.fds = 1024, .fds_per_message = 64},
	};
}

int outgoing_need_marks(struct outgoing *outgoing)
{
	if (outgoing->marks == NULL)
		outgoing->marks = marks_new();
	return outgoing->marks != NULL ? 0 : -ENOMEM;
}

int outgoing_push_file(struct outgoing *outgoing, struct outgoing_file *file)
{
	int status = outgoing_need_marks(outgoing);

	if (status == 0)
		status = marks_push_file(outgoing->marks, outgoing_end(outgoing), file);
	if (status == 0)
		file_source_set_output(&file->source, !outgoing->is_socket);
	return status;
}

void outgoing_stop(struct outgoing *outgoing, int status)
{
	outgoing->stopped = true;
	if (get_segment(outgoing) != NULL)
		finish_file(outgoing, outgoing->marks->segment, status);
	marks_abandon(outgoing->marks, status);
	evbuffer_unfreeze(outgoing->buffer, 1);
	evbuffer_drain(outgoing->buffer, evbuffer_get_length(outgoing->buffer));
	evbuffer_freeze(outgoing->buffer, 1);
}

void outgoing_leave(struct outgoing *outgoing)
{
	outgoing_forget_segment(outgoing);
	outgoing->stopped = true;
	outgoing->left = true;
}

ssize_t outgoing_send(struct outgoing *outgoing, int fd, const void *data, size_t length)
{
	struct turn turn = {.fd = fd, .budget = length, .users_cork = -1};
	struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};

	ssize_t sent = transmit(outgoing, &turn, &vector, 1, 0, false);
	unguard_turn(&turn);
	if (sent < 0) {
		int state = flush_state(outgoing, (int)sent);
		return state < 0 ? state : 0;
	}
	outgoing->drained += (uint64_t)sent;
	return sent;
}

bool outgoing_is_sent(const struct outgoing *outgoing)
{
	return marks_file_count(outgoing->marks) == 0 && evbuffer_get_length(outgoing->buffer) == 0;
}
