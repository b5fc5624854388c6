/* Supervised processes that serve an echo, are replaced while they serve, and killed. */

#include "soak.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervised.h"
#include "wire.h"

enum { WORKERS = 2, CLIENTS = 12, BURST = 500, WINDOW = 4000 };

static struct client {
	int fd; /* -1: none */
	uint64_t sent, received;
} clients[CLIENTS];
static unsigned int cut;

static void close_client(struct client *client)
{
	close(client->fd);
	client->fd = -1;
}

static void read_echo(struct client *client)
{
	ssize_t length = -EAGAIN;

	while (client->fd >= 0 && (length = wire_expect(client->fd, client->received, 16384)) > 0) {
		client->received += (uint64_t)length;
		soak_totals.bytes += (uint64_t)length;
		ck_assert_uint_le(client->received, client->sent);
	}
	if (client->fd < 0 || length == -EAGAIN)
		return;
	/* Only a killed process ends a connection before its client. */
	close_client(client);
	cut++;
	soak_totals.cut++;
}

static void send_some(struct client *client)
{
	unsigned char bytes[BURST];
	size_t length = 1 + support_random_below(BURST);

	if (client->sent - client->received > WINDOW)
		return;
	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(client->sent + i);
	/* The process may have been killed. */
	if (send(client->fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length)
		client->sent += length;
}

static void kill_one(void)
{
	struct ferry_supervisor_place_info info = place_info(support_random_below(WORKERS));

	if (info.state == FERRY_SUPERVISOR_READY && kill(info.pid, SIGKILL) == 0)
		soak_totals.kills++;
}

static void act(struct client *client)
{
	read_echo(client);
	if (client->fd < 0)
		return;
	if (client->received == client->sent && one_in(8))
		close_client(client);
	else
		send_some(client);
}

static void step(void)
{
	struct client *client = &clients[support_random_below(CLIENTS)];

	if (one_in(400))
		kill_one();
	else if (one_in(300))
		ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	else if (client->fd < 0)
		*client = (struct client){.fd = hand_client_off()};
	else
		act(client);
}

static void open_part(void)
{
	const struct timeval late = {1000000, 0};

	use_worker();
	options.workers = WORKERS;
	options.replace_step = 1;
	options.longest_pause = (struct timeval){0, 50000};
	open_supervisor();
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &late, &late), 0);
	for (int i = 0; i < CLIENTS; i++)
		clients[i].fd = -1;
	wait_until_ready(WORKERS);
}

static bool all_have_left(void *argument)
{
	bool left = true;

	(void)argument;
	for (int i = 0; i < CLIENTS; i++) {
		read_echo(&clients[i]);
		if (clients[i].fd >= 0 && clients[i].received == clients[i].sent)
			close_client(&clients[i]);
		left = left && clients[i].fd < 0;
	}
	return left;
}

static bool has_settled(void *argument)
{
	struct ferry_dispatcher_stats stats;

	(void)argument;
	ck_assert_int_eq(ferry_dispatcher_get_stats(dispatcher, &stats), 0);
	return supervisor_stats().ready == WORKERS && notes.started - notes.ended == WORKERS &&
	       stats.queued + stats.outstanding == 0;
}

/* Whoever was cut had been claimed by a process that was killed. */
static void rest(void)
{
	static unsigned int returned;

	pump_until(all_have_left, NULL);
	pump_until(has_settled, NULL);
	ck_assert_uint_le(cut, notes.outcomes[FERRY_HANDOFF_KEPT]);
	ck_assert_uint_eq(notes.outcomes[FERRY_HANDOFF_EXPIRED], 0);
	ck_assert_uint_eq(notes.outcomes[FERRY_HANDOFF_REJECTED], 0);
	ck_assert_uint_eq(notes.failed_starts, 0);
	soak_totals.returns += notes.returned - returned;
	soak_totals.handoffs += notes.returned - returned;
	returned = notes.returned;
	soak_totals.replacements = supervisor_stats().replacements;
	static unsigned int done;
	soak_totals.handoffs += notes.outcomes[FERRY_HANDOFF_DONE] - done;
	done = notes.outcomes[FERRY_HANDOFF_DONE];
}

static void close_part(void)
{
	rest();
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	ck_assert_uint_eq(notes.started, notes.ended);
	close_supervisor();
}

const struct soak_part soak_processes = {"processes", 15, open_part, step, rest, close_part};
