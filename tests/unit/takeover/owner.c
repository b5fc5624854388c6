/* A transport has one owner: every other one is refused at the call, and the first goes on as before. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/channel.h"
#include "ferry/dispatcher.h"
#include "ferry/handoff.h"
#include "ferry/line.h"
#include "ferry/message.h"
#include "ferry/poller.h"
#include "ferry/socket_set.h"
#include "ferry/takeover.h"
#include "ferry/worker.h"

#include "test.h"

static struct ferry_poller *poller; /* all transports are in its event_base, for the channel */
static struct ferry_dispatcher *dispatcher, *other_dispatcher;
static struct ferry_socket_set *set, *other_set;
static int pair[2];

static const struct ferry_line_callbacks line_callbacks = {.connection_lost = NULL};
static const struct ferry_message_callbacks message_callbacks = {.connection_lost = NULL};
static const struct ferry_worker_callbacks no_worker_callbacks = {.dispatcher_lost = NULL};
static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {.worker_lost = NULL};

static void takeover_ended(struct ferry_takeover *takeover, int status, void *context)
{
	(void)takeover, (void)status, (void)context;
}

static void sockets_received(struct ferry_takeover *takeover, struct ferry_socket_set *received,
                             void *context)
{
	(void)takeover, (void)received, (void)context;
}

static const struct ferry_takeover_callbacks takeover_callbacks = {.received = sockets_received,
                                                                   .ended = takeover_ended};

/* What has succeeded, to be freed. */
static struct {
	struct ferry_line_stream *line;
	struct ferry_message_stream *message;
	struct ferry_channel *channel;
	struct ferry_worker *worker;
	struct ferry_takeover *serving, *requesting;
} owners;

static int own_by_lines(struct ferry_transport *transport)
{
	return ferry_line_stream_new(&owners.line, transport, &line_callbacks, NULL);
}

static int own_by_messages(struct ferry_transport *transport)
{
	return ferry_message_stream_new(&owners.message, transport, &message_callbacks, NULL);
}

static int own_by_channel(struct ferry_transport *transport)
{
	return ferry_channel_new_transport(&owners.channel, poller, transport);
}

static int own_by_worker(struct ferry_transport *transport)
{
	return ferry_worker_new(&owners.worker, transport, &no_worker_callbacks, NULL);
}

static int own_by_dispatcher(struct ferry_transport *transport)
{
	return ferry_dispatcher_add_worker(NULL, dispatcher, transport, NULL);
}

static int own_by_serving(struct ferry_transport *transport)
{
	return ferry_takeover_serve(&owners.serving, set, transport, &takeover_callbacks, NULL);
}

static int own_by_requesting(struct ferry_transport *transport)
{
	return ferry_takeover_request(&owners.requesting, transport, NULL, 0, &takeover_callbacks,
	                              NULL);
}

static int own_by_other_dispatcher(struct ferry_transport *transport)
{
	return ferry_dispatcher_add_worker(NULL, other_dispatcher, transport, NULL);
}

static int own_by_other_set(struct ferry_transport *transport)
{
	return ferry_takeover_serve(&owners.serving, other_set, transport, &takeover_callbacks, NULL);
}

static const struct ferry_protocol plain_protocol = {.connection_lost = NULL};

static int set_protocol(struct ferry_transport *transport)
{
	return ferry_transport_set_protocol(transport, &plain_protocol, NULL);
}

static int take_bufferevent(struct ferry_transport *transport)
{
	struct bufferevent *bev;
	return ferry_transport_detach(transport, &bev);
}

static int (*const owning[])(struct ferry_transport *transport) = {
    own_by_lines,      own_by_messages, own_by_channel,    own_by_worker,
    own_by_dispatcher, own_by_serving,  own_by_requesting,
};

static int (*const refused[])(struct ferry_transport *transport) = {
    own_by_lines, own_by_messages,   own_by_channel,          own_by_worker,    own_by_dispatcher,
    set_protocol, own_by_requesting, own_by_other_dispatcher, own_by_other_set, take_bufferevent,
};

static struct ferry_transport *open_transport(void)
{
	struct ferry_transport *transport;
	make_pair(PAIR_UNIX, pair);
	struct bufferevent *bev =
	    bufferevent_socket_new(ferry_poller_get_base(poller), pair[0], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(bev);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	return transport;
}

static void set_up(void)
{
	struct event_base *loop;
	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	loop = ferry_poller_get_base(poller);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, loop, &dispatcher_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_new(&other_dispatcher, loop, &dispatcher_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_int_eq(ferry_socket_set_new(&other_set), 0);
}

static void tear_down(void)
{
	ferry_line_stream_free(owners.line);
	ferry_message_stream_free(owners.message);
	ferry_channel_free(owners.channel);
	ferry_worker_free(owners.worker);
	ferry_takeover_free(owners.serving);
	ferry_takeover_free(owners.requesting);
	ferry_dispatcher_free(dispatcher);
	ferry_dispatcher_free(other_dispatcher);
	ferry_socket_set_free(set);
	ferry_socket_set_free(other_set);
	for (int i = 0; i < 5; i++)
		event_base_loop(ferry_poller_get_base(poller), EVLOOP_NONBLOCK);
	ferry_poller_free(poller);
	close(pair[1]);
}

TEST_CASE("one owner", set_up, tear_down);

/* _i: the owner */
LOOP_TEST(another_owner_is_refused, COUNT(owning))
{
	struct ferry_transport *transport = open_transport();
	struct ferry_transport_stats before, after;
	struct ferry_handoff *handoff;
	int events;

	ck_assert_int_eq(owning[_i](transport), 0);
	events = bufferevent_get_enabled(ferry_transport_get_bufferevent(transport));
	ck_assert_int_eq(ferry_transport_get_stats(transport, &before), 0);
	for (int i = 0; i < COUNT(refused); i++)
		ck_assert_int_eq(refused[i](transport), -EBUSY);
	ck_assert(ferry_handoff_from_transport(&handoff, transport) == -EBUSY);
	ck_assert_int_eq(bufferevent_get_enabled(ferry_transport_get_bufferevent(transport)), events);
	ck_assert_int_eq(ferry_transport_get_stats(transport, &after), 0);
	ck_assert_uint_eq(before.bytes_queued, after.bytes_queued);
}

/* A protocol of the program's own may give its transport to an owner: a connection that changes to lines. */
LOOP_TEST(an_owner_takes_over_from_a_protocol, COUNT(owning))
{
	struct ferry_transport *transport = open_transport();

	ck_assert_int_eq(set_protocol(transport), 0);
	ck_assert_int_eq(owning[_i](transport), 0);
	ck_assert_int_eq(set_protocol(transport), -EBUSY);
}

TEST(a_refused_owner_may_be_made_elsewhere)
{
	struct ferry_transport *transport = open_transport();

	shutdown(pair[1], SHUT_RDWR);
	ck_assert_int_eq(ferry_transport_abort_connection(transport), 0);
	ck_assert_int_eq(own_by_lines(transport), -ENOTCONN);
	ck_assert_int_eq(take_bufferevent(transport), -ENOTCONN); /* and not -EBUSY: nobody owns it */
	ferry_transport_free(transport);
}
