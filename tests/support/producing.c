#include "producing.h"

#include <unistd.h>

#include "support.h"
#include "wire.h"

int producing_ends[2];

struct recorder producing;

struct producer producer;

void producer_resume(void *context)
{
	struct producer *p = context;
	ck_assert_msg(!p->from_loop, "resumed inside a call");
	p->resumed++;
	if (p->on_resume != NULL)
		p->on_resume(p);
}

void producer_pause(void *context)
{
	struct producer *p = context;
	p->paused++;
	if (p->on_pause != NULL)
		p->on_pause(p);
}

static void producer_stop(void *context)
{
	struct producer *p = context;
	ck_assert_uint_eq(producing.lost, 0);
	p->stopped++;
	ck_assert_uint_eq(p->stopped, 1);
	if (p->on_stop != NULL)
		p->on_stop(p);
}

const struct ferry_producer_callbacks producer_callbacks = {
    .resume_producing = producer_resume,
    .pause_producing = producer_pause,
    .stop_producing = producer_stop,
};

void open_producing(void)
{
	make_pair(PAIR_UNIX, producing_ends);
	recorder_open(&producing, producing_ends[0], &recorder_protocol);
	pump_turns(2);
}

void close_producing(void)
{
	recorder_close(&producing);
	if (producing_ends[1] >= 0)
		close(producing_ends[1]);
}

int register_producer(enum ferry_producer_mode mode)
{
	return ferry_transport_register_producer(producing.transport, &producer_callbacks, &producer,
	                                         mode);
}

void open_push(void)
{
	open_producing();
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);
}

void fill_socket(void)
{
	wire_fill(producing_ends[0]);
}

void write_bytes(size_t length)
{
	static char zeros[1 << 20];
	ck_assert_uint_le(length, sizeof(zeros));
	ck_assert_int_eq(ferry_transport_write(producing.transport, zeros, length), 0);
}

void queue_fd(void)
{
	ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(producing.transport, ".", 1), 0);
}

static bool everything_is_sent(void *argument)
{
	(void)argument;
	wire_drain(producing_ends[1]);
	struct ferry_transport_stats stats = stats_of(producing.transport);
	return stats.bytes_queued + stats.fds_queued + stats.files_queued == 0;
}

void pump_until_sent(void)
{
	pump_until(everything_is_sent, NULL);
}
