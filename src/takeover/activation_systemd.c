#include "takeover/activation_reader.h"

#include <errno.h>

#include <systemd/sd-daemon.h>

int activation_read(char ***names, bool unset)
{
	const int count = sd_listen_fds_with_names(unset, names);

	/* sd_listen_fds(3) has several errors for malformed variables. */
	return count >= 0 || count == -EBADF || count == -ENOMEM ? count : -EINVAL;
}
