#include "libevent/adopt.h"

#include <errno.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

/* ---- bufferevents ---- */

static int put_bytes(struct bufferevent *bev, const void *bytes, size_t length)
{
	struct evbuffer *input = bufferevent_get_input(bev);

	if (length == 0)
		return 0;
	evbuffer_unfreeze(input, 0); /* only libevent may add at the end */
	int status = evbuffer_add(input, bytes, length);
	evbuffer_freeze(input, 0);
	return status == 0 ? 0 : -ENOMEM;
}

int adopt_bufferevent(struct bufferevent **out, int fd, struct event_base *base, int options,
                      const void *bytes, size_t length)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, options);
	if (bev == NULL)
		return -ENOMEM;
	bufferevent_lock(bev);
	int status = put_bytes(bev, bytes, length);
	if (status < 0)
		bufferevent_setfd(bev, -1); /* or bufferevent_free() would close it */
	bufferevent_unlock(bev);
	if (status < 0) {
		bufferevent_free(bev);
		return status;
	}
	*out = bev;
	return 0;
}

/* ---- listeners ---- */

static void ignore_listener_event(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

/* evconnlistener_new() does not report a failure to watch its socket. If another event watches the socket
 * already, the listener's own event needs neither memory nor a system call. */
static struct event *watch_before(struct event_base *base, int fd)
{
	struct event *event = event_new(base, fd, EV_READ | EV_PERSIST, ignore_listener_event, NULL);

	if (event != NULL && event_add(event, NULL) < 0) {
		event_free(event);
		return NULL;
	}
	return event;
}

int adopt_listener(struct evconnlistener **out, int fd, struct event_base *base,
                   evconnlistener_cb callback, void *context, unsigned int flags)
{
	struct event *event = watch_before(base, fd);
	if (event == NULL)
		return -ENOMEM;
	/* A backlog of 0 leaves the socket's backlog unchanged. */
	struct evconnlistener *listener = evconnlistener_new(base, callback, context, flags, 0, fd);
	event_free(event);
	if (listener == NULL)
		return -ENOMEM;
	evutil_make_socket_nonblocking(fd);
	*out = listener;
	return 0;
}
