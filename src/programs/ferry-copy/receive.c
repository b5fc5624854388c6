/* Receives a file from "ferry-copy send", with a progress bar. Its bytes go to the disk as they come,
 * and no more are read from the socket before those are written: a slow disk holds the sender back. */

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
    "  --listen       wait there for the sender (the default), and print\n"
    "                 \"listening ADDRESS\"\n"
    "  --connect      the sender listens there\n"
    "  --replace      if the file is there already, replace it\n"
    "  --limit BYTES  at most so many a second\n"
    "  --help         show this\n"
    "\n"
    "Until all of it is there it has another name, which ends in \".part\"; the next\n"
    "attempt goes on from that.\n"
    "Exit status: 0 it is here as a whole, 1 it is not, 2 wrong usage.\n";

/* How long a sender may take to read why it is refused, while what it sends is dropped. */
static const struct timeval linger_timeout = {.tv_sec = 5};

enum state {
	MEETING,   /* for the offer */
	STARTING,  /* for the content to be announced */
	RECEIVING, /* the bytes, and what says that they are all */
	LINGERING, /* until the sender has read why not: closing with unread input would reset */
	OVER
};

struct receiver {
	struct peer peer; /* first: what the callbacks are given */
	bool replace;
	int directory;
	struct frame offer;
	struct part_file part;
	enum state state;
	struct event *deadline;
	struct progress progress;
};

/* ---- giving up ---- */

static void linger_no_longer(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct receiver *receiver = context;
	ferry_transport_abort_connection(receiver->peer.transport);
}

static int linger(struct receiver *receiver)
{
	receiver->deadline = evtimer_new(receiver->peer.base, linger_no_longer, receiver);
	if (receiver->deadline == NULL || event_add(receiver->deadline, &linger_timeout) < 0)
		return -ENOMEM;
	return ferry_transport_lose_write_connection(receiver->peer.transport);
}

/* Says why to the user and to the sender. */
static void fail(struct receiver *receiver, const char *why)
{
	struct frame stop = {.type = FRAME_STOP};
	receiver->state = LINGERING;
	progress_stop(&receiver->progress);
	program_log("%s: %s", receiver->offer.text[0] != '\0' ? receiver->offer.text : "no file", why);
	(void)snprintf(stop.text, sizeof(stop.text), "%s", why);
	if (frame_write(receiver->peer.transport, &stop) < 0 || linger(receiver) < 0)
		ferry_transport_abort_connection(receiver->peer.transport);
}

/* ---- the file ---- */

/* The last frame must be the end, and of as many bytes as came. */
static bool is_whole(const struct receiver *receiver, struct evbuffer *input)
{
	struct frame end;
	return frame_take(input, &end) == 1 && end.type == FRAME_END &&
	       end.size == receiver->part.size && evbuffer_get_length(input) == 0 &&
	       (receiver->offer.size == FRAME_NO_SIZE || receiver->offer.size == end.size);
}

static void finish(struct receiver *receiver, struct ferry_transport *transport)
{
	struct frame done = {.type = FRAME_DONE, .size = receiver->part.size};
	char summary[120];
	int status = part_file_finish(&receiver->part, receiver->replace);
	if (status < 0) {
		fail(receiver, strerror(-status));
		return;
	}
	receiver->state = OVER;
	receiver->peer.succeeded = true;
	progress_stop(&receiver->progress);
	progress_summary(&receiver->progress, summary, sizeof(summary));
	program_log("%s: received %s", receiver->part.name, summary);
	/* It is here, whether or not the sender hears of it. */
	(void)frame_write(transport, &done);
	ferry_transport_lose_connection(transport);
}

/* Writes what certainly belongs to the file: what may be the last frame stays where it is. */
static void receive(struct receiver *receiver, struct evbuffer *input)
{
	struct part_file *part = &receiver->part;
	size_t length = evbuffer_get_length(input);
	uint64_t room = receiver->offer.size - part->size; /* much, if the size is not known */
	if (length <= FRAME_HEADER_SIZE)
		return;
	length -= FRAME_HEADER_SIZE;
	if (length > room) {
		fail(receiver, "more comes than was announced");
		return;
	}
	int status = part_file_write(part, input, length);
	if (status < 0) {
		fail(receiver, strerror(-status));
		return;
	}
	progress_update(&receiver->progress, part->size);
}

