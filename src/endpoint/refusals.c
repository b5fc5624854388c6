#include "endpoint/refusals.h"

#include "kernel/clock.h"
#include "util/log.h"

void refusals_log(struct refusals *refusals, int fd, uid_t uid, const char *reason)
{
	const int64_t now = clock_now();

	if (now < refusals->next_line) {
		refusals->unlogged++;
		return;
	}
	if (uid != (uid_t)-1)
		log_line(FERRY_LOG_WARNING, "listener %d: a connection of user %lu was refused: %s", fd,
		         (unsigned long)uid, reason);
	else
		log_line(FERRY_LOG_WARNING, "listener %d: a connection was dropped: %s", fd, reason);
	if (refusals->unlogged > 0)
		log_line(FERRY_LOG_WARNING, "listener %d: and %llu connections before it", fd,
		         (unsigned long long)refusals->unlogged);
	refusals->unlogged = 0;
	refusals->next_line = now + CLOCK_SECOND;
}
