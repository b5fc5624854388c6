/* Behaviour that users of Twisted's UNIX transports rely on, under the names of Twisted's tests:
 * descriptors, the eleven ways to abort a connection, producers around the end of one. If ferry
 * differs on purpose, the name of the test has the difference. docs/coverage.md has the whole list.
 * Behaviour that another file tests already is not tested again here. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { KINDS = 2, MUCH = 4 * 1024 * 1024 };

static struct recorder client, server;

static void connect_ends(int kind)
{
	int fds[2];
	make_pair(kind == 0 ? PAIR_UNIX : PAIR_TCP, fds);
	recorder_open(&client, fds[0], &recorder_no_half_close);
	recorder_open(&server, fds[1], &recorder_no_half_close);
}

static void close_ends(void)
{
	recorder_close(&client);
	recorder_close(&server);
}

static void write_to(struct recorder *recorder, size_t length)
{
	static const char bytes[MUCH];
	ck_assert_uint_le(length, sizeof(bytes));
	ck_assert_int_eq(ferry_transport_write(recorder->transport, bytes, length), 0);
}

/* ---- _SendmsgMixin ---- */

TEST_CASE("sendmsg mixin");

TEST(twisted_a_file_descriptor_is_sent)
{
	int sent[2];
	connect_ends(0);
	make_pair(PAIR_UNIX, sent);
	ck_assert_int_eq(ferry_transport_send_fd(client.transport, sent[0], FERRY_FD_TAKE), 0);
	write_to(&client, 1);
	pump_until_fds(&server, 1);
	wire_put(server.fds[0], 0, 10);
	ck_assert_int_eq(wire_expect(sent[1], 0, 10), 10);
	close(sent[1]);
	close_ends();
}

TEST(twisted_file_descriptor_overrun_is_a_refusal_and_the_connection_lives)
{
	connect_ends(0);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(client.transport, 1), 0);
	ck_assert_int_eq(ferry_transport_send_fd(client.transport, make_marked_fd(0), FERRY_FD_TAKE),
	                 0);
	const int overrun = make_marked_fd(1);
	ck_assert_int_eq(ferry_transport_send_fd(client.transport, overrun, FERRY_FD_TAKE), -ENOBUFS);
	ck_assert(fd_is_open(overrun));
	write_to(&client, 1);
	ck_assert_int_eq(ferry_transport_send_fd(client.transport, overrun, FERRY_FD_TAKE), 0);
	write_to(&client, 1);
	pump_until_fds(&server, 2);
	ck_assert_uint_eq(marked_number(server.fds[1]), 1);
	ck_assert_uint_eq(client.lost + server.lost, 0);
	close_ends();
}

TEST(twisted_no_file_descriptor_leaks)
{
	static const struct ferry_protocol no_receiver = {
	    .connection_made = recorder_connection_made,
	    .data_received = recorder_data_received,
	    .connection_lost = recorder_connection_lost,
	};
	connect_ends(0);
	ck_assert_int_eq(ferry_transport_set_protocol(server.transport, &no_receiver, &server), 0);
	int pipe_ends[2];
	make_pipe(pipe_ends);
	ck_assert_int_eq(ferry_transport_send_fd(client.transport, pipe_ends[1], FERRY_FD_TAKE), 0);
	write_to(&client, 1);
	pump_until_length(&server, 1);
	char byte;
	ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 0); /* no process has the other end any more */
	close(pipe_ends[0]);
	close_ends();
}

/* ---- abortConnection ---- */

/* Both ends know, once, and the peer's has a reset where there is such a thing. */
static void expect_aborted(struct recorder *aborter, struct recorder *peer, int kind)
{
	pump_until_lost(aborter);
	pump_until_lost(peer);
	pump_turns(5);
	ck_assert_uint_eq(aborter->lost, 1);
	ck_assert_int_eq(aborter->reason, -ECONNABORTED);
	ck_assert_uint_eq(peer->lost, 1);
	if (kind == 1)
		ck_assert_int_eq(peer->reason, -ECONNRESET);
	else
		ck_assert(peer->reason == 0 || peer->reason == -ECONNRESET || peer->reason == -EPIPE);
	ck_assert_int_eq(ferry_transport_write(aborter->transport, "", 1), -EPIPE);
	close_ends();
}

