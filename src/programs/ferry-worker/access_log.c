#include "programs/ferry-worker/access_log.h"

#include "programs/shared/program.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_MAX = 2048 }; /* bytes of a request line; the rest is cut */

int access_log_open(struct access_log *log, const char *path)
{
	log->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	return log->fd < 0 ? -errno : 0;
}

/* Escapes quotes and backslashes. A request line has no control characters. */
static void quote_request(const char *request, size_t length, char *out)
{
	for (size_t i = 0; i < length && i < REQUEST_MAX; i++) {
		if (request[i] == '"' || request[i] == '\\')
			*out++ = '\\';
		*out++ = request[i];
	}
	*out = '\0';
}

void access_log_add(const struct access_log *log, const char *client, const char *request,
                    size_t request_length, int status, uint64_t length)
{
	char quoted[2 * REQUEST_MAX + 1], date[64], line[sizeof(quoted) + 512];
	struct tm parts;
	time_t now = time(NULL);
	(void)gmtime_r(&now, &parts);
	(void)strftime(date, sizeof(date), "%d/%b/%Y:%H:%M:%S +0000", &parts);
	quote_request(request, request_length, quoted);
	int size = snprintf(line, sizeof(line), "%s - - [%s] \"%s\" %d %" PRIu64 "\n", client, date,
	                    quoted, status, length);
	if (size > 0 && (size_t)size < sizeof(line) && write(log->fd, line, (size_t)size) < 0)
		program_log("the access log: %s", strerror(errno));
}

void access_log_close(struct access_log *log)
{
	if (log->fd >= 0)
		close(log->fd);
	log->fd = -1;
}
