/* Connections with TLS in the kernel, parked and handed over by a real dispatcher to a real worker, and back. Without
 * such a kernel, all is skipped. */

#include <linux/tls.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "ferry/worker.h"

#include "handoff_info.h"
#include "parking_place.h"
#include "recorder.h"
#include "test.h"
#include "tls_pair.h"
#include "wire.h"

enum { ALERT = 21, HANDSHAKE = 22, ROUNDS = 5, REQUEST = 1000 };

static const unsigned char close_notify[] = {1, 0}, ticket[] = {4, 0, 0, 2, 7, 7};

/* A connection whose far end becomes clients[0]. NULL: skipped. */
static struct ferry_handoff *make_tls_client(void)
{
	struct ferry_handoff *handoff = NULL;
	int ends[2];
	const char *reason = make_tls_pair(ends, TLS_1_3_VERSION);

	clients[0] = ends[1];
	if (reason != NULL) {
		skip("%s", reason);
		close(ends[0]);
		close(ends[1]);
		return NULL;
	}
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	return handoff;
}

TEST_CASE("kernel");

static void put_data(void)
{
	wire_put(clients[0], 0, 10);
}

static void put_ticket(void)
{
	tls_put(clients[0], HANDSHAKE, ticket, sizeof(ticket));
}

static void put_close_notify(void)
{
	tls_put(clients[0], ALERT, close_notify, sizeof(close_notify));
	ck_assert_int_eq(shutdown(clients[0], SHUT_WR), 0);
}

static void cut_off(void)
{
	ck_assert_int_eq(shutdown(clients[0], SHUT_WR), 0);
}

static const struct {
	void (*put)(void);
	enum ferry_parking_reason reason;
} wakes[] = {
    {put_data, FERRY_PARKING_INPUT},
    {put_ticket, FERRY_PARKING_INPUT},
    {put_close_notify, FERRY_PARKING_INPUT},
    {cut_off, FERRY_PARKING_ENDED},
};

/* The next owner reads the record, and knows a close_notify from a connection that was cut off. */
LOOP_TEST(a_record_wakes_whether_it_is_data_or_not, COUNT(wakes))
{
	struct ferry_handoff *handoff = make_tls_client();

	if (handoff == NULL)
		return;
	open_parking_without_filter();
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.woken, 0);
	wakes[_i].put();
	expect_wake_up(0, 0, wakes[_i].reason, 0);
	close_parking();
	close_all_clients(1);
}

/* ---- around ---- */

static struct ferry_dispatcher *dispatcher;
static struct ferry_worker *worker;
static struct recorder recorder; /* of the worker's transport */
static struct ferry_handoff *back;
static unsigned int ready, received, returned;
static uint64_t id;

static void on_ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *at,
                     void *context)
{
	(void)from, (void)at, (void)context;
	ready++;
}

static void on_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *at,
                        struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)at, (void)context;
	returned++;
	back = handoff;
}

static void on_received(struct ferry_worker *from, struct ferry_handoff *handoff, void *context)
{
	struct ferry_transport *transport;

	(void)from, (void)context;
	received++;
	id = handoff_info(handoff).id;
	ck_assert_int_eq(ferry_handoff_to_transport(&transport, handoff, base, BEV_OPT_CLOSE_ON_FREE),
	                 0);
	if (recorder.received == NULL) {
		recorder_attach(&recorder, transport, &recorder_protocol);
	} else {
		recorder.transport = transport;
		recorder.made = 0;
		ck_assert_int_eq(ferry_transport_set_protocol(transport, &recorder_protocol, &recorder), 0);
	}
	ck_assert_uint_eq(stats_of(transport).tls_version, TLS_1_3_VERSION);
}

static void open_channel(void)
{
	static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
	    .worker_ready = on_ready, .handoff_returned = on_returned};
	static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = on_received};
	int ends[2];

	recorder = (struct recorder){0};
	ready = received = returned = 0;
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &dispatcher_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, make_transport(ends[0]), NULL),
	                 0);
	ck_assert_int_eq(ferry_worker_new(&worker, make_transport(ends[1]), &worker_callbacks, NULL),
	                 0);
	pump_until_count(&ready, 1);
}

static void return_connection(void)
{
	struct ferry_handoff *handoff;

	ck_assert_int_eq(ferry_handoff_from_transport(&handoff, recorder.transport), 0);
	recorder.transport = NULL;
	ck_assert_int_eq(ferry_worker_return(worker, id, handoff), 0);
}

/* Each round: a wake-up, a request and its answer in the worker, the way back and the parking. */
TEST(a_connection_is_handed_over_returned_and_parked_again_and_again)
{
	struct ferry_handoff *handoff = make_tls_client();

	if (handoff == NULL)
		return;
	open_parking_without_filter();
	open_channel();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		ck_assert_int_eq(park_client(handoff, 0, 0), 0);
		wire_put(clients[0], round * REQUEST, REQUEST);
		pump_until_count(&parking_notes.woken, round + 1);
		ck_assert_int_eq(parking_notes.of[round].event.reason, FERRY_PARKING_INPUT);
		ck_assert_int_eq(
		    ferry_dispatcher_hand_off(dispatcher, parking_notes.of[round].handoff, NULL, NULL), 0);
		pump_until_count(&received, round + 1);
		pump_until_length(&recorder, (round + 1) * REQUEST);
		ck_assert_int_eq(ferry_transport_write(recorder.transport, "answer", 6), 0);
		while (stats_of(recorder.transport).bytes_queued > 0)
			pump_turns(1);
		return_connection();
		pump_until_count(&returned, round + 1);
		handoff = back;
	}
	recorder_expect_bytes(&recorder, 0, ROUNDS * REQUEST);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		char answer[6];
		unsigned char type;
		ck_assert_int_eq(tls_get(clients[0], answer, sizeof(answer), &type), sizeof(answer));
		ck_assert_mem_eq(answer, "answer", sizeof(answer));
	}
	ferry_handoff_free(handoff);
	ferry_worker_free(worker);
	ferry_dispatcher_free(dispatcher);
	pump_turns(3);
	recorder_close(&recorder);
	close_parking();
	close_all_clients(1);
}