static void abort_now(struct recorder *recorder)
{
	recorder->hook = NULL;
	recorder->quiet = true;
	ck_assert_int_eq(ferry_transport_abort_connection(recorder->transport), 0);
	recorder->quiet = false;
}

static void abort_in_data_received(struct recorder *recorder, char event)
{
	if (event == EVENT_DATA)
		abort_now(recorder);
}

static void abort_when_made(struct recorder *recorder, char event)
{
	if (event == EVENT_MADE)
		abort_now(recorder);
}

static void abort_twice(struct recorder *recorder, char event)
{
	if (event != EVENT_MADE)
		return;
	abort_now(recorder);
	ck_assert_int_eq(ferry_transport_abort_connection(recorder->transport), -ENOTCONN);
}

static void abort_then_lose(struct recorder *recorder, char event)
{
	if (event != EVENT_MADE)
		return;
	abort_now(recorder);
	ck_assert_int_eq(ferry_transport_lose_connection(recorder->transport), -ENOTCONN);
}

TEST_CASE("abort connection");

LOOP_TEST(twisted_data_received_may_abort, KINDS)
{
	connect_ends(_i);
	client.hook = abort_in_data_received;
	write_to(&server, 10);
	expect_aborted(&client, &server, _i);
}

LOOP_TEST(twisted_client_aborts_connection_twice_and_the_second_call_fails, KINDS)
{
	connect_ends(_i);
	client.hook = abort_twice;
	expect_aborted(&client, &server, _i);
}

LOOP_TEST(twisted_client_aborts_connection_then_losing_it_fails, KINDS)
{
	connect_ends(_i);
	client.hook = abort_then_lose;
	expect_aborted(&client, &server, _i);
}

LOOP_TEST(twisted_server_aborts_connection_twice_and_the_second_call_fails, KINDS)
{
	connect_ends(_i);
	server.hook = abort_twice;
	pump_turns(2);
	expect_aborted(&server, &client, _i);
}

LOOP_TEST(twisted_server_aborts_connection_then_losing_it_fails, KINDS)
{
	connect_ends(_i);
	server.hook = abort_then_lose;
	expect_aborted(&server, &client, _i);
}

/* A producer of the client's. */
static struct producer {
	unsigned int resumed, paused, stopped;
	void (*on_resume)(void);
} producer;

static void resume(void *context)
{
	(void)context;
	producer.resumed++;
	if (producer.on_resume != NULL)
		producer.on_resume();
}

static void pause_it(void *context)
{
	(void)context;
	producer.paused++;
}

static void stop(void *context)
{
	(void)context;
	ck_assert_uint_eq(client.lost, 0);
	producer.stopped++;
}

static const struct ferry_producer_callbacks producer_callbacks = {
    .resume_producing = resume,
    .pause_producing = pause_it,
    .stop_producing = stop,
};

static void register_producer(enum ferry_producer_mode mode, void (*on_resume)(void))
{
	producer = (struct producer){.on_resume = on_resume};
	ck_assert_int_eq(
	    ferry_transport_register_producer(client.transport, &producer_callbacks, NULL, mode), 0);
}

static void abort_client(void)
{
	write_to(&client, 10);
	abort_now(&client);
}

LOOP_TEST(twisted_resume_producing_may_abort, KINDS)
{
	connect_ends(_i);
	register_producer(FERRY_PRODUCER_PULL, abort_client);
	pump_until_lost(&client);
	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	expect_aborted(&client, &server, _i);
}

static void abort_client_from_the_loop(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what, (void)context;
	abort_now(&client);
}

