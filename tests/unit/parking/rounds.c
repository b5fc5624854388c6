/* A hundred kept connections and two workers. A connection is parked between two requests, and goes to whichever
 * worker is next. No byte is lost, also where a request comes in pieces. */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/util.h>

#include "ferry/dispatcher.h"
#include "ferry/parking.h"
#include "ferry/worker.h"

#include "handoff_info.h"
#include "test.h"

enum { CONNECTIONS = 100, ROUNDS = 3, WORKERS = 2, LINE_MAX_BYTES = 3000 };

static struct ferry_dispatcher *dispatcher;
static struct ferry_parking *parking;
static struct ferry_worker *workers[WORKERS];
static unsigned int served[WORKERS], ready, ended, answered;
static bool clients_stay;

/* ---- the workers: each answers a line with the same line ---- */

struct service {
	struct ferry_worker *worker;
	uint64_t id;
	unsigned char lines; /* of this connection, answered by any worker */
};

static void give_back(struct bufferevent *bev, void *context)
{
	struct service *service = context;
	struct ferry_handoff *handoff = NULL;

	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, &service->lines, 1), 0);
	ck_assert_int_eq(ferry_worker_return(service->worker, service->id, handoff), 0);
	bufferevent_free(bev);
	free(service);
}

static void serve(struct bufferevent *bev, void *context)
{
	struct service *service = context;
	size_t length;
	char *line = evbuffer_readln(bufferevent_get_input(bev), &length, EVBUFFER_EOL_LF);

	if (line == NULL)
		return;
	service->lines++;
	served[service->worker == workers[1]]++;
	bufferevent_disable(bev, EV_READ);
	bufferevent_setcb(bev, NULL, give_back, NULL, service);
	bufferevent_write(bev, line, length);
	bufferevent_write(bev, "\n", 1);
	free(line);
}

static void on_received(struct ferry_worker *worker, struct ferry_handoff *handoff, void *context)
{
	struct service *service = calloc(1, sizeof(*service));
	struct bufferevent *bev = NULL;
	size_t length;
	const unsigned char *lines = ferry_handoff_get_blob(handoff, &length);

	(void)context;
	service->worker = worker;
	service->id = handoff_info(handoff).id;
	service->lines = length == 1 ? *lines : 0;
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	bufferevent_setcb(bev, serve, NULL, NULL, service);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = on_received};

/* ---- the dispatcher's owner ---- */

static void never(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                  enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)from, (void)handoff, (void)context;
	ck_abort_msg("outcome %d, reason %d", (int)outcome, reason);
}

static void on_ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                     void *context)
{
	(void)from, (void)worker, (void)context;
	ready++;
}

static void on_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                        struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)worker, (void)context;
	void *client = handoff_info(handoff).context;
	ck_assert_int_eq(ferry_parking_park(parking, handoff, -1, &(struct timeval){100, 0}, client),
	                 0);
}

static void on_woken(struct ferry_parking *from, struct ferry_handoff *handoff,
                     const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)context;
	const struct ferry_handoff_info info = handoff_info(handoff);

	if (event->reason == FERRY_PARKING_ENDED) {
		ck_assert(!clients_stay);
		ck_assert_uint_eq(info.returned, ROUNDS);
		ended++;
		ferry_handoff_free(handoff);
		return;
	}
	ck_assert_int_eq(event->reason, FERRY_PARKING_INPUT);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, never, info.context), 0);
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_ready = on_ready,
    .handoff_returned = on_returned,
};
static const struct ferry_parking_callbacks parking_callbacks = {.handoff_woken = on_woken};

/* ---- the clients ---- */

static struct client {
	struct bufferevent *bev;
	char text[ROUNDS * LINE_MAX_BYTES];
	size_t length, ends[ROUNDS]; /* of the text; the position behind each line */
	size_t sent, got;
	unsigned int round;
} all[CONNECTIONS];

/* The rest of this line, and now and then the beginning of the next one. */
static void ask(struct client *client)
{
	size_t end = client->ends[client->round];

	if (client->round + 1 < ROUNDS && support_random_below(2) == 0)
		end += support_random_below((uint32_t)(client->ends[client->round + 1] - end));
	bufferevent_write(client->bev, client->text + client->sent, end - client->sent);
	client->sent = end;
}

static void on_answer(struct bufferevent *bev, void *context)
{
	struct client *client = context;
	char bytes[LINE_MAX_BYTES];
	size_t length = bufferevent_read(bev, bytes, sizeof(bytes));

	ck_assert_uint_le(client->got + length, client->ends[client->round]);
	ck_assert_mem_eq(bytes, client->text + client->got, length);
	client->got += length;
	if (client->got < client->ends[client->round])
		return;
	answered++;
	if (++client->round < ROUNDS)
		ask(client);
}

static void on_client_event(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)context;
	ck_abort_msg("a connection was cut: %d", what);
}

static void write_text(struct client *client)
{
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t length = support_random_below(LINE_MAX_BYTES - 1);
		for (uint32_t at = 0; at < length; at++)
			client->text[client->length++] = (char)('a' + support_random_below(26));
		client->text[client->length++] = '\n';
		client->ends[i] = client->length;
	}
}

static void open_client(struct client *client)
{
	struct ferry_handoff *handoff = NULL;
	int ends[2];

	make_pair(PAIR_TCP, ends);
	write_text(client);
	client->bev = bufferevent_socket_new(base, ends[1], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(client->bev, on_answer, NULL, on_client_event, client);
	bufferevent_enable(client->bev, EV_READ | EV_WRITE);
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, -1, NULL, client), 0);
	ask(client);
}

static void open_worker(unsigned int number)
{
	struct ferry_transport *transports[2];
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(
		    ferry_transport_new(&transports[i],
		                        bufferevent_socket_new(base, ends[i], BEV_OPT_CLOSE_ON_FREE)),
		    0);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, transports[0], NULL), 0);
	ck_assert_int_eq(ferry_worker_new(&workers[number], transports[1], &worker_callbacks, NULL), 0);
	/* Fewer than there are connections. */
	ck_assert_int_eq(ferry_worker_set_credits(workers[number], 10), 0);
}

static void close_all(void)
{
	for (unsigned int i = 0; i < WORKERS; i++)
		ferry_worker_free(workers[i]);
	ferry_dispatcher_free(dispatcher);
	ferry_parking_free(parking);
	pump_turns(3);
}

TEST(kept_connections_go_round_between_two_workers_and_lose_no_byte)
{
	struct ferry_parking_stats stats;

	clients_stay = true;
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &dispatcher_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_parking_new(&parking, base, &parking_callbacks, NULL), 0);
	for (unsigned int i = 0; i < WORKERS; i++)
		open_worker(i);
	pump_until_count(&ready, WORKERS);
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		open_client(&all[i]);
	pump_until_count(&answered, CONNECTIONS * ROUNDS);
	clients_stay = false;
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		ck_assert_uint_eq(all[i].got, all[i].length);
		bufferevent_free(all[i].bev);
	}
	pump_until_count(&ended, CONNECTIONS);
	ck_assert_uint_eq(served[0] + served[1], CONNECTIONS * ROUNDS);
	ck_assert_uint_gt(served[0], 0);
	ck_assert_uint_gt(served[1], 0);
	ck_assert_int_eq(ferry_parking_get_stats(parking, &stats), 0);
	ck_assert_uint_eq(stats.parked, CONNECTIONS * (ROUNDS + 1));
	ck_assert_uint_eq(stats.idle, 0);
	close_all();
}
