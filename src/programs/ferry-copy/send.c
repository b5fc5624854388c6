/* Sends a file to "ferry-copy receive", with a progress bar, and resumes an earlier attempt. The kernel
 * moves the bytes from the page cache, or from the pipe of the standard input, to the socket: they do
 * not enter this process. */

#include "programs/ferry-copy/send.h"

#include "programs/ferry-copy/frame.h"
#include "programs/ferry-copy/peer.h"
#include "programs/ferry-copy/progress.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <ferry/ferry.h>

static const char usage[] =
    "usage: ferry-copy send [options] ADDRESS FILE\n"
    "Sends FILE (-: the standard input) to the \"ferry-copy receive\" at ADDRESS, which\n"
    "is unix:PATH, @NAME or tcp:HOST:PORT, with numbers for HOST and PORT.\n"
    "\n"
    "  --connect      connect to ADDRESS, where the receiver listens (the default)\n"
    "  --listen       listen at ADDRESS for the receiver\n"
    "  --name NAME    the name of the file at the receiver (as FILE, or \"stdin\")\n"
    "  --copy         read the file and send the bytes, without zero-copy: for a file\n"
    "                 that is written to during the copy\n"
    "  --limit BYTES  the most bytes a second\n"
    "  --timeout SECONDS\n"
    "                 give up without progress for this time (60); 0: never. A copy\n"
    "                 of the standard input waits for its source without a limit\n"
    "  --help         show this\n"
    "\n"
    "Bytes of the same file that an earlier attempt has sent are not sent again.\n"
    "Exit status: 0 the whole file was received, 1 it was not, 2 wrong usage.\n";

enum state {
	OFFERING, /* waits for START */
	SENDING,  /* the file is in the stream */
	ENDING,   /* waits for DONE */
	OVER      /* the copy is complete, or has failed */
};

struct sender {
	struct peer peer; /* the first member: callbacks get its address */
	const char *path;
	struct frame offer;
	bool copy;
	int fd;
	enum state state;
	uint64_t offset;
	int method;
	struct progress progress;
};

/* Prints the reason, and ends the connection. */
__attribute__((format(printf, 2, 3))) static void fail_sender(struct sender *sender,
                                                              const char *format, ...)
{
	char why[300];
	va_list arguments;
	sender->state = OVER;
	progress_stop(&sender->progress);
	va_start(arguments, format);
	(void)vsnprintf(why, sizeof(why), format, arguments);
	va_end(arguments);
	program_log("%s: %s", sender->offer.text, why);
	ferry_transport_abort_connection(sender->peer.transport);
}

/* ---- the file ---- */

static void file_progress(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
                          void *context)
{
	(void)producer, (void)total;
	struct sender *sender = context;
	progress_update(&sender->progress, sender->offset + sent);
	if (sender->offer.size != FRAME_NO_SIZE)
		peer_moves(&sender->peer);
}

static void file_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	struct sender *sender = context;
	struct ferry_transport *transport = sender->peer.transport;
	struct frame end = {.type = FRAME_END, .size = sender->offset + sent};
	if (sender->state != SENDING)
		return;
	progress_update(&sender->progress, sender->offset + sent);
	sender->method = ferry_file_producer_get_method(producer);
	/* If the connection is lost, it takes no bytes, not even none. Then connection_lost prints the
	 * reason, which is not an error of the file. */
	if (status != 0 && ferry_transport_write(transport, NULL, 0) < 0)
		return;
	if (status == -EIO && end.size < sender->offer.size)
		fail_sender(sender, "it ended, or could not be read, after %llu bytes",
		            (unsigned long long)end.size);
	else if (status != 0)
		fail_sender(sender, "%s", strerror(-status));
	if (status != 0)
		return;

	sender->state = ENDING;
	peer_moves(&sender->peer);
	status = frame_write(transport, &end);
	if (status == 0)
		status = ferry_transport_lose_write_connection(transport);
	if (status < 0)
		fail_sender(sender, "%s", strerror(-status));
}

