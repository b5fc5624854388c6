#include "parking_place.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handoff_info.h"

struct ferry_parking *parking;
struct parking_notes parking_notes;
int clients[CLIENTS_MAX];

static enum ferry_parking_verdict on_filter(struct ferry_parking *from,
                                            struct ferry_handoff *handoff,
                                            const struct ferry_parking_event *event, void *context)
{
	ck_assert_ptr_eq(from, parking);
	ck_assert_ptr_eq(context, &parking_notes);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -EBUSY);
	parking_notes.filtered++;
	parking_notes.filtered_for = event->reason;
	if (parking_notes.on_filter == NULL)
		return FERRY_PARKING_WAKE;
	return parking_notes.on_filter(handoff, event);
}

static void on_woken(struct ferry_parking *from, struct ferry_handoff *handoff,
                     const struct ferry_parking_event *event, void *context)
{
	ck_assert_ptr_eq(from, parking);
	ck_assert_ptr_eq(context, &parking_notes);
	ck_assert_uint_lt(parking_notes.woken, CLIENTS_MAX);
	struct wake_up *wake_up = &parking_notes.of[parking_notes.woken++];
	*wake_up = (struct wake_up){handoff, *event, handoff_info(handoff).context};
	if (parking_notes.on_woken != NULL)
		parking_notes.on_woken();
}

static const struct ferry_parking_callbacks callbacks = {
    .filter = on_filter,
    .handoff_woken = on_woken,
};
static const struct ferry_parking_callbacks callbacks_without_filter = {
    .handoff_woken = on_woken,
};

static void open_with(const struct ferry_parking_callbacks *table)
{
	memset(&parking_notes, 0, sizeof(parking_notes));
	ck_assert_int_eq(ferry_parking_new(&parking, base, table, &parking_notes), 0);
	ck_assert_int_eq(ferry_parking_set_fd_reserve(parking, 0), 0);
}

void open_parking(void)
{
	open_with(&callbacks);
}

void open_parking_without_filter(void)
{
	open_with(&callbacks_without_filter);
}

void close_parking(void)
{
	ferry_parking_free(parking);
	parking = NULL;
}

struct ferry_parking_stats parking_stats(void)
{
	struct ferry_parking_stats stats;

	ck_assert_int_eq(ferry_parking_get_stats(parking, &stats), 0);
	return stats;
}

struct ferry_handoff *make_client(enum pair_kind kind, unsigned int number)
{
	struct ferry_handoff *handoff = NULL;
	int ends[2];

	make_pair(kind, ends);
	clients[number] = ends[1];
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	return handoff;
}

static struct timeval from_milliseconds(int milliseconds)
{
	return (struct timeval){milliseconds / 1000, milliseconds % 1000 * 1000};
}

int park_client(struct ferry_handoff *handoff, unsigned int number, int milliseconds)
{
	const struct timeval timeout = from_milliseconds(milliseconds);

	return ferry_parking_park(parking, handoff, -1, milliseconds != 0 ? &timeout : NULL,
	                          &clients[number]);
}

void park_new_client(unsigned int number)
{
	ck_assert_int_eq(park_client(make_client(PAIR_UNIX, number), number, 0), 0);
}

int let_client_wait(struct ferry_handoff *handoff, unsigned int number, int milliseconds)
{
	const struct timeval timeout = from_milliseconds(milliseconds);

	return ferry_parking_wait(parking, handoff, -1, milliseconds != 0 ? &timeout : NULL,
	                          &clients[number]);
}

void expect_wake_up(unsigned int index, unsigned int client, enum ferry_parking_reason reason,
                    int error)
{
	pump_until_count(&parking_notes.woken, index + 1);
	const struct wake_up *wake_up = &parking_notes.of[index];
	ck_assert_ptr_eq(wake_up->client, &clients[client]);
	ck_assert_int_eq(wake_up->event.reason, reason);
	ck_assert_int_eq(wake_up->event.error, error);
	ferry_handoff_free(wake_up->handoff);
}

void close_all_clients(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		char byte;
		await_input(clients[i]);
		ssize_t length = recv(clients[i], &byte, 1, MSG_DONTWAIT);
		ck_assert(length == 0 || (length < 0 && errno == ECONNRESET));
		close(clients[i]);
	}
}
