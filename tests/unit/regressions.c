/* Faults that were found by reading the code, each with the case that showed it. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "support.h"
#include "wire.h"

static int ends[2];
static struct recorder recorder;

static void open_transport(const struct ferry_protocol *protocol)
{
	make_pair(PAIR_UNIX, ends);
	recorder_open(&recorder, ends[0], protocol);
	pump_turns(2);
}

static void close_all(void)
{
	recorder_close(&recorder);
	if (ends[1] >= 0)
		close(ends[1]);
	pump_turns(2);
}

static struct bufferevent *bev_of(void)
{
	return ferry_transport_get_bufferevent(recorder.transport);
}

static void send_mark(uint32_t number)
{
	ck_assert_int_eq(
	    ferry_transport_send_fd(recorder.transport, make_marked_fd(number), FERRY_FD_TAKE), 0);
}

static void write_text(const char *text)
{
	ck_assert_int_eq(ferry_transport_write(recorder.transport, text, strlen(text)), 0);
}

/* ---- callbacks of the user's own on the buffers ---- */

static void free_when_added(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                            void *argument)
{
	(void)buffer, (void)argument;
	if (info->n_added > 0)
		recorder_free_transport(&recorder);
}

static void free_when_deleted(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                              void *argument)
{
	(void)buffer, (void)argument;
	if (info->n_deleted > 0)
		recorder_free_transport(&recorder);
}

START_TEST(the_transport_may_be_freed_in_a_callback_on_the_output)
{
	open_transport(&recorder_protocol);
	evbuffer_add_cb(bufferevent_get_output(bev_of()), _i == 0 ? free_when_added : free_when_deleted,
	                NULL);
	write_text("bytes");
	pump_turns(3);
	ck_assert_ptr_null(recorder.transport);
	close_all();
}
END_TEST

START_TEST(pipes_may_be_freed_in_a_callback_on_the_output_while_the_queue_is_dropped)
{
	int in[2], out[2];
	make_pipe(in);
	make_pipe(out);
	recorder_open_pipes(&recorder, in[0], out[1], &recorder_protocol);
	pump_turns(2);
	evbuffer_add_cb(bufferevent_get_output(bev_of()), free_when_deleted, NULL);
	write_text("bytes");
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	ck_assert_ptr_null(recorder.transport);
	pump_turns(3);
	recorder_close(&recorder);
	close(in[1]);
	close(out[0]);
}
END_TEST

/* ---- bufferevent_setfd() ---- */

START_TEST(marks_that_libevent_wrote_past_do_not_hang_the_stream)
{
	int next[2];
	struct wire_read result;
	char buffer[64];

	open_transport(&recorder_protocol);
	make_pair(PAIR_UNIX, next);
	write_text("abc");
	if (_i == 0)
		send_mark(7);
	else
		ck_assert_int_eq(ferry_transport_send_file(recorder.transport, make_file(4), FERRY_FD_TAKE,
		                                           0, 4, NULL, NULL, NULL),
		                 0);
	write_text("de");
	bufferevent_setfd(bev_of(), next[0]);
	pump_turns(2);
	write_text("f");
	pump_turns(2);
	wire_receive(next[1], buffer, sizeof(buffer), &result);
	ck_assert_int_gt(result.bytes, 0);
	size_t fds = result.fd_count;
	wire_close_fds(&result);
	wire_receive(next[1], buffer, sizeof(buffer), &result);
	fds += result.bytes > 0 ? result.fd_count : 0;
	wire_close_fds(&result);
	struct ferry_transport_stats stats = stats_of(recorder.transport);
	ck_assert_uint_eq(stats.bytes_queued + stats.fds_queued + stats.files_queued, 0);
	if (_i == 0)
		ck_assert_uint_eq(fds, 1);
	close(ends[0]);
	close_all();
	close(next[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("regressions");
	TCase *buffers = support_case(suite, "callbacks on the buffers");
	tcase_add_loop_test(buffers, the_transport_may_be_freed_in_a_callback_on_the_output, 0, 2);
	tcase_add_test(buffers,
	               pipes_may_be_freed_in_a_callback_on_the_output_while_the_queue_is_dropped);

	TCase *sockets = support_case(suite, "another socket");
	tcase_add_loop_test(sockets, marks_that_libevent_wrote_past_do_not_hang_the_stream, 0, 2);
	return support_run(suite);
}
