#include "programs/ferry-proxy/idle_clients.h"

#include "programs/shared/program.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <ferry/ferry.h>
#include <ferry/parking.h>

struct idle_clients {
	struct ferry_parking *parking;
	struct timeval timeout;
	const struct idle_clients_callbacks *callbacks;
	void *context;
	unsigned long unserved; /* they had waited for room: they were not idle */
};

int idle_client_describe(struct ferry_handoff *handoff, const struct client_address *address,
                         uint64_t idle_msec)
{
	unsigned char blob[IDLE_CLIENT_BLOB_MAX];
	const uint32_t number = htonl(idle_msec < UINT32_MAX ? (uint32_t)idle_msec : UINT32_MAX);
	memcpy(blob, &number, sizeof(number));
	size_t length = sizeof(number) + client_address_put(address, blob + sizeof(number));
	return ferry_handoff_set_blob(handoff, blob, length);
}

int idle_client_read(const struct ferry_handoff *handoff, struct client_address *address,
                     uint64_t *idle_msec)
{
	size_t length;
	uint32_t number;
	const unsigned char *blob = ferry_handoff_get_blob(handoff, &length);
	if (length < sizeof(number))
		return -EPROTO;
	memcpy(&number, blob, sizeof(number));
	*idle_msec = ntohl(number);
	return client_address_get(address, blob + sizeof(number), length - sizeof(number));
}

static struct client_address address_of(const struct ferry_handoff *handoff)
{
	struct client_address address = {0};
	size_t length;
	const void *blob = ferry_handoff_get_blob(handoff, &length);
	client_address_get(&address, blob, length); /* this process has encoded it */
	return address;
}

static void leave_unserved(struct idle_clients *idle, struct ferry_handoff *handoff,
                           const struct client_address *address)
{
	idle->unserved++;
	idle->callbacks->unserved(handoff, address, idle->context);
}

static void handoff_woken(struct ferry_parking *parking, struct ferry_handoff *handoff,
                          const struct ferry_parking_event *event, void *context)
{
	(void)parking;
	struct idle_clients *idle = context;
	struct client_address address = address_of(handoff);
	size_t length;
	ferry_handoff_get_bytes(handoff, &length);
	if (event->reason == FERRY_PARKING_INPUT)
		idle->callbacks->woken(handoff, &address, idle->context);
	else if (event->reason == FERRY_PARKING_TIMEOUT && length > 0)
		leave_unserved(idle, handoff, &address);
	else
		ferry_handoff_free(handoff);
}

int idle_clients_new(struct idle_clients **out, struct event_base *base, unsigned long limit,
                     const struct timeval *timeout, const struct idle_clients_callbacks *callbacks,
                     void *context)
{
	static const struct ferry_parking_callbacks own = {.handoff_woken = handoff_woken};
	struct idle_clients *idle = malloc(sizeof(*idle));
	if (idle == NULL)
		return -ENOMEM;
	*idle = (struct idle_clients){.timeout = *timeout, .callbacks = callbacks, .context = context};
	int status = ferry_parking_new(&idle->parking, base, &own, idle);
	if (status < 0) {
		free(idle);
		return status;
	}
	ferry_parking_set_limit(idle->parking, limit < UINT_MAX ? (unsigned int)limit : UINT_MAX);
	*out = idle;
	return 0;
}

/* What is left of the timeout; at least a moment, in which a request that is there is read. */
static struct timeval rest_of(const struct timeval *timeout, uint64_t idle_msec)
{
	uint64_t usec = (uint64_t)timeout->tv_sec * 1000000 + (uint64_t)timeout->tv_usec;
	uint64_t left = idle_msec < usec / 1000 ? usec - idle_msec * 1000 : 1;
	return (struct timeval){.tv_sec = (time_t)(left / 1000000),
	                        .tv_usec = (suseconds_t)(left % 1000000)};
}

void idle_clients_add(struct idle_clients *idle, struct ferry_handoff *handoff,
                      const struct client_address *address, uint64_t idle_msec)
{
	struct timeval rest = rest_of(&idle->timeout, idle_msec);
	unsigned char blob[CLIENT_ADDRESS_MAX];
	int status = ferry_handoff_set_blob(handoff, blob, client_address_put(address, blob));
	if (status == 0)
		status =
		    ferry_parking_park(idle->parking, handoff, -1, &rest, (void *)(uintptr_t)idle_msec);
	if (status == 0)
		return;
	program_log("an idle client is closed: %s", strerror(-status));
	ferry_handoff_free(handoff);
}

int idle_clients_wait(struct idle_clients *idle, struct ferry_handoff *handoff,
                      const struct timeval *timeout, unsigned int service)
{
	return ferry_parking_wait(idle->parking, handoff, -1, timeout, (void *)(uintptr_t)service);
}

struct ferry_handoff *idle_clients_take_waiting(struct idle_clients *idle,
                                                struct client_address *address,
                                                unsigned int *service)
{
	struct ferry_handoff *handoff;
	struct ferry_handoff_info info;
	if (ferry_parking_take_waiting(&handoff, idle->parking, NULL) < 0)
		return NULL;
	ferry_handoff_get_info(handoff, &info);
	*address = address_of(handoff);
	*service = (unsigned int)(uintptr_t)info.context;
	return handoff;
}

unsigned long idle_clients_waiting(const struct idle_clients *idle)
{
	struct ferry_parking_stats stats;
	return ferry_parking_get_stats(idle->parking, &stats) == 0 ? stats.waiting : 0;
}

bool idle_clients_drop_one(struct idle_clients *idle)
{
	return ferry_parking_evict(idle->parking, 1) > 0;
}

void idle_clients_close(struct idle_clients *idle)
{
	ferry_parking_evict(idle->parking, UINT_MAX);
}

void idle_clients_give(struct idle_clients *idle, idle_client_moved_cb give, void *context)
{
	struct ferry_handoff *handoff;
	struct ferry_handoff_info info;
	/* `give` may add to them again what it cannot give away. */
	for (unsigned long left = idle_clients_count(idle); left > 0; left--) {
		if (ferry_parking_take_idle(&handoff, idle->parking, NULL) < 0)
			return;
		struct client_address address = address_of(handoff);
		ferry_handoff_get_info(handoff, &info);
		give(handoff, &address, info.idle_msec + (uintptr_t)info.context, context);
	}
}

unsigned long idle_clients_count(const struct idle_clients *idle)
{
	struct ferry_parking_stats stats;
	return ferry_parking_get_stats(idle->parking, &stats) == 0
	           ? stats.idle + stats.pending + stats.waiting
	           : 0;
}

void idle_clients_fill(const struct idle_clients *idle, struct snapshot *snapshot)
{
	struct ferry_parking_stats stats;
	if (ferry_parking_get_stats(idle->parking, &stats) < 0)
		return;
	snapshot->idle = stats.idle;
	snapshot->idle_woken = stats.input;
	snapshot->idle_ended = stats.ended;
	snapshot->idle_expired = stats.expired - idle->unserved;
	snapshot->idle_evicted = stats.evicted;
	snapshot->waiting = stats.waiting;
}

void idle_clients_free(struct idle_clients *idle)
{
	if (idle == NULL)
		return;
	ferry_parking_free(idle->parking);
	free(idle);
}
