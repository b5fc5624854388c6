#include "takeover_pair.h"

#include <string.h>

#include "recorder.h"
#include "support.h"

struct takeover_end old_end, new_end;

struct ferry_socket_set *old_set;

int takeover_fds[2];

void add_to_set(const char *name, int fd)
{
	ck_assert_int_eq(ferry_socket_set_add(old_set, name, fd, FERRY_FD_TAKE), 0);
}

void open_set(void)
{
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&old_set), 0);
	add_to_set("www", listen_tcp());
	add_to_set("control", listen_unix(socket_path));
	add_to_set("www", listen_tcp());
	add_to_set("hidden", listen_abstract());
	ck_assert_int_eq(ferry_socket_set_own_path(old_set, "control"), 0);
}

void close_all(void)
{
	takeover_end_close(&new_end);
	takeover_end_close(&old_end);
	ferry_socket_set_free(old_set);
	old_set = NULL;
	pump_turns(3);
}

void free_takeover(struct takeover_end *end)
{
	ferry_takeover_free(end->takeover);
	end->takeover = NULL;
}
