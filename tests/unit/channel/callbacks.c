/* Channels have no callbacks, but files, producers and buffers of their transports have. Each call in each of
 * them: it runs from the loop, or where it may do anything. */

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "every_call.h"
#include "ferry/ferry.h"
#include "listening.h"
#include "test.h"

enum { BIG = 100000, FILE_SIZE = 1000000 };

static const struct timeval at_once = {0, 0};
static struct ferry_channel_event events[8];
static struct ferry_poller *poller;                   /* NULL once freed */
static struct ferry_channel *channel, *other, *third; /* `third` is not registered */
static int peer, other_peer, third_peer;
static char big[BIG];
static bool in_call; /* a call runs in which no callback may run */

/* ---- the callbacks ---- */

static void from_loop(const char *name)
{
	ck_assert_msg(!in_call, "%s runs inside a call", name);
	strike(name);
}

static void finished(struct ferry_file_producer *producer, int status, uint64_t sent, void *context)
{
	(void)producer, (void)status, (void)sent, (void)context;
	from_loop("finished");
	strike("finished of ferry_poller_free()");
}

static void progress(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
                     void *context)
{
	(void)producer, (void)sent, (void)total, (void)context;
	from_loop("progress");
}

static void paused(void *context)
{
	(void)context;
	strike("pause_producing");
	strike("pause_producing of a transport");
}

static void resumed(void *context)
{
	(void)context;
	from_loop("resume_producing");
}

static void stopped(void *context)
{
	(void)context;
	strike("stop_producing");
	strike("stop_producing of ferry_poller_free()");
	from_loop("stop_producing of the end");
}

static void changed(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
	(void)buffer, (void)context;
	strike(info->n_added > 0 ? "a buffer's growth" : "a buffer's drain");
}

static const struct ferry_file_callbacks file_callbacks = {.finished = finished,
                                                           .progress = progress};
static const struct ferry_producer_callbacks producer = {
    .resume_producing = resumed, .pause_producing = paused, .stop_producing = stopped};

/* ---- how they are provoked ---- */

/* As a program does: a channel that is over is freed. */
static void poll_events(void)
{
	for (int turn = 0; turn < 10 && poller != NULL; turn++) {
		int count = ferry_poller_poll(poller, &at_once, events, 8);
		for (int i = 0; i < count && poller != NULL; i++) {
			if (events[i].kind != FERRY_CHANNEL_CLOSED)
				continue;
			if (events[i].channel == channel)
				channel = NULL;
			if (events[i].channel == other)
				other = NULL;
			ferry_channel_free(events[i].channel);
		}
		if (count == -ENOENT)
			return;
	}
}

static struct ferry_transport *transport_of(struct ferry_channel *of)
{
	return ferry_channel_get_transport(of);
}

static void queue_file(void)
{
	int fd = make_file(FILE_SIZE);

	ck_assert_int_eq(ferry_transport_send_file(NULL, transport_of(channel), fd, FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, &file_callbacks, NULL),
	                 0);
}

static void provoke_by_file(void)
{
	queue_file();
	in_call = true;
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), 0);
	in_call = false;
	for (int i = 0; poller != NULL && !struck && i < 1000; i++) {
		(void)!read(peer, big, BIG);
		poll_events();
	}
	poll_events();
}

static void registers(enum ferry_producer_mode mode)
{
	ck_assert_int_eq(
	    ferry_transport_register_producer(transport_of(channel), &producer, NULL, mode), 0);
}

static void provoke_by_write(void)
{
	registers(FERRY_PRODUCER_PUSH);
	ferry_channel_write(channel, big, BIG);
	poll_events();
}

static void provoke_by_transport(void)
{
	registers(FERRY_PRODUCER_PUSH);
	ferry_transport_write(transport_of(channel), big, BIG);
	poll_events();
}

static void provoke_resume(void)
{
	registers(FERRY_PRODUCER_PULL);
	in_call = true;
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), 0);
	in_call = false;
	poll_events();
}

static void provoke_by_free(void)
{
	struct ferry_channel *freed = channel;

	registers(FERRY_PRODUCER_PUSH);
	channel = NULL;
	ferry_channel_free(freed);
	poll_events();
}

static void provoke_by_poller_free(void)
{
	struct ferry_poller *freed = poller;

	registers(FERRY_PRODUCER_PUSH);
	queue_file();
	poller = NULL;
	channel = other = NULL;
	ferry_poller_free(freed);
}

