/* Short pieces for the reference: transports. A caller passes what a piece does not make itself. */

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include <ferry/ferry.h>

int serve_standard_input(struct event_base *base, const struct ferry_protocol *protocol)
{
	struct ferry_transport *transport;
	int status = ferry_transport_new_pipes(&transport, base, STDIN_FILENO, STDOUT_FILENO);

	if (status < 0)
		return status; /* both descriptors are still the caller's */
	status = ferry_transport_set_protocol(transport, protocol, NULL);
	if (status < 0)
		ferry_transport_free(transport);
	return status;
}

/* The connection goes on as a plain bufferevent, with the callbacks that it had before. */
struct bufferevent *give_back(struct ferry_transport *transport)
{
	struct bufferevent *bev = NULL;

	if (ferry_transport_detach(transport, &bev) == -EBUSY)
		fprintf(stderr, "descriptors or files are still queued\n");
	return bev; /* NULL: the transport still has it */
}

/* The TLS library has given its keys to the kernel: the transport asks the kernel again. */
int handshake_is_done(struct ferry_transport *transport)
{
	struct ferry_transport_tls tls;
	int fd = bufferevent_getfd(ferry_transport_get_bufferevent(transport));

	if (ferry_transport_set_socket(transport, fd) < 0 ||
	    ferry_transport_get_tls(transport, &tls) < 0)
		return -1; /* the library has to encrypt and decrypt by itself */
	printf("TLS 1.%d\n", (tls.version & 0xff) - 1);
	return ferry_transport_set_tls_truncation(transport,
	                                          true); /* HTTP knows where a message ends */
}

static void descriptors_lost(struct ferry_transport *transport, void *context)
{
	(void)context;
	fprintf(stderr, "out of descriptors: the peer has to send them again\n");
	ferry_transport_write(transport, "again\n", 6);
}

int survive_a_shortage(struct ferry_transport *transport)
{
	return ferry_transport_set_fds_lost_cb(transport, descriptors_lost, NULL);
}

/* Many descriptors, and the peer does not care before which byte one arrives. */
int send_many(struct ferry_transport *transport)
{
	int status = ferry_transport_set_fd_coalescing(transport, true);

	if (status == 0)
		status = ferry_transport_set_max_fds_per_message(transport, 253);
	if (status == 0)
		status =
		    ferry_transport_set_fd_buffer(transport, 512, 4096); /* pause at 512, refuse at 4096 */
	return status;
}

/* A protocol in which a descriptor belongs to the byte that it was sent with. */
int tie_descriptors_to_bytes(struct ferry_transport *transport)
{
	int status = ferry_transport_set_fd_positions(transport, FERRY_FD_EXACT);

	if (status == -ENOTSUP)
		fprintf(stderr, "this kernel does not show where descriptors are\n");
	return status;
}

/* A peer that does not read costs at most a megabyte. */
int limit_output(struct ferry_transport *transport)
{
	bufferevent_setwatermark(ferry_transport_get_bufferevent(transport), EV_WRITE, 0, 262144);
	return ferry_transport_set_byte_limit(transport, 1048576);
}

void exit_when_sent(struct ferry_transport *transport)
{
	const struct timeval two_seconds = {.tv_sec = 2};
	int status = ferry_transport_flush(transport, &two_seconds);

	_exit(status == 0 ? 0 : 1); /* -ETIMEDOUT: the rest is dropped */
}

/* All of them together take a megabyte a second. The group lives as long as the transports. */
struct bufferevent_rate_limit_group *share_a_limit(struct ferry_transport *const transports[],
                                                   size_t count, struct event_base *base)
{
	const struct timeval second = {.tv_sec = 1};
	struct ev_token_bucket_cfg *rate =
	    ev_token_bucket_cfg_new(1 << 20, 1 << 20, 1 << 20, 1 << 20, &second);
	if (rate == NULL)
		return NULL;

	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, rate);
	for (size_t i = 0; group != NULL && i < count; i++)
		ferry_transport_set_rate_limit_group(transports[i], group);
	ev_token_bucket_cfg_free(rate); /* the group has a copy */
	return group;
}

int close_within(struct ferry_transport *transport, time_t seconds)
{
	const struct timeval timeout = {.tv_sec = seconds};
	int status = ferry_transport_set_close_timeout(transport, &timeout);

	return status < 0 ? status : ferry_transport_lose_connection(transport);
}

/* The read_connection_lost of a relay: passes a close on as a close, and a half-close as a half-close. */
void pass_on_the_end(struct ferry_transport *transport, void *context)
{
	struct ferry_transport *other = context;

	if (ferry_transport_peer_has_closed(transport))
		ferry_transport_lose_connection(other);
	else
		ferry_transport_lose_write_connection(other);
}

bool peer_is_in_group(struct ferry_transport *transport, gid_t wanted)
{
	gid_t groups[64];
	size_t count = 64;

	if (ferry_transport_get_peer_groups(transport, groups, &count) < 0)
		return false; /* -ERANGE: it has more than 64 */
	for (size_t i = 0; i < count; i++)
		if (groups[i] == wanted)
			return true;
	return false;
}

/* The event runs when the process at the other end has ended. */
struct event *watch_peer(struct ferry_transport *transport, struct event_base *base,
                         event_callback_fn ended)
{
	int pidfd = ferry_transport_get_peer_pidfd(transport);
	if (pidfd < 0)
		return NULL; /* -ENOPROTOOPT: before Linux 6.5 */

	struct event *event = event_new(base, pidfd, EV_READ, ended, transport);
	if (event == NULL)
		close(pidfd);
	else
		event_add(event, NULL);
	return event; /* its descriptor is to be closed with it */
}

void leave_room_for_other_programs(void)
{
	struct ferry_in_flight_info info;

	ferry_in_flight_set_limit(256);
	if (ferry_in_flight_get_info(&info) == 0)
		printf("%u of %u descriptors are in flight\n", info.fds, info.limit);
}

void print_version(void)
{
	printf("compiled with ferry %s, runs with %s\n", FERRY_VERSION, ferry_version());
}
