#include "model_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "closes.h"
#include "model_bufferevent.h"
#include "model_channel.h"
#include "model_sending.h"
#include "model_trace.h"
#include "set_clock.h"
#include "wire.h"

enum { DEPTH_MAX = 2 };

static struct model_end ends[2];
static enum model_link kind;
static unsigned int depth; /* of steps in callbacks */
static bool calm;          /* no step in a callback any more */
static bool slow;          /* a reader that takes little at a time, and time that passes */

/* ---- settings ---- */

static void steer_reading(struct model_end *end)
{
	if (slow) /* the reader of a slow walk reads all the time, and little */
		return;
	if (end->channel != NULL) {
		int status = end->unregistered ? ferry_poller_register(end->poller, end->channel)
		                               : ferry_poller_unregister(end->poller, end->channel);
		demand(status == 0, "registering: %d", status);
		end->unregistered = !end->unregistered;
		return;
	}
	bool pause = one_in(3);
	int status = CALL(pause ? ferry_transport_pause_reading(end->transport)
	                        : ferry_transport_resume_reading(end->transport));
	trace("%s: %s_reading: %d", end->name, pause ? "pause" : "resume", status);
	demand(status == 0 || (status == -ENOTCONN && model_may_refuse(end)), "reading: %d", status);
	if (status == 0)
		end->paused = pause;
}

/* The buckets are filled again when the walk's clock goes on. */
static void limit_rate(struct bufferevent *bev)
{
	static struct ev_token_bucket_cfg *limits; /* as long as the process lives */
	enum { RATE = 20000 };

	if (limits == NULL)
		limits = ev_token_bucket_cfg_new(RATE, RATE, RATE, RATE, NULL);
	if (one_in(4))
		bufferevent_set_rate_limit(bev, one_in(2) ? limits : NULL);
}

static void tune(struct model_end *end)
{
	struct ferry_transport *transport = end->transport;
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	unsigned int high = 1 + below(100);

	if (slow)
		return;
	trace("%s: tune", end->name);
	demand(ferry_transport_set_fd_buffer(transport, high, high + 50) == 0, "set_fd_buffer");
	demand(ferry_transport_set_max_fds_per_message(transport, 1 + below(253)) == 0,
	       "set_max_fds_per_message");
	bufferevent_setwatermark(bev, EV_WRITE, 0, below(100000));
	if (end->channel == NULL) {
		bufferevent_setwatermark(bev, EV_READ, one_in(3) ? below(2000) : 0, 0);
		end->byte_limit = one_in(2) ? 1 + below(100000) : 0;
		demand(ferry_transport_set_byte_limit(transport, end->byte_limit) == 0, "set_byte_limit");
		limit_rate(bev);
	}
	bufferevent_set_max_single_read(bev, one_in(3) ? 300 + below(4000) : 256 * 1024);
	bufferevent_set_max_single_write(bev, one_in(3) ? 300 + below(4000) : 256 * 1024);
	if (one_in(20)) {
		end->out.early = true;
		demand(ferry_transport_set_fd_coalescing(transport, one_in(2)) == 0, "set_fd_coalescing");
	}
}

static void steer_producer(struct model_end *end)
{
	if (one_in(2))
		model_end_unregister_producer(end);
	else
		model_end_register_producer(end, one_in(2) ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL);
}

/* ---- another socket ---- */

static void note_gap(struct model_end *from, struct model_end *to)
{
	model_end_look(from);
	model_end_look(to);
	model_stream_gap(&from->out, from->stats.bytes_sent, (unsigned int)from->stats.fds_sent,
	                 to->stats.bytes_received, (unsigned int)to->stats.fds_received);
}

