#include "plain_link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "support.h"

struct recorder near;

int far_in = -1, far_out = -1; /* the far end's descriptors; one and the same on a socket */

void open_plain_link_with(int kind, const struct ferry_protocol *protocol)
{
	int fds[2], back[2];
	if (kind == LINK_PIPES) {
		make_pipe(fds);
		make_pipe(back);
		far_in = fds[0];
		far_out = back[1];
		recorder_open_pipes(&near, back[0], fds[1], protocol);
	} else {
		make_pair(kind == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
		far_in = far_out = fds[1];
		recorder_open(&near, fds[0], protocol);
	}
}

void open_plain_link(int kind)
{
	open_plain_link_with(kind, &recorder_protocol);
	pump_turns(2);
}

void close_plain_far(void)
{
	if (far_in >= 0)
		close(far_in);
	if (far_out >= 0 && far_out != far_in)
		close(far_out);
	far_in = far_out = -1;
}

void close_plain_link(void)
{
	recorder_close(&near);
	pump_turns(3);
	close_plain_far();
}

void end_far_output(void)
{
	if (far_out == far_in) {
		ck_assert_int_eq(shutdown(far_out, SHUT_WR), 0);
	} else {
		close(far_out);
		far_out = -1;
	}
}

void write_text(const char *text)
{
	ck_assert_int_eq(ferry_transport_write(near.transport, text, strlen(text)), 0);
}

void expect_far_text(const char *text)
{
	char buffer[256] = {0};
	size_t length = 0;
	while (length < strlen(text)) {
		pump_turns(1);
		ssize_t n = read(far_in, buffer + length, strlen(text) - length);
		ck_assert_int_ne(n, 0);
		if (n > 0)
			length += (size_t)n;
		else
			ck_assert_int_eq(errno, EAGAIN);
	}
	ck_assert_str_eq(buffer, text);
}

int far_end(void)
{
	char byte;
	ssize_t n;
	do {
		pump_turns(1);
		n = read(far_in, &byte, 1);
	} while (n < 0 && errno == EAGAIN);
	ck_assert_int_le(n, 0);
	return n == 0 ? 0 : -errno;
}

void check_lost(int reason)
{
	pump_until_lost(&near);
	ck_assert_int_eq(near.reason, reason);
	pump_turns(5); /* the recorder fails the test if anything follows */
	ck_assert_uint_eq(near.lost, 1);
	ck_assert_uint_eq(near.made, 1);
}
