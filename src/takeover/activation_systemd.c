#include "takeover/activation.h"

#include <errno.h>

#include <systemd/sd-daemon.h>

int activation_read(char ***names, bool unset)
{
	const int count = sd_listen_fds_with_names(unset, names);

	/* It has more words for what is malformed. */
	return count >= 0 || count == -EBADF || count == -ENOMEM ? count : -EINVAL;
}