/* Sends the file from `offset` on: up to the announced size, or without one to its end. */
static int queue_file(struct sender *sender, struct ferry_transport *transport)
{
	static const struct ferry_file_callbacks callbacks = {.progress = file_progress,
	                                                      .finished = file_finished};
	int64_t offset = (int64_t)sender->offset;
	int64_t length = FERRY_TO_END;
	if (sender->offer.size != FRAME_NO_SIZE)
		length = (int64_t)(sender->offer.size - sender->offset);
	else if (lseek(sender->fd, 0, SEEK_CUR) >= 0) /* another process may have read a part */
		offset = FERRY_FILE_POSITION;
	int status =
	    ferry_transport_send_file(NULL, transport, sender->fd, FERRY_FD_TAKE, offset, length,
	                              sender->copy ? FERRY_FILE_COPY : 0, &callbacks, sender);
	if (status == 0)
		sender->fd = -1;
	return status;
}

static int start_sending(struct sender *sender, struct ferry_transport *transport)
{
	struct frame content = {
	    .type = FRAME_CONTENT, .size = sender->offer.size, .offset = sender->offset};
	sender->state = SENDING;
	if (sender->offer.size == FRAME_NO_SIZE)
		peer_pauses(&sender->peer);
	progress_start(&sender->progress, sender->peer.base, sender->offer.text, sender->offset,
	               sender->offer.size);
	int status = frame_write(transport, &content);
	return status < 0 ? status : queue_file(sender, transport);
}

/* ---- frames of the receiver ---- */

static void handle_start(struct sender *sender, struct ferry_transport *transport,
                         const struct frame *frame)
{
	bool fits = sender->offer.size != FRAME_NO_SIZE || frame->offset == 0;
	if (sender->state != OFFERING || frame->size != sender->offer.size || !fits) {
		fail_sender(sender, "the receiver starts a file that was not offered");
		return;
	}
	sender->offset = frame->offset;
	peer_is_introduced(&sender->peer);
	int status = start_sending(sender, transport);
	if (status < 0)
		fail_sender(sender, "%s", strerror(-status));
}

static void handle_done(struct sender *sender, struct ferry_transport *transport,
                        const struct frame *frame)
{
	static const char *const ways[] = {[FERRY_FILE_BY_SENDFILE] = "sendfile",
	                                   [FERRY_FILE_BY_SPLICE] = "splice",
	                                   [FERRY_FILE_BY_COPY] = "copy"};
	char summary[120];
	if (sender->state != ENDING || frame->size != sender->progress.now) {
		fail_sender(sender, "the receiver has completed another file");
		return;
	}
	sender->state = OVER;
	sender->peer.succeeded = true;
	progress_stop(&sender->progress);
	progress_summary(&sender->progress, summary, sizeof(summary));
	program_log("%s: sent %s, by %s", sender->offer.text, summary, ways[sender->method]);
	if (sender->offset > 0)
		program_log("%s: resumed after %llu bytes", sender->offer.text,
		            (unsigned long long)sender->offset);
	ferry_transport_lose_connection(transport);
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct sender *sender = context;
	struct frame frame;
	int taken;
	while (sender->state != OVER && (taken = frame_take(input, &frame)) != 0) {
		if (taken > 0 && frame.type == FRAME_START)
			handle_start(sender, transport, &frame);
		else if (taken > 0 && frame.type == FRAME_DONE)
			handle_done(sender, transport, &frame);
		else if (taken > 0 && frame.type == FRAME_STOP)
			fail_sender(sender, "refused by the receiver: %s", frame.text);
		else
			fail_sender(sender, "the other end is not a \"ferry-copy receive\" of this version");
	}
}

