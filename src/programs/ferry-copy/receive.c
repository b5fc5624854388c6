/* Receives a file from "ferry-copy send", with a progress bar. The bytes go to the disk as they arrive,
 * and no more are read from the socket before: a slow disk slows the sender down. */

#include "programs/ferry-copy/receive.h"

#include "programs/ferry-copy/frame.h"
#include "programs/ferry-copy/part_file.h"
#include "programs/ferry-copy/peer.h"
#include "programs/ferry-copy/progress.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

static const char usage[] =
    "usage: ferry-copy receive [options] ADDRESS [DIRECTORY]\n"
    "Receives a file from the \"ferry-copy send\" that connects to ADDRESS, which is\n"
    "unix:PATH, @NAME or tcp:HOST:PORT, with numbers for HOST and PORT (0: a free\n"
    "one), and puts it into DIRECTORY (.) under the name that the sender gives it.\n"
    "\n"
    "  --listen       listen at ADDRESS for the sender (the default), and print\n"
    "                 \"listening ADDRESS\"\n"
    "  --connect      connect to ADDRESS, where the sender listens\n"
    "  --replace      replace the file if it exists already\n"
    "  --limit BYTES  the most bytes a second\n"
    "  --timeout SECONDS\n"
    "                 give up without progress for this time (60); 0: never. A copy\n"
    "                 of the standard input waits for its source without a limit\n"
    "  --help         show this\n"
    "\n"
    "An incomplete file has another name, which ends in \".part\"; the next attempt\n"
    "resumes it.\n"
    "Exit status: 0 the whole file was received, 1 it was not, 2 wrong usage.\n";

/* The time for which a refused sender may take to read the reason, while its bytes are dropped. */
static const struct timeval linger_timeout = {.tv_sec = 5};

enum state {
	MEETING,   /* waits for the offer */
	STARTING,  /* waits for the announcement of the content */
	RECEIVING, /* the bytes, and the END frame */
	LINGERING, /* until the sender has read the reason: a close with unread input would reset */
	OVER
};

struct receiver {
	struct peer peer; /* the first member: callbacks get its address */
	bool replace;
	int directory;
	struct frame offer;
	struct part_file part;
	enum state state;
	struct event *deadline;
	struct progress progress;
};

/* ---- giving up ---- */

static void linger_timed_out(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct receiver *receiver = context;
	ferry_transport_abort_connection(receiver->peer.transport);
}

static int start_lingering(struct receiver *receiver)
{
	receiver->deadline = evtimer_new(receiver->peer.base, linger_timed_out, receiver);
	if (receiver->deadline == NULL || event_add(receiver->deadline, &linger_timeout) < 0)
		return -ENOMEM;
	return ferry_transport_lose_write_connection(receiver->peer.transport);
}

/* Gives the reason to the user and to the sender. */
static void refuse_sender(struct receiver *receiver, const char *why)
{
	struct frame stop = {.type = FRAME_STOP};
	peer_is_introduced(&receiver->peer);
	receiver->state = LINGERING;
	progress_stop(&receiver->progress);
	program_log("%s: %s", receiver->offer.text[0] != '\0' ? receiver->offer.text : "no file", why);
	(void)snprintf(stop.text, sizeof(stop.text), "%s", why);
	if (frame_write(receiver->peer.transport, &stop) < 0 || start_lingering(receiver) < 0)
		ferry_transport_abort_connection(receiver->peer.transport);
}

/* ---- the file ---- */

/* Whether the input is the END frame alone, with the size that has arrived. */
static bool is_whole(const struct receiver *receiver, struct evbuffer *input)
{
	struct frame end;
	return frame_take(input, &end) == 1 && end.type == FRAME_END &&
	       end.size == receiver->part.size && evbuffer_get_length(input) == 0 &&
	       (receiver->offer.size == FRAME_NO_SIZE || receiver->offer.size == end.size);
}

static void finish_file(struct receiver *receiver, struct ferry_transport *transport)
{
	struct frame done = {.type = FRAME_DONE, .size = receiver->part.size};
	char summary[120];
	int status = part_file_finish(&receiver->part, receiver->replace);
	if (status < 0) {
		refuse_sender(receiver, strerror(-status));
		return;
	}
	receiver->state = OVER;
	receiver->peer.succeeded = true;
	progress_stop(&receiver->progress);
	progress_summary(&receiver->progress, summary, sizeof(summary));
	program_log("%s: received %s", receiver->part.name, summary);
	/* The file is complete, whether or not the sender gets this. */
	(void)frame_write(transport, &done);
	ferry_transport_lose_connection(transport);
}

/* Writes the bytes that certainly belong to the file. The last bytes may be the END frame, and stay in
 * the input. */
static void receive_bytes(struct receiver *receiver, struct evbuffer *input)
{
	struct part_file *part = &receiver->part;
	size_t length = evbuffer_get_length(input);
	uint64_t room = receiver->offer.size - part->size; /* huge if the size is not known */
	if (length <= FRAME_HEADER_SIZE)
		return;
	length -= FRAME_HEADER_SIZE;
	if (length > room) {
		refuse_sender(receiver, "more bytes arrive than were announced");
		return;
	}
	int status = part_file_write(part, input, length);
	if (status < 0) {
		refuse_sender(receiver, strerror(-status));
		return;
	}
	progress_update(&receiver->progress, part->size);
}

/* ---- frames of the sender ---- */

