#include "takeover/activation_reader.h"

#include <errno.h>
#include <stdlib.h>

#include "takeover/socket_set.h"

/* Adds all descriptors, or none: on failure they stay the caller's. */
static int add_activated(struct ferry_socket_set *set, char **names, int count)
{
	int status = 0;

	for (int i = 0; i < count && status == 0; i++)
		status = ferry_socket_set_add(set, names[i], ACTIVATION_FIRST_FD + i, FERRY_FD_TAKE);
	for (size_t i = 0; i < set->count && status != 0; i++)
		set->entries[i].fd = -1;
	return status;
}

int ferry_socket_set_from_environment(struct ferry_socket_set **out, bool unset)
{
	struct ferry_socket_set *set = NULL;
	char **names = NULL;

	if (out == NULL)
		return -EINVAL;
	const int count = activation_read(&names, unset);
	if (count <= 0)
		return count < 0 ? count : -ENOENT;
	int status = ferry_socket_set_new(&set);
	if (status == 0)
		status = add_activated(set, names, count);
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
	if (status == 0)
		*out = set;
	else
		ferry_socket_set_free(set);
	return status;
}