/* Both ends go on on another connection. The bytes and descriptors that are on their way are lost. */
static void replace_sockets(void)
{
	int fds[2];

	if (slow) /* a timeout may have ended a connection just now */
		return;
	for (int n = 0; n < 2; n++)
		if (ends[n].out.gap_count == MODEL_GAPS_MAX || ends[n].socket < 0 || ends[n].half_closing ||
		    model_end_is_leaving(&ends[n]))
			return;
	trace("both: set_socket");
	note_gap(&ends[0], &ends[1]);
	note_gap(&ends[1], &ends[0]);
	make_pair(kind == MODEL_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
	for (int n = 0; n < 2; n++) {
		int status = CALL(ferry_transport_set_socket(ends[n].transport, fds[n]));
		demand(status == 0, "set_socket: %d", status);
		demand(close(ends[n].socket) == 0, "ferry closed the old socket");
		ends[n].socket = fds[n];
		ends[n].in_kernel = 0;
	}
}

/* ---- ends ---- */

static void note_closing(struct model_end *end, int status, bool half)
{
	trace("%s: lose_%sconnection: %d", end->name, half ? "write_" : "", status);
	demand(status == 0 || status == -ENOTCONN, "%s: closing: %d", end->name, status);
	if (status == 0)
		*(half ? &end->half_closing : &end->closing) = true;
	end->closing_at = clock_time();
}

/* Bounds the time that closing takes, whatever the peer does. */
static void limit_closing(struct model_end *end)
{
	struct timeval limit = {.tv_sec = 1 + below(5)};

	if (!one_in(3))
		return;
	demand(CALL(ferry_transport_set_close_timeout(end->transport, &limit)) == 0, "close_timeout");
	end->close_timeout = limit.tv_sec * MODEL_SECOND;
	end->close_timeout_at = clock_time();
}

static void lose(struct model_end *end, bool half)
{
	if (end->channel == NULL && !half && !end->as_bufferevent)
		limit_closing(end);
	if (end->channel != NULL && half)
		note_closing(end, CALL(ferry_channel_close_write(end->channel)), half);
	else if (end->channel != NULL)
		note_closing(end, CALL(ferry_channel_close(end->channel)), half);
	else if (half)
		note_closing(end, CALL(ferry_transport_lose_write_connection(end->transport)), half);
	else
		note_closing(end, CALL(ferry_transport_lose_connection(end->transport)), half);
}

static void end_somehow(struct model_end *end)
{
	switch (below(8)) {
	case 0:
		if (end->channel != NULL)
			return;
		int status = CALL(ferry_transport_abort_connection(end->transport));
		trace("%s: abort: %d", end->name, status);
		demand(status == 0 || status == -ENOTCONN, "%s: abort: %d", end->name, status);
		end->aborted |= status == 0;
		return;
	case 1:
	case 2:
		if (end->channel != NULL)
			model_channel_free(end);
		else
			model_end_free(end);
		return;
	case 3:
	case 4:
		lose(end, false);
		return;
	default:
		lose(end, true);
	}
}

/* ---- the steps ---- */

/* Only for an end that is no channel. */
static void step_as_bufferevent(struct model_end *end)
{
	switch (below(10)) {
	case 0:
	case 1:
		model_end_set_protocol(end, one_in(2));
		break;
	case 2:
		if (one_in(3))
			replace_sockets();
		break;
	case 3:
		model_add_segment(end);
		break;
	case 4:
	case 5:
		model_write_by_libevent(end);
		break;
	case 6:
		if (!slow)
			model_flush(end);
		break;
	case 7:
		if (depth == 0 && !slow && !end->half_closing && end->link != MODEL_PIPES &&
		    !model_may_refuse(
		        end)) /* in a callback the other descriptors of a read would be closed */
			model_end_detach(end);
		break;
	default:
		model_write_buffer(end);
	}
}

static void step_as_channel(struct model_end *end)
{
	if (end->polling)
		model_channel_check_busy(end);
	else if (depth == 0)
		model_channel_flush(end);
}

static void step(struct model_end *end)
{
	if (!model_end_is_alive(end) && end->transport == NULL)
		return;
	model_end_look(end);
	if (end->failed && depth == 0) {
		model_end_free(end);
		return;
	}
	if (end->transport == NULL || !model_stream_has_room(&end->out))
		return;
	switch (below(24)) {
	case 0:
	case 1:
	case 2:
		model_send_file(end);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		model_send_fd(end);
		break;
	case 7:
	case 8:
		model_steer_file(end);
		break;
	case 9:
	case 10:
		steer_reading(end);
		break;
	case 11:
		steer_producer(end);
		break;
	case 12:
		tune(end);
		break;
	case 13:
		if (!slow && one_in(3))
			end_somehow(end);
		break;
	case 14:
	case 15:
	case 16:
		if (end->channel != NULL)
			step_as_channel(end);
		else
			step_as_bufferevent(end);
		break;
	default:
		model_write(end);
	}
}

void model_act(struct model_end *end)
{
	if (calm || depth >= DEPTH_MAX || !one_in(4))
		return;
	depth++;
	for (uint32_t i = below(3); i > 0; i--)
		step(one_in(3) ? end->other : end);
	depth--;
}

/* ---- the loop ---- */

/* An end that is closing does not outlive its timeout. The watch needs a few turns. */
static void check_close_timeout(struct model_end *end)
{
	bool due = end->closing && end->close_timeout != 0 &&
	           clock_time() - end->close_timeout_at > end->close_timeout;

	if (!due || !model_end_is_alive(end))
		return;
	demand(++end->overdue < 20, "%s is closing for longer than its timeout", end->name);
}

/* True if something has moved. */
static bool turn(void)
{
	unsigned int before = ends[0].moves + ends[1].moves;

	/* Once: without that flag a slow reader would read all there is. */
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	for (int n = 0; n < 2; n++) {
		model_channel_poll(&ends[n]);
		model_end_look(&ends[n]);
		check_close_timeout(&ends[n]);
		if (ends[n].transport == NULL && ++ends[n].turns == 3)
			model_end_close_socket(&ends[n]);
	}
	return ends[0].moves + ends[1].moves != before;
}

static bool is_settled(void)
{
	return !model_end_is_alive(&ends[0]) && !model_end_is_alive(&ends[1]);
}

enum { THREADS_IDLE = 100 }; /* most walks with no file that waits are over by then */

/* Turns the loop until both ends are over. If nothing moves, time passes: 100 s at most. */
static bool pump_until_settled(void)
{
	for (unsigned int idle = 0; !is_settled(); idle++) {
		if (idle == 400)
			return false;
		if (turn())
			idle = 0;
		/* The timers of the kernel's TCP are real, and a thread that reads a file takes real time. */
		if ((kind == MODEL_TCP && idle > 0) || idle > THREADS_IDLE)
			poll(NULL, 0, 1);
		if (idle % 4 == 3)
			clock_advance(MODEL_SECOND / 4);
	}
	return true;
}

/* ---- the end of a walk ---- */

static void let_go(struct model_end *end)
{
	for (unsigned int i = 0; i < end->file_count; i++) {
		ferry_file_producer_resume(end->files[i].producer);
		if (end->files[i].feed >= 0)
			close(end->files[i].feed);
		end->files[i].feed = -1;
	}
	model_end_look(end);
	if (end->unregistered && end->channel != NULL)
		steer_reading(end);
	if (!model_end_is_alive(end) || end->transport == NULL)
		return;
	if (end->producer != NULL)
		model_end_unregister_producer(end);
	model_bufferevent_finish(end);
	if (!model_end_is_alive(end))
		return;
	if (end->channel == NULL)
		(void)ferry_transport_resume_reading(end->transport);
	end->paused = false;
	lose(end, !one_in(3));
}

/* The peer of one end is gone. Nothing helps the end: files that are paused or dry, a producer that is silent, and
 * reading that is paused stay so. */
static void check_alone(struct model_end *end)
{
	if (!model_end_is_alive(end) || model_end_is_alive(end->other))
		return;
	trace("%s is alone", end->name);
	bool settled = pump_until_settled();
	/* A pause may hold what the peer has sent. The kernel reports a TCP peer that has closed without a reset as one
	 * that has ended its half. */
	bool may_live = kind == MODEL_TCP || end->paused || end->unregistered || end->as_bufferevent;
	demand(settled || may_live, "the peer is gone, and %s is not over", end->name);
}

static void check_direction(struct model_end *from, struct model_end *to)
{
	bool reads = !to->closing && !to->aborted && to->over && to->reason != -ETIMEDOUT;
	bool all = reads && from->over && from->reason == 0;
	uint64_t sent = reads && kind != MODEL_TCP ? from->stats.bytes_sent : 0;

	for (unsigned int i = 0; i < from->file_count; i++)
		demand(from->files[i].finished, "%s: item %u is not finished", from->name,
		       from->files[i].item);
	model_stream_check_end(&from->out, all, sent);
	model_stream_close(&from->out);
}

static void close_end(struct model_end *end)
{
	if (end->poller != NULL)
		model_channel_close(end);
	else
		model_end_close(end);
}

static void finish(void)
{
	calm = true;
	trace("the end");
	check_alone(&ends[0]);
	check_alone(&ends[1]);
	let_go(&ends[0]);
	let_go(&ends[1]);
	demand(pump_until_settled(), "a connection is not over");
	close_end(&ends[0]);
	close_end(&ends[1]);
	pump_turns(3);
	check_direction(&ends[0], &ends[1]);
	check_direction(&ends[1], &ends[0]);
	check_closes();
}

/* ---- the walk ---- */

static void open_end(struct model_end *end, int read_fd, int write_fd)
{
	if (one_in(4)) {
		model_channel_open(end, read_fd, write_fd);
		return;
	}
	model_end_open(end, read_fd, write_fd);
	if (one_in(4))
		model_add_output_cb(end);
}

static void open_pipes(void)
{
	int there[2], back[2];

	make_pipe(there);
	make_pipe(back);
	if (one_in(2))
		demand(fcntl(there[0], F_SETPIPE_SZ, 4096) > 0, "no small pipe");
	open_end(&ends[0], back[0], there[1]);
	open_end(&ends[1], there[0], back[1]);
}

static void open_sockets(void)
{
	int fds[2];

	make_pair(kind == MODEL_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
	if (kind == MODEL_UNIX && one_in(2))
		wire_shrink(fds[0]);
	open_end(&ends[0], fds[0], fds[0]);
	open_end(&ends[1], fds[1], fds[1]);
}

/* A timeout for writing that a reader which takes little, but always something, must not reach. */
static void slow_down(void)
{
	struct timeval limit = {.tv_sec = 10};
	struct model_end *writer = &ends[0], *reader = &ends[1];

	if (writer->channel != NULL || reader->channel != NULL)
		return;
	slow = true;
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(writer->transport), NULL, &limit);
	writer->write_timeout = limit.tv_sec * MODEL_SECOND;
	bufferevent_set_max_single_read(ferry_transport_get_bufferevent(reader->transport),
	                                1 + below(2000));
	model_write_many(writer);
}

void model_walk(bool (*goes_on)(unsigned int steps))
{
	kind = (enum model_link)below(MODEL_LINKS);
	calm = slow = false;
	depth = 0;
	model_end_init(&ends[0], "A", &ends[1], kind);
	model_end_init(&ends[1], "B", &ends[0], kind);
	if (kind == MODEL_PIPES)
		open_pipes();
	else
		open_sockets();
	if (one_in(8))
		slow_down();
	for (unsigned int i = 0; goes_on(i); i++) {
		step(&ends[below(2)]);
		if (slow || one_in(3))
			(void)turn();
		if (slow)
			clock_advance(below(3 * MODEL_SECOND));
	}
	finish();
}
