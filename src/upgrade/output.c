#include "upgrade/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "ferry/upgrade.h"
#include "kernel/sigpipe.h"

/* A pipe that is writable has room for PIPE_BUF bytes, 4096. */
enum { CHUNK_SIZE = 4096, CHUNKS_PER_WAKE_UP = 16 };

struct output {
	struct event *event;
	int pipe, to;
	bool cut; /* earlier bytes were dropped from `text` */
	size_t length;
	char text[FERRY_UPGRADE_OUTPUT_MAX + 1];
};

int output_make_pipe(int fds[2])
{
	return pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

static void keep(struct output *output, const char *bytes, size_t length)
{
	const size_t room = FERRY_UPGRADE_OUTPUT_MAX;
	const size_t excess = output->length + length > room ? output->length + length - room : 0;

	/* A chunk is no larger than the room. */
	memmove(output->text, output->text + excess, output->length - excess);
	output->length -= excess;
	memcpy(output->text + output->length, bytes, length);
	output->length += length;
	output->cut = output->cut || excess > 0;
}

static void pass_on(const struct output *output, const char *bytes, size_t length)
{
	struct pollfd to = {.fd = output->to, .events = POLLOUT};
	struct sigpipe_guard guard;

	if (poll(&to, 1, 0) <= 0 || (to.revents & POLLOUT) == 0)
		return;
	sigpipe_block(&guard);
	const ssize_t written = write(output->to, bytes, length);
	sigpipe_restore(&guard, written < 0 && errno == EPIPE);
}

static void end(struct output *output)
{
	event_free(output->event);
	close(output->pipe);
	output->event = NULL;
	output->pipe = -1;
}

/* Whether there may be more. */
static bool read_chunk(struct output *output)
{
	char bytes[CHUNK_SIZE];
	ssize_t length;

	do {
		length = read(output->pipe, bytes, sizeof(bytes));
	} while (length < 0 && errno == EINTR);
	if (length > 0) {
		keep(output, bytes, (size_t)length);
		pass_on(output, bytes, (size_t)length);
	} else if (length == 0 || errno != EAGAIN) {
		end(output);
	}
	return length > 0;
}

void output_read(struct output *output)
{
	for (int i = 0; i < CHUNKS_PER_WAKE_UP && output->pipe >= 0 && read_chunk(output); i++)
		;
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	output_read(argument);
}

/* A first line that was cut is left out, unless there is no other. */
const char *output_get_text(struct output *output)
{
	output->text[output->length] = '\0';
	for (size_t i = 0; i < output->length; i++)
		if (output->text[i] == '\0')
			output->text[i] = '?';
	const char *end = output->cut ? strchr(output->text, '\n') : NULL;
	return end != NULL && end[1] != '\0' ? end + 1 : output->text;
}

int output_new(struct output **out, struct event_base *base, int pipe, int to)
{
	struct output *output = calloc(1, sizeof(*output));
	if (output == NULL) {
		close(pipe);
		return -ENOMEM;
	}
	output->pipe = pipe;
	output->to = to;
	output->event = event_new(base, pipe, EV_READ | EV_PERSIST, on_readable, output);
	if (output->event == NULL || event_add(output->event, NULL) < 0) {
		output_free(output);
		return -ENOMEM;
	}
	*out = output;
	return 0;
}

void output_free(struct output *output)
{
	if (output == NULL)
		return;
	if (output->event != NULL)
		event_free(output->event);
	if (output->pipe >= 0)
		close(output->pipe);
	free(output);
}
