#include "fd_sender.h"

#include <errno.h>
#include <unistd.h>

#include "support.h"

int sender_ends[2];

struct recorder fd_sender;

void open_fd_sender(void)
{
	make_pair(PAIR_UNIX, sender_ends);
	recorder_open(&fd_sender, sender_ends[0], &recorder_protocol);
}

void close_fd_sender(void)
{
	recorder_close(&fd_sender);
	if (sender_ends[1] >= 0)
		close(sender_ends[1]);
}

void write_byte(void)
{
	ck_assert_int_eq(ferry_transport_write(fd_sender.transport, ".", 1), 0);
}

int send_fd(int fd, enum ferry_fd_ownership ownership)
{
	return ferry_transport_send_fd(fd_sender.transport, fd, ownership);
}

void receive_from_sender(struct wire_read *result)
{
	static char buffer[65536];
	wire_receive(sender_ends[1], buffer, sizeof(buffer), result);
}

void close_receiving_end(void)
{
	close(sender_ends[1]);
	sender_ends[1] = -1;
}

void receive_fd_count(unsigned int count)
{
	while (count > 0) {
		struct wire_read result;
		receive_from_sender(&result);
		if (result.bytes == -EAGAIN)
			pump_turns(1);
		else
			ck_assert_int_gt(result.bytes, 0);
		ck_assert_uint_le(result.fd_count, count);
		count -= (unsigned int)result.fd_count;
		wire_close_fds(&result);
	}
}