/* ---- what the sender says ---- */

static void take_offer(struct receiver *receiver, struct ferry_transport *transport,
                       const struct frame *offer)
{
	if (!frame_name_is_fine(offer->text)) {
		fail(receiver, "a file may not have such a name here");
		return;
	}
	receiver->offer = *offer;
	int status = part_file_open(&receiver->part, receiver->directory, offer, receiver->replace);
	if (status < 0) {
		fail(receiver, strerror(-status));
		return;
	}
	struct frame start = {.type = FRAME_START, .size = offer->size, .offset = receiver->part.size};
	receiver->state = STARTING;
	status = frame_write(transport, &start);
	if (status < 0)
		fail(receiver, strerror(-status));
}

static void take_content(struct receiver *receiver, const struct frame *content)
{
	if (content->size != receiver->offer.size || content->offset != receiver->part.size) {
		fail(receiver, "something else comes than was offered");
		return;
	}
	receiver->state = RECEIVING;
	progress_start(&receiver->progress, receiver->peer.base, receiver->offer.text,
	               receiver->part.size, receiver->offer.size);
}

static void take_frame(struct receiver *receiver, struct ferry_transport *transport,
                       const struct frame *frame)
{
	if (receiver->state == MEETING && frame->type == FRAME_OFFER)
		take_offer(receiver, transport, frame);
	else if (receiver->state == STARTING && frame->type == FRAME_CONTENT)
		take_content(receiver, frame);
	else
		fail(receiver, "the other end is not a \"ferry-copy send\" of this version");
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct receiver *receiver = context;
	struct frame frame;
	int taken = 1;
	while (taken > 0 && (receiver->state == MEETING || receiver->state == STARTING)) {
		taken = frame_take(input, &frame);
		if (taken > 0)
			take_frame(receiver, transport, &frame);
		else if (taken < 0)
			fail(receiver, "the other end is not a \"ferry-copy send\" of this version");
	}
	if (receiver->state == RECEIVING)
		receive(receiver, input);
	if (receiver->state == LINGERING)
		evbuffer_drain(input, evbuffer_get_length(input));
}

static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	struct receiver *receiver = context;
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));
	if (receiver->state == RECEIVING && is_whole(receiver, input))
		finish(receiver, transport);
	else /* connection_lost says why */
		ferry_transport_lose_connection(transport);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct receiver *receiver = context;
	if (receiver->state < LINGERING) {
		progress_stop(&receiver->progress);
		program_log("%s: %s", receiver->peer.address,
		            reason != 0 ? strerror(-reason) : "the sender has disconnected before the end");
	}
	receiver->state = OVER;
	peer_is_over(&receiver->peer);
}

static int met(struct peer *peer, struct ferry_transport *transport)
{
	static const struct ferry_protocol protocol = {.data_received = data_received,
	                                               .read_connection_lost = read_connection_lost,
	                                               .connection_lost = connection_lost};
	return ferry_transport_set_protocol(transport, &protocol, peer);
}

/* What is left of a file that has not become whole. */
static void left(struct peer *peer)
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

/* 0 to go on, else the status to exit with after printing what is wrong; -1: after --help. */
static int read_arguments(struct receiver *receiver, int argc, char **argv)
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
	struct receiver receiver = {
	    .peer = {.listens = true, .met = met, .left = left}, .part = {.fd = -1}, .directory = -1};
	int result = read_arguments(&receiver, argc, argv);
	if (result == 0) {
		program_print_ferry_log();
		/* A file that gets too large for this process is an error as any other. */
		signal(SIGXFSZ, SIG_IGN);
		result = peer_run(&receiver.peer);
	}
	if (receiver.directory >= 0)
		close(receiver.directory);
	return result < 0 ? EXIT_SUCCESS : result;
}
