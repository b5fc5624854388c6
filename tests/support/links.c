#include "links.h"

#include <unistd.h>

#include "support.h"

struct link links[LINKS_MAX];

static unsigned int opened;

void open_links(unsigned int count)
{
	ck_assert_uint_le(count, LINKS_MAX);
	for (opened = 0; opened < count; opened++) {
		int ends[2];
		make_pair(PAIR_UNIX, ends);
		links[opened] = (struct link){.far = ends[1]};
		recorder_open(&links[opened].near, ends[0], &recorder_protocol);
	}
	pump_turns(2);
}

void open_limited_links(unsigned int count, unsigned int limit)
{
	ferry_in_flight_set_limit(limit);
	open_links(count);
}

void close_far_of(struct link *link)
{
	if (link->far >= 0)
		close(link->far);
	link->far = -1;
}

void close_links(void)
{
	for (unsigned int i = 0; i < opened; i++) {
		recorder_close(&links[i].near);
		close_far_of(&links[i]);
	}
	pump_turns(2);
}