static void handle_offer(struct receiver *receiver, struct ferry_transport *transport,
                         const struct frame *offer)
{
	peer_is_introduced(&receiver->peer);
	if (!frame_name_is_fine(offer->text)) {
		refuse_sender(receiver, "the name is not allowed for a file here");
		return;
	}
	receiver->offer = *offer;
	int status = part_file_open(&receiver->part, receiver->directory, offer, receiver->replace);
	if (status < 0) {
		refuse_sender(receiver, strerror(-status));
		return;
	}
	struct frame start = {.type = FRAME_START, .size = offer->size, .offset = receiver->part.size};
	receiver->state = STARTING;
	status = frame_write(transport, &start);
	if (status < 0)
		refuse_sender(receiver, strerror(-status));
}

static void handle_content(struct receiver *receiver, const struct frame *content)
{
	if (content->size != receiver->offer.size || content->offset != receiver->part.size) {
		refuse_sender(receiver, "the content differs from the offer");
		return;
	}
	receiver->state = RECEIVING;
	if (receiver->offer.size == FRAME_NO_SIZE)
		peer_pauses(&receiver->peer);
	progress_start(&receiver->progress, receiver->peer.base, receiver->offer.text,
	               receiver->part.size, receiver->offer.size);
}

static void handle_frame(struct receiver *receiver, struct ferry_transport *transport,
                         const struct frame *frame)
{
	if (receiver->state == MEETING && frame->type == FRAME_OFFER)
		handle_offer(receiver, transport, frame);
	else if (receiver->state == STARTING && frame->type == FRAME_CONTENT)
		handle_content(receiver, frame);
	else
		refuse_sender(receiver, "the other end is not a \"ferry-copy send\" of this version");
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct receiver *receiver = context;
	struct frame frame;
	int taken = 1;
	if (receiver->state == STARTING || receiver->offer.size != FRAME_NO_SIZE)
		peer_moves(&receiver->peer);
	while (taken > 0 && (receiver->state == MEETING || receiver->state == STARTING)) {
		taken = frame_take(input, &frame);
		if (taken > 0)
			handle_frame(receiver, transport, &frame);
		else if (taken < 0)
			refuse_sender(receiver, "the other end is not a \"ferry-copy send\" of this version");
	}
	if (receiver->state == RECEIVING)
		receive_bytes(receiver, input);
	if (receiver->state == LINGERING)
		evbuffer_drain(input, evbuffer_get_length(input));
}

static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	struct receiver *receiver = context;
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));
	if (receiver->state == RECEIVING && is_whole(receiver, input))
		finish_file(receiver, transport);
	else /* connection_lost prints the reason */
		ferry_transport_lose_connection(transport);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct receiver *receiver = context;
	if (receiver->state < LINGERING) {
		progress_stop(&receiver->progress);
		program_log(
		    "%s: %s", receiver->peer.address,
		    peer_loss(&receiver->peer, reason, "the sender has disconnected before the end"));
	}
	receiver->state = OVER;
	peer_is_over(&receiver->peer);
}

static int receiver_connected(struct peer *peer, struct ferry_transport *transport)
{
	static const struct ferry_protocol protocol = {.data_received = data_received,
	                                               .read_connection_lost = read_connection_lost,
	                                               .connection_lost = connection_lost};
	return ferry_transport_set_protocol(transport, &protocol, peer);
}

/* Keeps the part of an incomplete file, and prints its name. */
static void receiver_ended(struct peer *peer)
{
	struct receiver *receiver = (struct receiver *)peer;
	struct part_file *part = &receiver->part;
	progress_stop(&receiver->progress);
	if (part->fd >= 0 && part->size > 0)
		program_log("%s: %llu bytes are in %s", part->name, (unsigned long long)part->size,
		            part->part_name);
	part_file_close(part);
	if (receiver->deadline != NULL)
		event_free(receiver->deadline);
}

/* ---- from start to end ---- */

/* 0: run. Positive: the exit status, after a message. -1: --help was answered. */
static int read_receive_arguments(struct receiver *receiver, int argc, char **argv)
{
	static const struct option table[] = {
	    PEER_OPTIONS, {"replace", no_argument, NULL, 'R'}, {NULL, 0, NULL, 0}};
	int option;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'R') {
			receiver->replace = true;
		} else if (option == 'h') {
			fputs(usage, stdout);
			return -1;
		} else if (!peer_option(&receiver->peer, option)) {
			return 2;
		}
	}
	if (argc - optind != 1 && argc - optind != 2) {
		fputs(usage, stderr);
		return 2;
	}
	receiver->peer.address = argv[optind];
	const char *path = argc - optind == 2 ? argv[optind + 1] : ".";
	receiver->directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (receiver->directory < 0) {
		program_log("%s: %s", path, strerror(errno));
		return EXIT_FAILURE;
	}
	return 0;
}

int receive_run(int argc, char **argv)
{
	struct receiver receiver = {.peer = {.listens = true,
	                                     .timeout = PEER_TIMEOUT,
	                                     .connected = receiver_connected,
	                                     .ended = receiver_ended},
	                            .part = {.fd = -1},
	                            .directory = -1};
	int result = read_receive_arguments(&receiver, argc, argv);
	if (result == 0) {
		program_print_ferry_log();
		/* EFBIG of write(2) in the place of a signal. */
		signal(SIGXFSZ, SIG_IGN);
		result = peer_run(&receiver.peer);
	}
	if (receiver.directory >= 0)
		close(receiver.directory);
	return result < 0 ? EXIT_SUCCESS : result;
}