static void write_and_abort_later(void)
{
	producer.on_resume = NULL;
	write_to(&client, 10);
	ck_assert_int_eq(event_base_once(base, -1, EV_TIMEOUT, abort_client_from_the_loop, NULL,
	                                 &(struct timeval){0}),
	                 0);
}

LOOP_TEST(twisted_resume_producing_may_abort_later, KINDS)
{
	connect_ends(_i);
	register_producer(FERRY_PRODUCER_PULL, write_and_abort_later);
	pump_until_lost(&client);
	ck_assert_uint_eq(producer.stopped, 1);
	expect_aborted(&client, &server, _i);
}

/* The peer does not read, so that the queue would never empty. */
static void fill_and_abort(int kind)
{
	ck_assert_int_eq(ferry_transport_pause_reading(server.transport), 0);
	write_to(&client, MUCH);
	write_to(&client, MUCH);
	pump_turns(20);
	ck_assert_uint_gt(stats_of(client.transport).bytes_queued, 0);
	abort_now(&client);
	ck_assert_int_eq(ferry_transport_resume_reading(server.transport), 0);
	expect_aborted(&client, &server, kind);
}

LOOP_TEST(twisted_a_full_write_buffer_may_be_aborted, KINDS)
{
	connect_ends(_i);
	fill_and_abort(_i);
}

LOOP_TEST(twisted_a_full_write_buffer_may_be_aborted_after_an_exchange, KINDS)
{
	connect_ends(_i);
	write_to(&client, 1);
	pump_until_length(&server, 1);
	write_to(&server, 1);
	pump_until_length(&client, 1);
	fill_and_abort(_i);
}

/* C has no exceptions: a callback that cannot go on frees. */
static void free_in_data_received(struct recorder *recorder, char event)
{
	if (event == EVENT_DATA)
		recorder_free_transport(recorder);
}

LOOP_TEST(twisted_data_received_throws_is_to_free_there, KINDS)
{
	connect_ends(_i);
	client.hook = free_in_data_received;
	write_to(&server, 10);
	pump_until_lost(&server);
	ck_assert_ptr_null(client.transport);
	ck_assert_uint_eq(client.lost, 0);
	ck_assert_uint_eq(server.lost, 1);
	close_ends();
}

static void free_client(void)
{
	recorder_free_transport(&client);
}

LOOP_TEST(twisted_resume_producing_throws_is_to_free_there, KINDS)
{
	connect_ends(_i);
	register_producer(FERRY_PRODUCER_PULL, free_client);
	pump_until_lost(&server);
	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_uint_eq(client.lost, 0);
	close_ends();
}

LOOP_TEST(twisted_connection_made_may_abort, KINDS)
{
	connect_ends(_i);
	client.hook = abort_when_made;
	expect_aborted(&client, &server, _i);
}

/* ---- around the end of a connection ---- */

static void use_in_connection_lost(struct recorder *recorder, char event)
{
	if (event != EVENT_LOST)
		return;
	ck_assert_int_eq(ferry_transport_write(recorder->transport, "x", 1), -EPIPE);
	struct evbuffer *buffer = evbuffer_new();
	evbuffer_add(buffer, "y", 1);
	ck_assert_int_eq(ferry_transport_write_buffer(recorder->transport, buffer), -EPIPE);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 1);
	evbuffer_free(buffer);
	ck_assert_int_eq(ferry_transport_unregister_producer(recorder->transport), -ENOENT);
	ck_assert_int_eq(ferry_transport_resume_reading(recorder->transport), -ENOTCONN);
}

TEST_CASE("end");

LOOP_TEST(twisted_write_after_disconnect_is_refused_and_not_dropped, KINDS)
{
	connect_ends(_i);
	client.hook = use_in_connection_lost;
	ck_assert_int_eq(ferry_transport_lose_connection(server.transport), 0);
	pump_until_lost(&client);
	close_ends();
}

