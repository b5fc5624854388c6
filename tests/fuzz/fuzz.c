#include "fuzz.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/transport.h"
#include "message/wire.h"

enum { NUMBERS = 256, TRIES = 16 };

struct event_base *fuzz_base;
struct fuzz_sent *fuzz_sent;
static unsigned int open_before;

/* ---- the loop ---- */

/* Counts the open descriptors by one poll(2), which sets POLLNVAL for descriptors that are not
 * open. */
static unsigned int count_open(void)
{
	struct pollfd polled[NUMBERS];
	unsigned int count = 0;

	for (int i = 0; i < NUMBERS; i++)
		polled[i] = (struct pollfd){.fd = i};
	FUZZ_CHECK(poll(polled, NUMBERS, 0) >= 0);
	for (int i = 0; i < NUMBERS; i++)
		count += (polled[i].revents & POLLNVAL) == 0;
	return count;
}

void fuzz_begin(void)
{
	open_before = count_open();
	fuzz_base = event_base_new();
	FUZZ_CHECK(fuzz_base != NULL);
}

void fuzz_end(void)
{
	fuzz_turns(3); /* freed bufferevents are finalised by the loop */
	event_base_free(fuzz_base);
	fuzz_base = NULL;
	FUZZ_CHECK(count_open() == open_before);
}

void fuzz_turns(int turns)
{
	for (int i = 0; i < turns; i++)
		event_base_loop(fuzz_base, EVLOOP_NONBLOCK);
}

void fuzz_until(const bool *flag)
{
	while (!*flag)
		FUZZ_CHECK(event_base_loop(fuzz_base, EVLOOP_ONCE) == 0 || *flag);
}

/* ---- channels ---- */

void fuzz_pair(int fds[2])
{
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

struct ferry_transport *fuzz_transport(int fd)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(fuzz_base, fd, BEV_OPT_CLOSE_ON_FREE);

	FUZZ_CHECK(bev != NULL && ferry_transport_new(&transport, bev) == 0);
	return transport;
}

static void note_sent(const void *bytes, size_t length, size_t fd_count)
{
	struct fuzz_sent *sent = fuzz_sent;

	if (sent == NULL)
		return;
	FUZZ_CHECK(length <= sizeof(sent->bytes) - sent->length);
	if (fd_count > 0) {
		FUZZ_CHECK(sent->send_count < sizeof(sent->sends) / sizeof(sent->sends[0]));
		sent->sends[sent->send_count].at = sent->length;
		sent->sends[sent->send_count++].fd_count = fd_count;
	}
	memcpy(sent->bytes + sent->length, bytes, length);
	sent->length += length;
}

static bool may_go_on(int attempt)
{
	if (errno != EAGAIN && errno != ETOOMANYREFS)
		return false;
	fuzz_turns(1);
	return attempt < TRIES;
}

bool fuzz_send_fds(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FUZZ_FDS_MAX * sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd_count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
	}
	for (int attempt = 0; length > 0; attempt++) {
		ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent >= 0) {
			FUZZ_CHECK((size_t)sent == length);
			note_sent(bytes, length, fd_count);
			return true;
		}
		if (!may_go_on(attempt))
			return false;
	}
	return true;
}

bool fuzz_send(int socket, const void *bytes, size_t length, size_t fd_count)
{
	int fds[FUZZ_FDS_MAX] = {0};

	FUZZ_CHECK(fd_count <= FUZZ_FDS_MAX);
	for (size_t i = 0; i < fd_count; i++) {
		fds[i] = memfd_create("fuzz", MFD_CLOEXEC);
		FUZZ_CHECK(fds[i] >= 0);
	}
	bool sent = fuzz_send_fds(socket, bytes, length, fds, fd_count);
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	return sent;
}

static unsigned char *make_message(uint16_t type, const void *payload, size_t length,
                                   unsigned int declared)
{
	unsigned char *frame = malloc(MESSAGE_HEADER_SIZE + length);
	const struct message_header header = {false, type, (uint32_t)length, (uint16_t)declared};

	FUZZ_CHECK(frame != NULL);
	message_header_put(frame, &header);
	if (length > 0)
		memcpy(frame + MESSAGE_HEADER_SIZE, payload, length);
	return frame;
}

bool fuzz_send_message(int socket, uint16_t type, const void *payload, size_t length,
                       unsigned int declared, const int *fds, size_t fd_count)
{
	unsigned char *frame = make_message(type, payload, length, declared);
	bool sent = fuzz_send_fds(socket, frame, MESSAGE_HEADER_SIZE + length, fds, fd_count);

	free(frame);
	return sent;
}

/* Without room for descriptors the kernel closes them. */
static bool take(int socket, unsigned char *bytes, size_t length, int flags)
{
	int present = 0;

	FUZZ_CHECK(ioctl(socket, FIONREAD, &present) == 0);
	if ((size_t)present < length)
		return false;
	return length == 0 || recv(socket, bytes, length, MSG_DONTWAIT | flags) == (ssize_t)length;
}

bool fuzz_receive_message(int socket, struct fuzz_message *message)
{
	unsigned char frame[MESSAGE_HEADER_SIZE + sizeof(message->payload)];
	struct message_header header;

	if (!take(socket, frame, MESSAGE_HEADER_SIZE, MSG_PEEK))
		return false;
	FUZZ_CHECK(message_header_get(frame, &header) == NULL);
	FUZZ_CHECK(header.length <= sizeof(message->payload));
	if (!take(socket, frame, MESSAGE_HEADER_SIZE + header.length, MSG_WAITALL))
		return false;
	message->type = header.type;
	message->length = header.length;
	memcpy(message->payload, frame + MESSAGE_HEADER_SIZE, header.length);
	return true;
}

/* ---- a step of the script ---- */

static bool send_bytes(int socket, unsigned int how, struct fuzz_input *input)
{
	size_t length = fuzz_byte(input);
	const uint8_t *bytes = fuzz_bytes(input, &length);

	return fuzz_send(socket, bytes, length, length > 0 ? how & 3 : 0);
}

/* In two pieces, of which the first has the descriptors. */
static void send_message(int socket, unsigned int how, struct fuzz_input *input)
{
	uint16_t type = fuzz_byte(input);
	unsigned int fds = fuzz_byte(input);
	size_t length = fuzz_byte(input);
	const uint8_t *payload = fuzz_bytes(input, &length);

	unsigned char *frame = make_message(type, payload, length, fds & 15);
	size_t whole = MESSAGE_HEADER_SIZE + length;
	size_t first = how == 0 || how > whole ? whole : how;
	if (fuzz_send(socket, frame, first, (fds >> 4) & 7) && first < whole)
		fuzz_send(socket, frame + first, whole - first, 0);
	free(frame);
}

bool fuzz_peer_step(int socket, unsigned int step, struct fuzz_input *input)
{
	unsigned int how = step >> 3;

	switch (step & 7) {
	case 0:
		send_bytes(socket, how, input);
		return true;
	case 1:
		send_message(socket, how, input);
		return true;
	case 2:
		fuzz_turns(1);
		return true;
	case 3:
		shutdown(socket, SHUT_WR);
		return true;
	default:
		return false;
	}
}