static void provoke_by_end(void)
{
	ferry_channel_set_half_close(channel, true);
	registers(FERRY_PRODUCER_PUSH);
	shutdown(peer, SHUT_WR);
	poll_events();
	in_call = true;
	ferry_channel_set_half_close(channel, false);
	in_call = false;
	poll_events();
}

static void watch_output(void)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport_of(channel));

	evbuffer_add_cb(bufferevent_get_output(bev), changed, NULL);
}

static void provoke_by_growth(void)
{
	watch_output();
	ferry_channel_write(channel, "x", 1);
	poll_events();
}

static const struct every_callback callbacks[] = {
    {"finished", provoke_by_file},
    {"progress", provoke_by_file},
    {"pause_producing", provoke_by_write},
    {"pause_producing of a transport", provoke_by_transport},
    {"resume_producing", provoke_resume},
    {"stop_producing", provoke_by_free},
    {"stop_producing of ferry_poller_free()", provoke_by_poller_free},
    {"stop_producing of the end", provoke_by_end},
    {"finished of ferry_poller_free()", provoke_by_poller_free},
    {"a buffer's growth", provoke_by_growth},
    {"a buffer's drain", provoke_by_growth},
};

/* ---- the calls ---- */

static void free_it(struct ferry_channel **which)
{
	struct ferry_channel *freed = *which;

	*which = NULL;
	ferry_channel_free(freed);
}

static void free_channel(void)
{
	free_it(&channel);
}

static void free_twice(void)
{
	struct ferry_channel *freed = channel;

	free_it(&channel);
	ferry_channel_free(freed);
	ck_assert_int_lt(ferry_channel_write(freed, "x", 1), 0);
}

static void free_other(void)
{
	free_it(&other);
}

static void free_unregistered(void)
{
	free_it(&third);
}

static void free_poller(void)
{
	struct ferry_poller *freed = poller;

	poller = NULL;
	channel = other = NULL;
	ferry_poller_free(freed);
}

static void free_all(void)
{
	free_unregistered();
	free_channel();
	free_poller();
}

static void poll_again(void)
{
	struct ferry_channel_event event;

	if (poller != NULL) /* else it is being freed */
		ck_assert_int_eq(ferry_poller_poll(poller, NULL, &event, 1), -EBUSY);
}

static void free_and_poll(void)
{
	free_channel();
	poll_again();
}

static void close_all(void)
{
	if (poller != NULL)
		ck_assert_int_eq(ferry_poller_close_all(poller, NULL), -EBUSY);
}

static void flush(void)
{
	if (channel != NULL)
		ferry_channel_flush(channel, &at_once);
}

static void flush_unregistered(void)
{
	ck_assert_int_eq(ferry_transport_write(transport_of(third), "x", 1), 0);
	ck_assert_int_eq(ferry_channel_flush(third, NULL), -EBUSY);
}

static void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	ferry_channel_vprintf(channel, format, arguments);
	va_end(arguments);
}

static void write_more(void)
{
	ferry_channel_write(channel, big, BIG);
	ferry_channel_write(other, big, BIG);
	ferry_channel_write(third, big, BIG);
	ferry_channel_printf(channel, "%*d", BIG, 1);
	print("%*d", BIG, 2);
}

static void send_fd(void)
{
	ferry_channel_send_fd(channel, 0, FERRY_FD_DUP);
	ferry_channel_send_fd(third, 0, FERRY_FD_DUP);
}

static void send_message(void)
{
	ferry_channel_send_message(channel, 1, big, BIG, &(int){0}, 1, FERRY_FD_DUP);
	if (poller != NULL) {
		ferry_channel_set_messages(third, 100000, 1); /* -EBUSY, or becomes one of messages */
		ferry_channel_send_message(third, 1, big, BIG, &(int){0}, 1, FERRY_FD_DUP);
	}
}

static void send_file(void)
{
	int fd = make_file(10);

	if (ferry_transport_send_file(NULL, transport_of(channel), fd, FERRY_FD_TAKE, 0, FERRY_TO_END,
	                              0, &file_callbacks, NULL) < 0)
		close(fd);
}

static void close_channel(void)
{
	ferry_channel_close(channel);
	ferry_channel_close(other);
}

static void close_write(void)
{
	ferry_channel_close_write(channel);
}

static void abort_connection(void)
{
	ferry_transport_abort_connection(transport_of(channel));
}

static void unregister(void)
{
	if (poller != NULL && channel != NULL && ferry_poller_unregister(poller, channel) == 0)
		ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
}

static void register_another(void)
{
	if (poller != NULL)
		ferry_poller_register(poller, third);
}

