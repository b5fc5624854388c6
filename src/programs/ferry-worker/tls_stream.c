#include "programs/ferry-worker/tls_stream.h"

#include "programs/ferry-worker/close_notify.h"
#include "programs/ferry-worker/stream.h"
#include "programs/ferry-worker/tls_context.h"
#include "programs/shared/answer_counters.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <ferry/address.h>
#include <ferry/file_producer.h>
#include <ferry/producer.h>
#include <ferry/transport.h>
#include <openssl/err.h>

enum {
	RECORDS = 2,        /* that are read in one turn of the loop */
	RECORD_MAX = 16384, /* bytes of one record */
	PIECE = 65536,      /* bytes of a file that are read at once */
	TURN = 1024 * 1024, /* bytes sent in one turn of the loop */
	SENDFILE_MAX = TURN /* of one call */
};

enum closing { OPEN, CLOSING_WRITE, CLOSING };

struct file {
	int fd; /* -1: none */
	int64_t offset;
	uint64_t left;
	uint64_t read; /* bytes of it that are in the output, or sent */
	const struct ferry_file_callbacks *callbacks;
	void *context;
};

struct tls_stream {
	SSL *ssl;
	int fd;
	struct evbuffer *input, *output;
	struct event *readable, *writable;
	struct event *later; /* for callbacks that a call has caused */
	struct timeval idle;
	struct event *deadline; /* of the handshake; NULL: it is complete */
	const struct ferry_protocol *protocol;
	void *context;
	const struct ferry_producer_callbacks *producer; /* NULL: none */
	void *producer_context;
	struct answer_counters *counters;
	struct file file;
	uint64_t sent;
	enum closing closing;
	bool made;       /* connection_made has run */
	bool kernel;     /* encrypts what is sent */
	bool paused;     /* reading is */
	bool input_over; /* the client has ended its half, by a close_notify */
	bool truncated;  /* or without one */
	bool said;       /* our close_notify has been sent */
	bool shut;       /* and the end of this half */
	bool lost;
	bool notified; /* connection_lost has run, or must not */
	bool freed;    /* the memory goes with the last callback */
	int reason;
	unsigned int depth; /* of callbacks */
	char name[FERRY_ADDRESS_TEXT_SIZE];
};

static void advance(struct tls_stream *stream);

/* ---- made and freed ---- */

static void free_event(struct event **event)
{
	if (*event != NULL)
		event_free(*event);
	*event = NULL;
}

/* A file in the stream still has its callback to come, and keeps the memory. */
static void free_memory(struct tls_stream *stream)
{
	if (stream->depth > 0 || stream->file.callbacks != NULL)
		return;
	free_event(&stream->later);
	free(stream);
}

void tls_stream_free(struct tls_stream *stream)
{
	free_event(&stream->readable);
	free_event(&stream->writable);
	free_event(&stream->deadline);
	if (stream->input != NULL)
		evbuffer_free(stream->input);
	if (stream->output != NULL)
		evbuffer_free(stream->output);
	SSL_free(stream->ssl);
	close(stream->fd);
	stream->input = stream->output = NULL;
	stream->ssl = NULL;
	stream->freed = true;
	if (stream->file.callbacks != NULL)
		event_active(stream->later, EV_TIMEOUT, 0);
	free_memory(stream);
}

/* OpenSSL reads the bytes of the handoff first. */
static int set_bios(SSL *ssl, int fd, const void *bytes, size_t length)
{
	BIO *socket = BIO_new_socket(fd, BIO_NOCLOSE);
	BIO *memory = BIO_new(BIO_s_mem());
	if (socket == NULL || memory == NULL || BIO_write(memory, bytes, (int)length) != (int)length) {
		BIO_free(socket);
		BIO_free(memory);
		return -ENOMEM;
	}
	BIO_set_mem_eof_return(memory, -1); /* its end is no end of the connection */
	SSL_set0_rbio(ssl, memory);
	SSL_set0_wbio(ssl, socket);
	return 0;
}

/* From the memory to the socket, once the memory is read. False: it was done before. */
static bool turn_to_socket(SSL *ssl)
{
	BIO *socket = SSL_get_wbio(ssl), *from = SSL_get_rbio(ssl);
	if (from == socket || BIO_pending(from) > 0)
		return false;
	BIO_up_ref(socket);
	SSL_set0_rbio(ssl, socket);
	return true;
}

