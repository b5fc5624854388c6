#include "programs/ferry-proxy/sorted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 8 };

static int need_room(struct sorted *array, size_t size)
{
	if (array->count < array->room)
		return 0;
	const size_t room = array->room > 0 ? 2 * array->room : ROOM_MIN;
	void *items = reallocarray(array->items, room, size);
	if (items == NULL)
		return -ENOMEM;
	array->items = items;
	array->room = room;
	return 0;
}

int sorted_insert(struct sorted *array, const void *item, size_t size,
                  int (*compare)(const void *a, const void *b))
{
	size_t at = 0;
	int order = 1;
	while (at < array->count && (order = compare((const char *)array->items + at * size, item)) < 0)
		at++;
	if (at < array->count && order == 0)
		return -EEXIST;
	const int status = need_room(array, size);
	if (status < 0)
		return status;
	char *place = (char *)array->items + at * size;
	memmove(place + size, place, (array->count - at) * size);
	memcpy(place, item, size);
	array->count++;
	return 0;
}