static void set_all(void)
{
	ferry_channel_set_half_close(channel, false);
	ferry_channel_set_lines(channel, "\n", 1, 10);
	ferry_channel_set_limits(channel, 1, 1);
	ferry_channel_set_context(channel, NULL);
}

static void get_all(void)
{
	ferry_channel_get_context(channel);
	ferry_channel_get_fd(channel);
	ferry_channel_get_transport(channel);
	ferry_poller_get_base(poller);
	ferry_poller_steal_fd(poller, &events[0]);
}

static void change_producer(void)
{
	ferry_transport_unregister_producer(transport_of(channel));
	ferry_transport_register_producer(transport_of(channel), &producer, NULL, FERRY_PRODUCER_PULL);
}

static void make_channel(void)
{
	struct ferry_channel *made;
	int fds[2];

	if (poller == NULL)
		return;
	make_pair(PAIR_UNIX, fds);
	close(fds[1]);
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, fds[0]), 0);
	ferry_poller_register(poller, made);
}

static void make_others(void)
{
	struct ferry_channel *made;
	int fds[2];

	if (poller == NULL)
		return;
	make_pipe(fds);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, fds[0], fds[1]), 0);
	ferry_channel_free(made);
	make_pair(PAIR_UNIX, fds);
	close(fds[1]);
	struct bufferevent *bev =
	    bufferevent_socket_new(ferry_poller_get_base(poller), fds[0], BEV_OPT_CLOSE_ON_FREE);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_channel_new_transport(&made, poller, transport), 0);
	ferry_channel_free(made);
}

static void add_server(void)
{
	struct ferry_channel *server;

	if (poller == NULL)
		return;
	int fd = listen_abstract();
	evutil_make_socket_nonblocking(fd);
	ck_assert_int_eq(ferry_poller_add_server(&server, poller, fd), 0);
	ferry_channel_free(server);
	close(fd);
}

static void make_poller(void)
{
	struct ferry_poller *made;

	ck_assert_int_eq(ferry_poller_new(&made), 0);
	ferry_poller_free(made);
}

static void interrupt(void)
{
	ferry_poller_interrupt(poller);
}

static const struct every_call calls[] = {
    {"ferry_channel_free", free_channel},
    {"ferry_channel_free twice", free_twice},
    {"ferry_channel_free of another", free_other},
    {"ferry_channel_free of one that is not registered", free_unregistered},
    {"ferry_poller_free", free_poller},
    {"ferry_poller_free, nothing left", free_all},
    {"ferry_poller_poll", poll_again},
    {"ferry_channel_free, ferry_poller_poll", free_and_poll},
    {"ferry_poller_close_all", close_all},
    {"ferry_channel_flush", flush},
    {"ferry_channel_flush of one that is not registered", flush_unregistered},
    {"ferry_channel_write, _printf", write_more},
    {"ferry_channel_send_fd", send_fd},
    {"ferry_channel_set_messages, _send_message", send_message},
    {"ferry_transport_send_file", send_file},
    {"ferry_channel_close", close_channel},
    {"ferry_channel_close_write", close_write},
    {"ferry_transport_abort_connection", abort_connection},
    {"ferry_poller_unregister and _register", unregister},
    {"ferry_poller_register", register_another},
    {"ferry_channel_set_…", set_all},
    {"ferry_channel_get_…", get_all},
    {"ferry_transport_register_producer", change_producer},
    {"ferry_channel_new_socket", make_channel},
    {"ferry_channel_new_pipes, _new_transport", make_others},
    {"ferry_poller_add_server", add_server},
    {"ferry_poller_new", make_poller},
    {"ferry_poller_interrupt", interrupt},
};

/* ---- the world ---- */

static struct ferry_channel *new_channel(int *far_end)
{
	struct ferry_channel *made;
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	*far_end = fds[1];
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, fds[0]), 0);
	return made;
}

static void set_up(void)
{
	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	channel = new_channel(&peer);
	other = new_channel(&other_peer);
	third = new_channel(&third_peer);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_register(poller, other), 0);
}

static void tear_down(void)
{
	struct ferry_poller *last;

	if (poller != NULL && third != NULL) /* a call may have registered it */
		(void)ferry_poller_unregister(poller, third);
	ferry_poller_free(poller);
	ferry_channel_free(third);
	close(peer);
	close(other_peer);
	close(third_peer);
	/* A poller that was freed inside ferry_transport_write() waits for the next call. */
	ck_assert_int_eq(ferry_poller_new(&last), 0);
	ferry_poller_free(last);
}

LOOP_TEST(every_call_is_safe_in_every_callback_of_a_channels_objects, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
}