static void became_readable(evutil_socket_t fd, short what, void *context);
static void became_writable(evutil_socket_t fd, short what, void *context);
static void run_later(evutil_socket_t fd, short what, void *context);
static void handshake_timed_out(evutil_socket_t fd, short what, void *context);

int tls_stream_new(struct tls_stream **out, struct event_base *base,
                   const struct tls_client *client)
{
	struct tls_stream *stream = calloc(1, sizeof(*stream));
	if (stream == NULL) {
		close(client->fd);
		return -ENOMEM;
	}
	stream->fd = client->fd;
	stream->file.fd = -1;
	stream->counters = client->counters;
	(void)snprintf(stream->name, sizeof(stream->name), "%s", client->name);
	stream->ssl = tls_context_accept(client->context);
	stream->input = evbuffer_new();
	stream->output = evbuffer_new();
	stream->readable = event_new(base, client->fd, EV_READ, became_readable, stream);
	stream->writable = event_new(base, client->fd, EV_WRITE, became_writable, stream);
	stream->later = evtimer_new(base, run_later, stream);
	stream->deadline = evtimer_new(base, handshake_timed_out, stream);
	if (stream->ssl == NULL || stream->input == NULL || stream->output == NULL ||
	    stream->readable == NULL || stream->writable == NULL || stream->later == NULL ||
	    stream->deadline == NULL || event_add(stream->deadline, &client->handshake_timeout) < 0 ||
	    evutil_make_socket_nonblocking(client->fd) < 0 ||
	    set_bios(stream->ssl, client->fd, client->bytes, client->length) < 0) {
		tls_stream_free(stream);
		return -ENOMEM;
	}
	*out = stream;
	return 0;
}

int tls_stream_start(struct tls_stream *stream, const struct timeval *idle,
                     const struct ferry_protocol *protocol, void *context)
{
	stream->idle = *idle;
	stream->protocol = protocol;
	stream->context = context;
	event_active(stream->later, EV_TIMEOUT, 0);
	return 0;
}

/* ---- the end ---- */

/* connection_lost follows from the loop. */
static void lose(struct tls_stream *stream, int reason)
{
	if (stream->lost)
		return;
	stream->lost = true;
	stream->reason = reason;
	event_del(stream->readable);
	event_del(stream->writable);
	event_active(stream->later, EV_TIMEOUT, 0);
}

static void count(const struct tls_stream *stream, enum answer_tls what)
{
	if (stream->counters != NULL)
		answer_counters_add_tls(stream->counters, what);
}

static void fail_handshake(struct tls_stream *stream, const char *why, int reason)
{
	if (stream->lost)
		return;
	program_log("%s: the TLS handshake failed: %s", stream->name, why);
	count(stream, ANSWER_TLS_FAILED);
	lose(stream, reason);
}

/* `error` is neither a wait nor an end. */
static void fail(struct tls_stream *stream, int error)
{
	int system_error = errno;
	if (error == SSL_ERROR_SYSCALL) {
		ERR_clear_error();
		lose(stream, -system_error);
	} else {
		program_log("%s: the TLS connection failed: %s", stream->name, tls_context_error());
		lose(stream, -EPROTO);
	}
}

static bool wait_for(struct tls_stream *stream, struct event *event)
{
	if (event_add(event, &stream->idle) == 0)
		return true;
	lose(stream, -ENOMEM);
	return false;
}

/* Waits for the socket, if that is what the call of OpenSSL needs. False: the call has failed. */
static bool wait_or_fail(struct tls_stream *stream, int result)
{
	int error = SSL_get_error(stream->ssl, result);
	if (error == SSL_ERROR_WANT_READ)
		return wait_for(stream, stream->readable);
	if (error == SSL_ERROR_WANT_WRITE)
		return wait_for(stream, stream->writable);
	fail(stream, error);
	return false;
}

/* ---- the handshake ---- */

static void end_handshake(struct tls_stream *stream)
{
	static bool logged[2];
	free_event(&stream->deadline);
	stream->kernel = BIO_get_ktls_send(SSL_get_wbio(stream->ssl)) != 0;
	count(stream, stream->kernel ? ANSWER_TLS_KERNEL : ANSWER_TLS_OPENSSL);
	if (logged[stream->kernel])
		return;
	logged[stream->kernel] = true;
	if (stream->kernel)
		program_log("TLS: the kernel encrypts");
	else
		program_log("TLS: OpenSSL encrypts, because the kernel does not (modprobe tls) for %s, %s",
		            SSL_get_version(stream->ssl), SSL_get_cipher_name(stream->ssl));
}

