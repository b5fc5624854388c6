#include "moved_bufferevent.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "recorder.h"
#include "support.h"
#include "wire.h"

int moved_ends[2];

unsigned int moved_reads, moved_writes;

short moved_events;

void (*moved_hook)(struct bufferevent *bev);

static void run_hook(struct bufferevent *bev)
{
	void (*now)(struct bufferevent *) = moved_hook;
	moved_hook = NULL;
	if (now != NULL)
		now(bev);
}

static void on_read(struct bufferevent *bev, void *context)
{
	(void)context;
	moved_reads++;
	run_hook(bev);
}

static void on_write(struct bufferevent *bev, void *context)
{
	(void)context;
	moved_writes++;
	run_hook(bev);
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	(void)context;
	moved_events = (short)(moved_events | what);
	run_hook(bev);
}

void set_callbacks(struct bufferevent *bev)
{
	bufferevent_setcb(bev, on_read, on_write, on_event, NULL);
}

struct bufferevent *make_reader(int options)
{
	make_pair(PAIR_TCP, moved_ends);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, moved_ends[0], BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_ptr_nonnull(bev);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	return bev;
}

size_t input_length(struct bufferevent *bev)
{
	return evbuffer_get_length(bufferevent_get_input(bev));
}

bool input_is_full(void *argument)
{
	void **arguments = argument;
	return input_length(arguments[0]) == *(size_t *)arguments[1];
}

void receive_moved(struct bufferevent *bev, size_t length)
{
	for (size_t sent = 0; sent < length;) {
		size_t step = length - sent < 4096 ? length - sent : 4096;
		wire_put(moved_ends[1], sent, step);
		sent += step;
		pump_until(input_is_full, (void *[]){bev, &sent});
	}
}

void expect_input(struct bufferevent *bev, size_t length)
{
	ck_assert_uint_eq(input_length(bev), length);
	const unsigned char *bytes = evbuffer_pullup(bufferevent_get_input(bev), -1);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq(bytes[i], support_byte(i));
}

void free_bufferevent(struct bufferevent *bev)
{
	bufferevent_free(bev);
	pump_turns(2);
}

static bool points_to(int directory, const char *name, const char *expected)
{
	char target[64];
	ssize_t length = readlinkat(directory, name, target, sizeof(target) - 1);
	target[length > 0 ? length : 0] = '\0';
	return strcmp(target, expected) == 0;
}

static int find_epoll(void)
{
	DIR *fds = opendir("/proc/self/fd");
	struct dirent *entry;
	int found = -1;
	while ((entry = readdir(fds)) != NULL)
		if (points_to(dirfd(fds), entry->d_name, "anon_inode:[eventpoll]"))
			found = atoi(entry->d_name);
	closedir(fds);
	ck_assert_int_ge(found, 0);
	return found;
}

unsigned int epoll_events(int fd)
{
	char path[64], line[256];
	unsigned int found = 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", find_epoll());
	FILE *info = fopen(path, "r");
	ck_assert_ptr_nonnull(info);
	while (fgets(line, sizeof(line), info) != NULL) {
		int target;
		unsigned int mask;
		if (sscanf(line, "tfd: %d events: %x", &target, &mask) == 2 && target == fd)
			found = mask;
	}
	fclose(info);
	return found;
}

struct ferry_handoff *take_bufferevent(struct bufferevent *bev)
{
	struct ferry_handoff *handoff = NULL;
	int fd = bufferevent_getfd(bev);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), 0);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), fd);
	ck_assert_int_eq(bufferevent_getfd(bev), -1);
	ck_assert_int_eq(bufferevent_get_enabled(bev), 0);
	ck_assert_uint_eq(input_length(bev), 0);
	return handoff;
}

void expect_bytes(const struct ferry_handoff *handoff, size_t length)
{
	size_t found;
	const unsigned char *bytes = ferry_handoff_get_bytes(handoff, &found);
	ck_assert_uint_eq(found, length);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq(bytes[i], support_byte(i));
}

const size_t moved_sizes[] = {0, 1, 4096, 10000, FERRY_HANDOFF_BYTES_MAX};