LOOP_TEST(twisted_unregister_producer_after_disconnect_fails, KINDS)
{
	connect_ends(_i);
	client.hook = use_in_connection_lost;
	register_producer(FERRY_PRODUCER_PUSH, NULL);
	ck_assert_int_eq(ferry_transport_abort_connection(client.transport), 0);
	pump_until_lost(&client);
	ck_assert_uint_eq(producer.stopped, 1);
	close_ends();
}

static unsigned int chunks;

static void write_last_chunk(void)
{
	write_to(&client, 1000);
	if (++chunks == 3)
		ck_assert_int_eq(ferry_transport_unregister_producer(client.transport), 0);
}

LOOP_TEST(twisted_a_producer_may_disconnect, KINDS)
{
	connect_ends(_i);
	chunks = 0;
	register_producer(FERRY_PRODUCER_PULL, write_last_chunk);
	ck_assert_int_eq(ferry_transport_lose_connection(client.transport), 0);
	pump_until_lost(&client);
	pump_until_lost(&server);
	ck_assert_int_eq(client.reason, 0);
	ck_assert_uint_eq(recorder_length(&server), 3000);
	ck_assert_uint_eq(producer.stopped, 0);
	close_ends();
}

LOOP_TEST(twisted_resume_producing_while_disconnecting_reads_nothing, KINDS)
{
	connect_ends(_i);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(client.transport), 0);
	write_to(&server, 10);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(server.transport), 0);
	write_to(&client, MUCH);
	ck_assert_int_eq(ferry_transport_lose_connection(client.transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(client.transport), 0);
	pump_turns(5);
	ck_assert_uint_eq(client.data, 0);
	ck_assert_int_eq(ferry_transport_resume_reading(server.transport), 0);
	pump_until_lost(&client);
	ck_assert_uint_eq(client.data, 0);
	pump_until_lost(&server);
	close_ends();
}

LOOP_TEST(twisted_a_paused_transport_loses_its_connection, KINDS)
{
	connect_ends(_i);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(client.transport), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(client.transport), 0);
	pump_until_lost(&client);
	ck_assert_int_eq(client.reason, 0);
	pump_until_lost(&server);
	close_ends();
}

static void stop_and_start(struct recorder *recorder, char event)
{
	if (event != EVENT_DATA)
		return;
	ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(recorder->transport), 0);
}

LOOP_TEST(twisted_reading_stops_and_starts, KINDS)
{
	connect_ends(_i);
	server.hook = stop_and_start;
	write_to(&client, MUCH);
	pump_until_length(&server, MUCH);
	close_ends();
}

/* ---- writeSequence ---- */

static void write_sequence(void)
{
	struct evbuffer *pieces = evbuffer_new();
	evbuffer_add(pieces, "one ", 4);
	evbuffer_add_reference(pieces, "two ", 4, NULL, NULL);
	evbuffer_add_printf(pieces, "%s", "three");
	ck_assert_int_eq(ferry_transport_write_buffer(client.transport, pieces), 0);
	ck_assert_uint_eq(evbuffer_get_length(pieces), 0);
	evbuffer_free(pieces);
}

TEST_CASE("write sequence");

LOOP_TEST(twisted_a_write_sequence_is_sent_without_a_write, KINDS)
{
	char text[14] = "";
	connect_ends(_i);
	write_sequence();
	pump_until_length(&server, 13);
	evbuffer_remove(server.received, text, 13);
	ck_assert_str_eq(text, "one two three");
	close_ends();
}

LOOP_TEST(twisted_a_streaming_producer_may_write_a_sequence, KINDS)
{
	connect_ends(_i);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(client.transport), EV_WRITE, 0, 12);
	register_producer(FERRY_PRODUCER_PUSH, NULL);
	write_sequence();
	ck_assert_uint_eq(producer.paused, 1);
	pump_until_count(&producer.resumed, 1);
	pump_until_length(&server, 13);
	ck_assert_int_eq(ferry_transport_unregister_producer(client.transport), 0);
	close_ends();
}