/* True: it is complete. */
static bool shake(struct tls_stream *stream)
{
	int result;
	if (stream->deadline == NULL)
		return true;
	do {
		ERR_clear_error();
		errno = 0;
		result = SSL_do_handshake(stream->ssl);
	} while (result != 1 && SSL_get_error(stream->ssl, result) == SSL_ERROR_WANT_READ &&
	         turn_to_socket(stream->ssl));
	if (result == 1) {
		end_handshake(stream);
		return true;
	}
	int error = SSL_get_error(stream->ssl, result);
	if (error == SSL_ERROR_WANT_READ) {
		wait_for(stream, stream->readable);
	} else if (error == SSL_ERROR_WANT_WRITE) {
		wait_for(stream, stream->writable);
	} else if (error == SSL_ERROR_ZERO_RETURN) {
		fail_handshake(stream, "the client has ended", -ECONNABORTED);
	} else if (error == SSL_ERROR_SYSCALL) {
		fail_handshake(stream, strerror(errno), -errno);
	} else {
		fail_handshake(stream, tls_context_error(), -EPROTO);
	}
	return false;
}

static void handshake_timed_out(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	fail_handshake(context, "it took too long", -ETIMEDOUT);
}

/* ---- sending ---- */

static void finish_file(struct tls_stream *stream, int status)
{
	struct file file = stream->file;
	if (file.callbacks == NULL)
		return;
	size_t unsent = stream->output != NULL ? evbuffer_get_length(stream->output) : 0;
	uint64_t sent = file.read - (unsent < file.read ? unsent : file.read);
	close(file.fd);
	stream->file = (struct file){.fd = -1};
	file.callbacks->finished(NULL, status, sent, file.context);
}

/* The next piece of the file goes behind the bytes of the output. */
static int read_piece(struct tls_stream *stream)
{
	struct file *file = &stream->file;
	struct evbuffer_iovec space;
	size_t wanted = file->left < PIECE ? (size_t)file->left : PIECE;
	if (evbuffer_reserve_space(stream->output, (ev_ssize_t)wanted, &space, 1) < 1)
		return -ENOMEM;
	ssize_t length;
	do {
		length = pread(file->fd, space.iov_base, wanted, file->offset);
	} while (length < 0 && errno == EINTR);
	int status = length < 0 ? -errno : 0;
	if (length == 0)
		status = -EIO; /* it was truncated */
	space.iov_len = length > 0 ? (size_t)length : 0;
	evbuffer_commit_space(stream->output, &space, 1);
	file->offset += (int64_t)space.iov_len;
	file->read += space.iov_len;
	file->left -= space.iov_len;
	return status;
}

/* The number of bytes; 0: it waits, or has failed. */
static size_t send_bytes(struct tls_stream *stream)
{
	size_t length = evbuffer_get_length(stream->output);
	if (length > RECORD_MAX)
		length = RECORD_MAX;
	const unsigned char *bytes = evbuffer_pullup(stream->output, (ev_ssize_t)length);
	if (bytes == NULL) {
		lose(stream, -ENOMEM);
		return 0;
	}
	ERR_clear_error();
	errno = 0;
	int result = SSL_write(stream->ssl, bytes, (int)length);
	if (result <= 0) {
		wait_or_fail(stream, result);
		return 0;
	}
	evbuffer_drain(stream->output, (size_t)result);
	return (size_t)result;
}

static size_t send_by_kernel(struct tls_stream *stream)
{
	struct file *file = &stream->file;
	size_t wanted = file->left < SENDFILE_MAX ? (size_t)file->left : SENDFILE_MAX;
	ERR_clear_error();
	errno = 0;
	ossl_ssize_t result = SSL_sendfile(stream->ssl, file->fd, file->offset, wanted, 0);
	if (result < 0) {
		wait_or_fail(stream, (int)result);
		return 0;
	}
	if (result == 0) {
		finish_file(stream, -EIO); /* it was truncated */
		return 0;
	}
	file->offset += result;
	file->read += (uint64_t)result;
	file->left -= (uint64_t)result;
	return (size_t)result;
}

