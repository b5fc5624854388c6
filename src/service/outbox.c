#include "service/outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "ferry/service_manager.h"
#include "util/log.h"
#include "util/queue.h"

/* The time between two attempts. */
static const struct timeval interval = {.tv_usec = 20000};

struct letter {
	STAILQ_ENTRY(letter) link;
	char *text;
	size_t count;
	int fds[]; /* duplicates */
};

struct outbox {
	struct event_base *base;
	struct event *again;
	STAILQ_HEAD(letter_list, letter) letters;
	size_t waiting;
	int fd;
	socklen_t address_length;
	struct sockaddr_un address;
};

static void free_letter(struct letter *letter)
{
	for (size_t i = 0; i < letter->count; i++)
		close(letter->fds[i]);
	free(letter->text);
	free(letter);
}

static int make_letter(struct letter **out, const char *text, const int *fds, size_t count)
{
	struct letter *letter = malloc(sizeof(*letter) + count * sizeof(letter->fds[0]));
	if (letter == NULL)
		return -ENOMEM;
	letter->count = 0;
	letter->text = strdup(text);
	int status = letter->text != NULL ? 0 : -ENOMEM;
	for (size_t i = 0; i < count && status == 0; i++) {
		const int duplicate = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (duplicate < 0)
			status = -errno;
		else
			letter->fds[letter->count++] = duplicate;
	}
	if (status != 0)
		free_letter(letter);
	else
		*out = letter;
	return status;
}

static int send_now(struct outbox *outbox, const char *text, const int *fds, size_t count)
{
	struct iovec vector = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr message = {.msg_name = &outbox->address,
	                         .msg_namelen = outbox->address_length,
	                         .msg_iov = &vector,
	                         .msg_iovlen = 1};
	union ancillary_output room;
	ssize_t sent;

	if (count > 0)
		ancillary_attach(&message, &room, fds, count);
	do {
		sent = sendmsg(outbox->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

/* The kernel has no room at the moment. */
static bool is_shortage(int status)
{
	return status == -EAGAIN || status == -ENOBUFS || status == -ENOMEM || status == -ETOOMANYREFS;
}

void outbox_flush(struct outbox *outbox)
{
	struct letter *letter;

	while ((letter = STAILQ_FIRST(&outbox->letters)) != NULL) {
		const int status = send_now(outbox, letter->text, letter->fds, letter->count);
		if (is_shortage(status))
			break;
		if (status != 0)
			log_line(FERRY_LOG_WARNING, "a message to the service manager is lost: %s",
			         strerror(-status));
		STAILQ_REMOVE_HEAD(&outbox->letters, link);
		outbox->waiting--;
		free_letter(letter);
	}
}

static void on_again(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct outbox *outbox = argument;

	outbox_flush(outbox);
	if (outbox->waiting == 0)
		event_del(outbox->again);
}

static int keep(struct outbox *outbox, const char *text, const int *fds, size_t count)
{
	struct letter *letter;

	if (outbox->waiting == FERRY_SERVICE_MANAGER_WAITING_MAX)
		return -ENOBUFS;
	const int status = make_letter(&letter, text, fds, count);
	if (status != 0)
		return status;
	if (outbox->waiting == 0 && event_add(outbox->again, &interval) < 0) {
		free_letter(letter);
		return -ENOMEM;
	}
	STAILQ_INSERT_TAIL(&outbox->letters, letter, link);
	outbox->waiting++;
	return 0;
}

int outbox_send(struct outbox *outbox, const char *text, const int *fds, size_t count)
{
	if (outbox->waiting > 0)
		return keep(outbox, text, fds, count);
	const int status = send_now(outbox, text, fds, count);
	return is_shortage(status) ? keep(outbox, text, fds, count) : status;
}

size_t outbox_count(const struct outbox *outbox)
{
	return outbox->waiting;
}

struct event_base *outbox_get_base(const struct outbox *outbox)
{
	return outbox->base;
}

int outbox_new(struct outbox **out, struct event_base *base, const struct sockaddr_un *address,
               socklen_t length)
{
	struct outbox *outbox = calloc(1, sizeof(*outbox));
	if (outbox == NULL)
		return -ENOMEM;
	outbox->base = base;
	outbox->address = *address;
	outbox->address_length = length;
	STAILQ_INIT(&outbox->letters);
	outbox->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int status = outbox->fd < 0 ? -errno : 0;
	outbox->again = event_new(base, -1, EV_PERSIST, on_again, outbox);
	if (status == 0 && outbox->again == NULL)
		status = -ENOMEM;
	if (status != 0)
		outbox_free(outbox);
	else
		*out = outbox;
	return status;
}

void outbox_free(struct outbox *outbox)
{
	struct letter *letter;

	if (outbox == NULL)
		return;
	while ((letter = STAILQ_FIRST(&outbox->letters)) != NULL) {
		STAILQ_REMOVE_HEAD(&outbox->letters, link);
		free_letter(letter);
	}
	if (outbox->again != NULL)
		event_free(outbox->again);
	if (outbox->fd >= 0)
		close(outbox->fd);
	free(outbox);
}
