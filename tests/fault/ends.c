#include "ends.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "seen_calls.h"

struct end near_end, far_end;

void close_quietly(int fd)
{
	bool was_armed = disarm();
	if (fd >= 0)
		close(fd);
	if (was_armed)
		arm();
}

static void on_made(struct ferry_transport *transport, void *context)
{
	struct end *end = context;
	(void)transport;
	bool is_second = end->made++ > 0;
	once(&is_second);
}

static void on_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct end *end = context;
	(void)transport;
	end->bytes += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct end *end = context;
	(void)transport;
	end->fds++;
	close_quietly(fd);
}

static void on_fds_lost(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	told(-1);
}

static void on_half_end(struct ferry_transport *transport, void *context)
{
	struct end *end = context;
	(void)transport;
	once(&end->half_ended);
	called(ferry_transport_lose_connection(transport));
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct end *end = context;
	once(&end->lost);
	told(reason);
	end->transport = NULL;
	ferry_transport_free(transport);
}

static const struct ferry_protocol protocol = {
    .connection_made = on_made,
    .data_received = on_data,
    .file_descriptor_received = on_fd,
    .file_descriptors_lost = on_fds_lost,
    .read_connection_lost = on_half_end,
    .connection_lost = on_lost,
};

struct ferry_transport *open_end(struct event_base *loop, int fd)
{
	struct ferry_transport *transport = NULL;
	called(make_swept_transport(&transport, loop, fd));
	return transport;
}

bool count_at(struct end *end)
{
	return called(ferry_transport_set_protocol(end->transport, &protocol, end)) == 0;
}

static struct ferry_transport *open_pipes(struct event_base *loop, int from, int to)
{
	struct ferry_transport *transport = NULL;
	if (called(ferry_transport_new_pipes(&transport, loop, from, to)) < 0) {
		close_quietly(from);
		close_quietly(to);
	}
	return transport;
}

bool open_ends(struct event_base *loop, int kind)
{
	int there[2], back[2];

	memset(&near_end, 0, sizeof(near_end));
	memset(&far_end, 0, sizeof(far_end));
	disarm();
	if (kind == ENDS_PIPES) {
		make_pipe(there);
		make_pipe(back);
	} else {
		make_pair(kind == ENDS_UNIX ? PAIR_UNIX : PAIR_TCP, there);
	}
	arm();
	near_end.transport =
	    kind == ENDS_PIPES ? open_pipes(loop, back[0], there[1]) : open_end(loop, there[0]);
	far_end.transport =
	    kind == ENDS_PIPES ? open_pipes(loop, there[0], back[1]) : open_end(loop, there[1]);
	return near_end.transport != NULL && far_end.transport != NULL && count_at(&near_end) &&
	       count_at(&far_end);
}

bool ends_are_lost(void)
{
	return near_end.lost && far_end.lost;
}

bool ends_have(size_t bytes, unsigned int fds)
{
	return ends_are_lost() && far_end.bytes == bytes && far_end.fds == fds;
}

int make_listening(void)
{
	disarm();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bind(fd, &(struct sockaddr){.sa_family = AF_UNIX},
	     sizeof(sa_family_t)); /* a name by the kernel */
	listen(fd, 5);
	arm();
	return fd;
}

void free_ends(void)
{
	ferry_transport_free(near_end.transport);
	ferry_transport_free(far_end.transport);
	near_end.transport = far_end.transport = NULL;
}