/* False: the socket is full. A connection that is broken needs none. */
static bool say_close_notify(struct tls_stream *stream)
{
	if (stream->kernel)
		return close_notify_send(stream->fd) != -EAGAIN;
	ERR_clear_error();
	errno = 0;
	int result = SSL_shutdown(stream->ssl);
	bool full = result < 0 && SSL_get_error(stream->ssl, result) == SSL_ERROR_WANT_WRITE;
	ERR_clear_error();
	return !full;
}

/* The stream is empty. */
static void end_half(struct tls_stream *stream)
{
	if (!stream->said && stream->deadline == NULL && !say_close_notify(stream)) {
		wait_for(stream, stream->writable);
		return;
	}
	stream->said = true;
	if (!stream->shut)
		shutdown(stream->fd, SHUT_WR);
	stream->shut = true;
	if (stream->closing == CLOSING)
		lose(stream, 0);
}

/* Sends the next bytes. Their number; 0: nothing more goes now. */
static size_t send_next(struct tls_stream *stream)
{
	bool has_file = stream->file.callbacks != NULL;
	size_t length = evbuffer_get_length(stream->output);
	if (has_file && stream->file.left > 0 && !stream->kernel && length < RECORD_MAX) {
		int status = read_piece(stream);
		if (status < 0) {
			finish_file(stream, status);
			return 0;
		}
		length = evbuffer_get_length(stream->output);
	}
	size_t sent = length > 0 || !has_file ? send_bytes(stream) : send_by_kernel(stream);
	stream->sent += sent;
	return sent;
}

static bool has_output(const struct tls_stream *stream)
{
	return evbuffer_get_length(stream->output) > 0 || stream->file.left > 0;
}

static void write_output(struct tls_stream *stream)
{
	size_t turn = 0;
	while (has_output(stream) && turn < TURN) {
		size_t sent = send_next(stream);
		if (sent == 0 || stream->freed || stream->lost)
			return;
		turn += sent;
	}
	if (has_output(stream)) {
		wait_for(stream, stream->writable);
		return;
	}
	finish_file(stream, 0);
	if (!stream->freed && stream->producer != NULL)
		stream->producer->resume_producing(stream->producer_context);
	if (!stream->freed && !stream->lost && stream->closing != OPEN && !has_output(stream))
		end_half(stream);
}

/* ---- receiving ---- */

/* OpenSSL reports the end of the connection as a close_notify. If the client has our end, it needs not send its own. */
static void note_end(struct tls_stream *stream)
{
	stream->input_over = true;
	stream->truncated = !stream->shut && BIO_eof(SSL_get_rbio(stream->ssl));
	if (stream->truncated)
		count(stream, ANSWER_TLS_TRUNCATED);
}

/* False: nothing more comes now. */
static bool read_record(struct tls_stream *stream)
{
	unsigned char bytes[RECORD_MAX];
	int result;
	do {
		ERR_clear_error();
		errno = 0;
		result = SSL_read(stream->ssl, bytes, sizeof(bytes));
	} while (result <= 0 && SSL_get_error(stream->ssl, result) == SSL_ERROR_WANT_READ &&
	         turn_to_socket(stream->ssl));
	if (result > 0 && evbuffer_add(stream->input, bytes, (size_t)result) == 0)
		return true;
	if (result > 0)
		lose(stream, -ENOMEM);
	else if (SSL_get_error(stream->ssl, result) == SSL_ERROR_ZERO_RETURN)
		note_end(stream);
	else
		wait_or_fail(stream, result);
	return false;
}

static void read_input(struct tls_stream *stream)
{
	unsigned int records = 0;
	while (records < RECORDS && read_record(stream))
		records++;
	bool over = stream->input_over;
	if (records > 0)
		stream->protocol->data_received(NULL, stream->input, stream->context);
	if (!stream->freed && over)
		stream->protocol->read_connection_lost(NULL, stream->context);
	/* The protocol gives up if the rest is no whole request. */
	if (!stream->freed && stream->truncated && stream->closing == CLOSING &&
	    evbuffer_get_length(stream->input) > 0)
		program_log("%s: the client ended in a request, without a close_notify", stream->name);
	/* OpenSSL may hold more, which no event reports. */
	if (records == RECORDS && !stream->freed && !stream->paused && !stream->lost)
		event_active(stream->readable, EV_READ, 0);
}