static void connection_made(struct ferry_transport *transport, void *context)
{
	struct sender *sender = context;
	int status = frame_write(transport, &sender->offer);
	if (status < 0)
		fail_sender(sender, "%s", strerror(-status));
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct sender *sender = context;
	if (sender->state != OVER) {
		progress_stop(&sender->progress);
		program_log("%s: %s", sender->peer.address,
		            peer_loss(&sender->peer, reason, "the receiver has disconnected"));
	}
	sender->state = OVER;
	peer_is_over(&sender->peer);
}

static int sender_connected(struct peer *peer, struct ferry_transport *transport)
{
	static const struct ferry_protocol protocol = {.connection_made = connection_made,
	                                               .data_received = data_received,
	                                               .connection_lost = connection_lost};
	return ferry_transport_set_protocol(transport, &protocol, peer);
}

static void sender_ended(struct peer *peer)
{
	struct sender *sender = (struct sender *)peer;
	progress_stop(&sender->progress);
	if (sender->fd >= 0)
		close(sender->fd);
}

/* ---- the source ---- */

static int open_source(const char *path)
{
	if (strcmp(path, "-") == 0)
		return fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

static uint64_t nanoseconds(const struct timespec *time)
{
	return (uint64_t)time->tv_sec * 1000000000U + (uint64_t)time->tv_nsec;
}

/* A copy can be resumed only if the file has a size; files of /proc have size 0. */
static int describe_source(struct sender *sender)
{
	struct stat status;
	sender->fd = open_source(sender->path);
	if (sender->fd < 0 || fstat(sender->fd, &status) < 0)
		return -errno;
	if (S_ISDIR(status.st_mode))
		return -EISDIR;
	sender->offer.size = FRAME_NO_SIZE;
	if (S_ISREG(status.st_mode) && status.st_size > 0 && strcmp(sender->path, "-") != 0) {
		sender->offer.size = (uint64_t)status.st_size;
		sender->offer.modified = nanoseconds(&status.st_mtim);
	}
	return 0;
}

static bool set_offered_name(struct sender *sender, const char *name)
{
	if (name == NULL) {
		const char *slash = strrchr(sender->path, '/');
		name = slash != NULL ? slash + 1 : sender->path;
		if (strcmp(name, "-") == 0)
			name = "stdin";
	}
	if (!frame_name_is_fine(name)) {
		program_log("'%s' cannot be the name of a file there: see --name", name);
		return false;
	}
	memcpy(sender->offer.text, name, strlen(name) + 1);
	return true;
}

/* 0: run. Positive: the exit status, after a message. -1: --help was answered. */
static int read_send_arguments(struct sender *sender, int argc, char **argv)
{
	static const struct option table[] = {PEER_OPTIONS,
	                                      {"name", required_argument, NULL, 'n'},
	                                      {"copy", no_argument, NULL, 'C'},
	                                      {NULL, 0, NULL, 0}};
	const char *name = NULL;
	int option;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'n') {
			name = optarg;
		} else if (option == 'C') {
			sender->copy = true;
		} else if (option == 'h') {
			fputs(usage, stdout);
			return -1;
		} else if (!peer_option(&sender->peer, option)) {
			return 2;
		}
	}
	if (argc - optind != 2) {
		fputs(usage, stderr);
		return 2;
	}
	sender->peer.address = argv[optind];
	sender->path = argv[optind + 1];
	return set_offered_name(sender, name) ? 0 : 2;
}

int send_run(int argc, char **argv)
{
	struct sender sender = {
	    .peer = {.timeout = PEER_TIMEOUT, .connected = sender_connected, .ended = sender_ended},
	    .offer = {.type = FRAME_OFFER},
	    .fd = -1};
	int result = read_send_arguments(&sender, argc, argv);
	if (result != 0)
		return result < 0 ? EXIT_SUCCESS : result;
	program_print_ferry_log();
	int status = describe_source(&sender);
	if (status < 0) {
		program_log("%s: %s", sender.path, strerror(-status));
		return EXIT_FAILURE;
	}
	return peer_run(&sender.peer);
}