static void write_sequence_thrice(void)
{
	write_sequence();
	if (++chunks == 3)
		ck_assert_int_eq(ferry_transport_unregister_producer(client.transport), 0);
}

LOOP_TEST(twisted_a_non_streaming_producer_may_write_a_sequence, KINDS)
{
	connect_ends(_i);
	chunks = 0;
	register_producer(FERRY_PRODUCER_PULL, write_sequence_thrice);
	pump_until_length(&server, 39);
	ck_assert_uint_eq(producer.resumed, 3);
	ck_assert_uint_eq(producer.paused, 0);
	close_ends();
}

/* ---- FileSender ---- */

static int text_file;

/* In place of FileSender's `transform`: a producer that reads the file and changes the bytes. */
static void write_transformed_chunk(void)
{
	char chunk[100];
	ssize_t length = read(text_file, chunk, sizeof(chunk));
	for (ssize_t i = 0; i < length; i++)
		chunk[i] = (char)(chunk[i] ^ 0x20);
	if (length > 0)
		ck_assert_int_eq(ferry_transport_write(client.transport, chunk, (size_t)length), 0);
	else
		ck_assert_int_eq(ferry_transport_unregister_producer(client.transport), 0);
}

TEST_CASE("file sender");

LOOP_TEST(twisted_transfer_with_transform_is_a_pull_producer, KINDS)
{
	enum { SIZE = 1050 };
	unsigned char arrived[SIZE];
	connect_ends(_i);
	text_file = make_file(SIZE);
	register_producer(FERRY_PRODUCER_PULL, write_transformed_chunk);
	ck_assert_int_eq(ferry_transport_lose_connection(client.transport), 0);
	pump_until_lost(&server);
	ck_assert_int_eq(evbuffer_remove(server.received, arrived, SIZE), SIZE);
	for (size_t i = 0; i < SIZE; i++)
		ck_assert_uint_eq(arrived[i], support_byte(i) ^ 0x20U);
	close(text_file);
	close_ends();
}

static int finished_status;
static uint64_t finished_sent;
static unsigned int finished;

static void on_finished(struct ferry_file_producer *file, int status, uint64_t sent, void *context)
{
	(void)file, (void)context;
	finished_status = status;
	finished_sent = sent;
	finished++;
}

static const struct ferry_file_callbacks file_callbacks = {.finished = on_finished};

static void send_file(uint64_t size)
{
	finished = 0;
	ck_assert_int_eq(ferry_transport_send_file(NULL, client.transport, make_file(size),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, &file_callbacks,
	                                           NULL),
	                 0);
}

LOOP_TEST(twisted_a_file_takes_its_turn_and_does_not_register_a_producer, KINDS)
{
	connect_ends(_i);
	register_producer(FERRY_PRODUCER_PUSH, NULL);
	send_file(MUCH);
	ck_assert_int_eq(ferry_transport_register_producer(client.transport, &producer_callbacks, NULL,
	                                                   FERRY_PRODUCER_PUSH),
	                 -EBUSY); /* the user's own producer is still registered */
	pump_until_count(&finished, 1);
	ck_assert_int_eq(finished_status, 0);
	pump_until_length(&server, MUCH);
	recorder_expect_bytes(&server, 0, MUCH);
	ck_assert_int_eq(ferry_transport_unregister_producer(client.transport), 0);
	close_ends();
}

LOOP_TEST(twisted_an_aborted_transfer_is_finished, KINDS)
{
	connect_ends(_i);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(server.transport), 0);
	send_file(8 * MUCH);
	pump_turns(20);
	ck_assert_uint_eq(finished, 0);
	abort_now(&client);
	pump_until_count(&finished, 1);
	ck_assert_int_eq(finished_status, -ECONNABORTED);
	ck_assert_uint_lt(finished_sent, 8 * MUCH);
	ck_assert_int_eq(ferry_transport_resume_reading(server.transport), 0);
	expect_aborted(&client, &server, _i);
}