bool tls_stream_is_drained(const struct tls_stream *stream)
{
	return evbuffer_get_length(stream->input) == 0 && !SSL_has_pending(stream->ssl) &&
	       BIO_pending(SSL_get_rbio(stream->ssl)) == 0 && socket_is_drained(stream->fd);
}

void tls_stream_pause_reading(struct tls_stream *stream)
{
	stream->paused = true;
	if (stream->deadline == NULL && !stream->lost)
		event_del(stream->readable);
}

void tls_stream_resume_reading(struct tls_stream *stream)
{
	stream->paused = false;
	if (!stream->lost)
		event_active(stream->readable, EV_READ, 0);
}

/* ---- the loop ---- */

static void enter(struct tls_stream *stream)
{
	stream->depth++;
}

static void leave(struct tls_stream *stream)
{
	stream->depth--;
	if (stream->freed)
		free_memory(stream);
}

/* Does all that can be done now. */
static void advance(struct tls_stream *stream)
{
	if (stream->freed || stream->lost || !shake(stream))
		return;
	write_output(stream);
	if (!stream->freed && !stream->lost && !stream->paused && !stream->input_over)
		read_input(stream);
}

static void became_readable(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	struct tls_stream *stream = context;
	enter(stream);
	if ((what & EV_TIMEOUT) != 0)
		tls_stream_lose(stream);
	else
		advance(stream);
	leave(stream);
}

static void became_writable(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	struct tls_stream *stream = context;
	enter(stream);
	if ((what & EV_TIMEOUT) != 0)
		lose(stream, -ETIMEDOUT);
	else
		advance(stream);
	leave(stream);
}

static void run_later(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct tls_stream *stream = context;
	enter(stream);
	if (stream->freed) {
		finish_file(stream, -ECANCELED);
	} else if (stream->lost) {
		finish_file(stream, stream->reason != 0 ? stream->reason : -ECONNABORTED);
		if (!stream->freed && !stream->notified) {
			stream->notified = true;
			stream->protocol->connection_lost(NULL, stream->reason, stream->context);
		}
	} else if (!stream->made) {
		stream->made = true;
		stream->protocol->connection_made(NULL, stream->context);
		advance(stream);
	}
	leave(stream);
}

/* ---- the calls ---- */

struct evbuffer *tls_stream_input(struct tls_stream *stream)
{
	return stream->input;
}

static void write_later(struct tls_stream *stream)
{
	if (!stream->lost)
		event_active(stream->writable, EV_WRITE, 0);
}

int tls_stream_write(struct tls_stream *stream, const void *bytes, size_t length)
{
	if (evbuffer_add(stream->output, bytes, length) < 0)
		return -ENOMEM;
	write_later(stream);
	return 0;
}

int tls_stream_write_buffer(struct tls_stream *stream, struct evbuffer *out)
{
	if (evbuffer_add_buffer(stream->output, out) < 0)
		return -ENOMEM;
	write_later(stream);
	return 0;
}

int tls_stream_send_file(struct tls_stream *stream, int fd, int64_t offset, uint64_t length,
                         const struct ferry_file_callbacks *callbacks, void *context)
{
	if (stream->file.callbacks != NULL)
		return -EBUSY;
	stream->file = (struct file){
	    .fd = fd, .offset = offset, .left = length, .callbacks = callbacks, .context = context};
	write_later(stream);
	return 0;
}

int tls_stream_set_producer(struct tls_stream *stream,
                            const struct ferry_producer_callbacks *callbacks, void *context)
{
	stream->producer = callbacks;
	stream->producer_context = context;
	if (callbacks != NULL)
		write_later(stream);
	return 0;
}

void tls_stream_lose_write(struct tls_stream *stream)
{
	if (stream->closing == OPEN)
		stream->closing = CLOSING_WRITE;
	write_later(stream);
}

void tls_stream_lose(struct tls_stream *stream)
{
	stream->closing = CLOSING;
	write_later(stream);
}

void tls_stream_abort(struct tls_stream *stream)
{
	setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
	           sizeof(struct linger));
	lose(stream, -ECONNABORTED);
}

uint64_t tls_stream_bytes_sent(const struct tls_stream *stream)
{
	return stream->sent;
}
