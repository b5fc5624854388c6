/* A server of lines with many idle clients: a client that is silent has no bufferevent and no buffers here, but is
 * parked, in 400 bytes. Each line is answered with its number; "ping" is answered without a wake-up.
 *
 *     ./parking 127.0.0.1:7000 &
 *     socat - TCP:127.0.0.1:7000
 *
 * SIGINT and SIGTERM end it. A server with worker processes hands a client that wakes to one of them, which
 * returns it after its answer: docs/parking.md.
 */

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>
#include <ferry/ferry.h>

enum { LINE_LIMIT = 4096 };

static const struct timeval idle_limit = {.tv_sec = 600};

static void check(int status, const char *subject)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", subject, strerror(-status));
}

/* Collects the input in the handoff, until there is a line. Half a line leaves the deadline as it is. */
static enum ferry_parking_verdict filter(struct ferry_parking *parking,
                                         struct ferry_handoff *handoff,
                                         const struct ferry_parking_event *event, void *context)
{
	char line[LINE_LIMIT];
	size_t length;
	(void)parking, (void)event, (void)context;
	const void *before = ferry_handoff_get_bytes(handoff, &length);
	memcpy(line, before, length); /* never more than this function has put there */
	int fd = ferry_handoff_get_fd(handoff);
	ssize_t more = recv(fd, line + length, sizeof(line) - length, MSG_DONTWAIT);
	length += more > 0 ? (size_t)more : 0;
	bool ping = length == 5 && memcmp(line, "ping\n", 5) == 0;
	if (ferry_handoff_set_bytes(handoff, line, ping ? 0 : length) < 0)
		return FERRY_PARKING_WAKE;
	if (ping && send(fd, "pong\n", 5, MSG_NOSIGNAL) == 5)
		return FERRY_PARKING_RENEW;
	if (memchr(line, '\n', length) != NULL || length == sizeof(line))
		return FERRY_PARKING_WAKE;
	return FERRY_PARKING_STAY;
}

/* Answers the first line, and takes it off. The blob is the number of the client's lines so far. */
static int answer(struct ferry_handoff *handoff)
{
	char text[LINE_LIMIT + 32], line[LINE_LIMIT];
	unsigned int number = 0;
	size_t length, size;
	const void *bytes = ferry_handoff_get_bytes(handoff, &length);
	const void *blob = ferry_handoff_get_blob(handoff, &size);
	memcpy(line, bytes, length);
	const char *end = memchr(line, '\n', length);
	/* Half a line: more has come behind the filter's read. Parked again, it goes back to the filter. */
	if (end == NULL)
		return length < sizeof(line) ? 0 : -EMSGSIZE;
	memcpy(&number, blob, size);
	number++;
	int count = snprintf(text, sizeof(text), "%u %.*s\n", number, (int)(end - line), line);
	/* A client that reads no answers, until the socket is full, is cut. */
	if (send(ferry_handoff_get_fd(handoff), text, (size_t)count, MSG_NOSIGNAL | MSG_DONTWAIT) !=
	    count)
		return -EPIPE;
	size = length - (size_t)(end + 1 - line);
	int status = ferry_handoff_set_bytes(handoff, end + 1, size);
	return status == 0 ? ferry_handoff_set_blob(handoff, &number, sizeof(number)) : status;
}

/* The client has sent a line; or it has gone, was idle for too long, or had to make room for another one. */
static void woken(struct ferry_parking *parking, struct ferry_handoff *handoff,
                  const struct ferry_parking_event *event, void *context)
{
	(void)context;
	/* With more lines in the handoff, it wakes again in the next turn of the loop. */
	if (event->reason != FERRY_PARKING_INPUT || answer(handoff) < 0 ||
	    ferry_parking_park(parking, handoff, -1, &idle_limit, NULL) < 0)
		ferry_handoff_free(handoff);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *parking)
{
	struct ferry_handoff *handoff;
	(void)listener, (void)address, (void)length;
	if (ferry_handoff_new(&handoff, fd) < 0)
		close(fd); /* a call that fails leaves it the caller's */
	else if (ferry_parking_park(parking, handoff, -1, &idle_limit, NULL) < 0)
		ferry_handoff_free(handoff);
}

/* No descriptor slot is free: the client that was idle longest makes room. */
static void accept_failed(struct evconnlistener *listener, void *parking)
{
	(void)listener;
	ferry_parking_evict(parking, 1);
}

static void stop(evutil_socket_t number, short events, void *base)
{
	(void)number, (void)events;
	event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	static const struct ferry_parking_callbacks callbacks = {.filter = filter,
	                                                         .handoff_woken = woken};
	struct sockaddr_storage address;
	struct ferry_parking *parking = NULL;
	struct event *signals[2];
	int length = sizeof(address);
	if (argc != 2 || evutil_parse_sockaddr_port(argv[1], (struct sockaddr *)&address, &length) < 0)
		errx(2, "usage: parking ADDRESS:PORT");
	struct event_base *base = event_base_new();
	check(base != NULL ? ferry_parking_new(&parking, base, &callbacks, NULL) : -ENOMEM, "loop");
	struct evconnlistener *listener = evconnlistener_new_bind(
	    base, accepted, parking, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
	    -1, (struct sockaddr *)&address, length);
	check(listener != NULL ? 0 : -errno, argv[1]);
	evconnlistener_set_error_cb(listener, accept_failed);
	for (int i = 0; i < 2; i++) {
		signals[i] = evsignal_new(base, i == 0 ? SIGINT : SIGTERM, stop, base);
		check(signals[i] != NULL && event_add(signals[i], NULL) == 0 ? 0 : -ENOMEM, "signals");
	}
	event_base_dispatch(base);
	evconnlistener_free(listener);
	ferry_parking_free(parking); /* and closes the clients */
	event_free(signals[0]);
	event_free(signals[1]);
	event_base_free(base);
	return EXIT_SUCCESS;
}
