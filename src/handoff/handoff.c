#include "handoff/handoff.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "kernel/inspect.h"
#include "kernel/socket.h"
#include "libevent/adopt.h"
#include "libevent/rearm.h"
#include "util/hash.h"
#include "util/utf8.h"

/*
 * The object: a descriptor, its identity and its contents, before it is handed off and after it has
 * arrived. The dispatcher follows it between the two.
 */

/* ---- identity ---- */

/*
 * Both ends must find the same identity, whatever they can see of the system. A finer kind than that of
 * fstat(2) needs /proc, which one of two processes may not have. The kind on the wire is therefore the
 * coarse one: a memfd is a FILE, a terminal a DEVICE, an eventfd OTHER. Descriptors that share an
 * inode, as many eventfds do, share an identity.
 */
static int identify_by_stat(int fd, bool is_socket, struct handoff_wire_identity *identity)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return -errno;
	identity->kind = (uint8_t)(is_socket ? FERRY_DESCRIPTOR_SOCKET : inspect_kind_by_stat(&status));
	identity->cookie = status.st_ino;
	identity->device = status.st_dev;
	if (identity->kind == FERRY_DESCRIPTOR_OTHER && inspect_is_io_uring(fd))
		return -EOPNOTSUPP;
	return 0;
}

int handoff_identify(int fd, struct handoff_wire_identity *identity)
{
	uint64_t cookie;
	int status = socket_get_cookie(fd, &cookie);

	if (status == 0) {
		*identity =
		    (struct handoff_wire_identity){.kind = FERRY_DESCRIPTOR_SOCKET, .cookie = cookie};
		return 0;
	}
	/* O_PATH descriptors, which can be sent, are -EBADF too. An error other than -EBADF and -ENOTSOCK
	 * comes from a socket without a cookie. */
	return identify_by_stat(fd, status != -ENOTSOCK && status != -EBADF, identity);
}

bool handoff_is_descriptor(int fd, const struct handoff_wire_identity *identity)
{
	struct handoff_wire_identity own = {0};

	return handoff_identify(fd, &own) == 0 && own.kind == identity->kind &&
	       own.cookie == identity->cookie && own.device == identity->device;
}

/* ---- making and freeing ---- */

/* With room for the event of a parking place. */
static size_t memory_size(void)
{
	size_t parked = offsetof(struct ferry_handoff, parked.event) + event_get_struct_event_size();

	return parked > sizeof(struct ferry_handoff) ? parked : sizeof(struct ferry_handoff);
}

int ferry_handoff_new(struct ferry_handoff **out, int fd)
{
	struct handoff_wire_identity identity;

	if (out == NULL)
		return -EINVAL;
	int status = handoff_identify(fd, &identity);
	if (status < 0)
		return status;
	/* calloc(3) of glibc does not use the thread's cache of free blocks. */
	struct ferry_handoff *handoff = malloc(memory_size());
	if (handoff == NULL)
		return -ENOMEM;
	*handoff = (struct ferry_handoff){.fd = fd, .state = HANDOFF_OWN, .identity = identity};
	*out = handoff;
	return 0;
}

void handoff_view(struct ferry_handoff *handoff, const struct handoff_wire_handoff *wire, int fd)
{
	*handoff = (struct ferry_handoff){
	    .fd = fd,
	    .state = HANDOFF_RECEIVED,
	    .identity = wire->identity,
	    .inet_stream = wire->inet_stream,
	    .name = (char *)wire->name,
	    .bytes = (unsigned char *)wire->bytes,
	    .bytes_length = wire->bytes_length,
	    .blob = (unsigned char *)wire->blob,
	    .blob_length = wire->blob_length,
	    .borrowed = true,
	    .id = wire->id,
	    .attempt = wire->attempt,
	};
}

void handoff_reset(struct ferry_handoff *handoff)
{
	const size_t first = offsetof(struct ferry_handoff, parked);

	memset((unsigned char *)handoff + first, 0, sizeof(*handoff) - first);
	handoff->state = HANDOFF_OWN;
}

void handoff_drop_bytes(struct ferry_handoff *handoff)
{
	if (!handoff->borrowed)
		free(handoff->bytes);
	handoff->bytes = NULL;
	handoff->bytes_length = 0;
}

void handoff_close_fd(struct ferry_handoff *handoff)
{
	int fd = handoff->fd;

	handoff->fd = -1;
	if (fd >= 0)
		close(fd);
}

void handoff_destroy(struct ferry_handoff *handoff)
{
	handoff_close_fd(handoff);
	handoff_drop_bytes(handoff);
	free(handoff->name);
	free(handoff->blob);
	free(handoff);
}

void ferry_handoff_free(struct ferry_handoff *handoff)
{
	if (handoff != NULL && handoff->state == HANDOFF_OWN)
		handoff_destroy(handoff);
}

/* ---- contents ---- */

static bool may_change(const struct ferry_handoff *handoff)
{
	return handoff != NULL && (handoff->state == HANDOFF_OWN || handoff->state == HANDOFF_FILTERED);
}

int ferry_handoff_set_name(struct ferry_handoff *handoff, const char *name)
{
	if (!may_change(handoff) || name == NULL)
		return -EINVAL;
	size_t length = strlen(name);
	if (length > FERRY_HANDOFF_NAME_MAX)
		return -EMSGSIZE;
	if (!utf8_is_valid(name, length))
		return -EINVAL;
	char *copy = malloc(length + 1);
	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, name, length + 1);
	free(handoff->name);
	handoff->name = copy;
	return 0;
}

/* Replaces `*bytes` by a copy of `other`. */
static int replace_bytes(unsigned char **bytes, size_t *bytes_length, const void *other,
                         size_t length)
{
	unsigned char *copy = NULL;

	if (length > 0) {
		copy = malloc(length);
		if (copy == NULL)
			return -ENOMEM;
		memcpy(copy, other, length);
	}
	free(*bytes);
	*bytes = copy;
	*bytes_length = length;
	return 0;
}

int handoff_refill(struct ferry_handoff *handoff, const struct handoff_wire_handoff *wire)
{
	handoff->inet_stream = wire->inet_stream; /* the worker may have made the socket blocking */
	int status =
	    replace_bytes(&handoff->bytes, &handoff->bytes_length, wire->bytes, wire->bytes_length);

	if (status == 0)
		status =
		    replace_bytes(&handoff->blob, &handoff->blob_length, wire->blob, wire->blob_length);
	return status;
}

int ferry_handoff_set_bytes(struct ferry_handoff *handoff, const void *bytes, size_t length)
{
	if (!may_change(handoff) || (bytes == NULL && length > 0))
		return -EINVAL;
	if (length > FERRY_HANDOFF_BYTES_MAX)
		return -EMSGSIZE;
	return replace_bytes(&handoff->bytes, &handoff->bytes_length, bytes, length);
}

int ferry_handoff_set_blob(struct ferry_handoff *handoff, const void *blob, size_t length)
{
	if (!may_change(handoff) || (blob == NULL && length > 0))
		return -EINVAL;
	if (length > FERRY_HANDOFF_BLOB_MAX)
		return -EMSGSIZE;
	return replace_bytes(&handoff->blob, &handoff->blob_length, blob, length);
}

/* FNV-1a, and murmur3's finaliser: every bit of the hash depends on every bit of a short key. */
static uint64_t hash_key(const void *key, size_t length)
{
	uint64_t value = hash_fnv1a(key, length);

	value = (value ^ value >> 33) * UINT64_C(0xff51afd7ed558ccd);
	value = (value ^ value >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return value ^ value >> 33;
}

int ferry_handoff_set_key(struct ferry_handoff *handoff, const void *key, size_t length)
{
	if (!may_change(handoff) || (key == NULL && length > 0))
		return -EINVAL;
	handoff->key = hash_key(key, length);
	handoff->has_key = true;
	return 0;
}

int ferry_handoff_set_inet_stream(struct ferry_handoff *handoff)
{
	if (!may_change(handoff))
		return -EINVAL;
	if (handoff->identity.kind != FERRY_DESCRIPTOR_SOCKET)
		return -ENOTSOCK;
	handoff->inet_stream = true;
	return 0;
}

int ferry_handoff_get_info(const struct ferry_handoff *handoff, struct ferry_handoff_info *info)
{
	if (handoff == NULL || info == NULL)
		return -EINVAL;
	enum ferry_descriptor_kind kind = (enum ferry_descriptor_kind)handoff->identity.kind;
	*info = (struct ferry_handoff_info){
	    .kind = handoff->fd >= 0 ? inspect_kind_in_full(handoff->fd, kind) : kind,
	    .returned = handoff->returned,
	    .context = handoff->context,
	    .idle_msec = (uint64_t)handoff->idle_usec / 1000,
	    .inet_stream = handoff->inet_stream,
	    .name = handoff->name != NULL ? handoff->name : "",
	};
	if (handoff->state == HANDOFF_PARKED || handoff->state == HANDOFF_FILTERED)
		return 0;
	info->attempt = handoff->attempt;
	info->id = handoff->id;
	info->worker = handoff->worker;
	return 0;
}

/* Never NULL. */
static const void *get_part(const unsigned char *bytes, size_t length, size_t *out)
{
	if (out != NULL)
		*out = length;
	return length > 0 ? (const void *)bytes : "";
}

const void *ferry_handoff_get_bytes(const struct ferry_handoff *handoff, size_t *length)
{
	return handoff != NULL ? get_part(handoff->bytes, handoff->bytes_length, length)
	                       : get_part(NULL, 0, length);
}

const void *ferry_handoff_get_blob(const struct ferry_handoff *handoff, size_t *length)
{
	return handoff != NULL ? get_part(handoff->blob, handoff->blob_length, length)
	                       : get_part(NULL, 0, length);
}

/* ---- the descriptor ---- */

/* Whether the user may take the descriptor: 0, -EBUSY or -ENOENT. */
static int check_fd(const struct ferry_handoff *handoff)
{
	switch (handoff->state) {
	case HANDOFF_QUEUED:
	case HANDOFF_SENT:
	case HANDOFF_CLAIMED:
	case HANDOFF_ENDED:
	case HANDOFF_BACK:
	case HANDOFF_PARKED:
	case HANDOFF_FILTERED:
		return -EBUSY;
	case HANDOFF_REJECTED:
		return -ENOENT;
	case HANDOFF_OWN:
	case HANDOFF_NOTIFIED:
	case HANDOFF_RECEIVED:
		break;
	}
	return handoff->fd >= 0 ? 0 : -ENOENT;
}

int ferry_handoff_get_fd(const struct ferry_handoff *handoff)
{
	if (handoff == NULL)
		return -EINVAL;
	return handoff->fd >= 0 ? handoff->fd : -ENOENT;
}

int ferry_handoff_steal_fd(struct ferry_handoff *handoff)
{
	if (handoff == NULL)
		return -EINVAL;
	int status = check_fd(handoff);
	if (status < 0)
		return status;
	int fd = handoff->fd;
	handoff->fd = -1;
	return fd;
}

int ferry_handoff_reject(struct ferry_handoff *handoff, int reason)
{
	if (handoff == NULL || handoff->state != HANDOFF_RECEIVED)
		return -EINVAL;
	if (handoff->fd < 0)
		return -ENOENT;
	handoff->state = HANDOFF_REJECTED;
	handoff->reason = reason;
	return 0;
}

/* ---- bufferevents ---- */

/* Whether the whole of the connection can travel: the socket and its unread input. */
static int check_bufferevent(struct bufferevent *bev)
{
	int status = rearm_examine_stock(bev);
	if (status < 0)
		return status;
	if (evbuffer_get_length(bufferevent_get_output(bev)) > 0)
		return -EBUSY;
	if (evbuffer_get_length(bufferevent_get_input(bev)) > FERRY_HANDOFF_BYTES_MAX)
		return -EMSGSIZE;
	return rearm_is_connecting(bev) ? -ENOTCONN : 0;
}

static int copy_input(struct ferry_handoff *handoff, struct evbuffer *input)
{
	size_t length = evbuffer_get_length(input);

	if (length == 0)
		return 0;
	handoff->bytes = malloc(length);
	if (handoff->bytes == NULL)
		return -ENOMEM;
	handoff->bytes_length = length;
	/* Short only if the user has frozen the input. */
	return evbuffer_copyout(input, handoff->bytes, length) == (ev_ssize_t)length ? 0 : -EINVAL;
}

void handoff_free_without_fd(struct ferry_handoff *handoff)
{
	handoff->fd = -1; /* the caller's */
	ferry_handoff_free(handoff);
}

int handoff_new_with_input(struct ferry_handoff **out, struct bufferevent *bev)
{
	struct ferry_handoff *handoff = NULL;

	int status = ferry_handoff_new(&handoff, bufferevent_getfd(bev));
	if (status < 0)
		return status;
	status = copy_input(handoff, bufferevent_get_input(bev));
	if (status < 0) {
		handoff_free_without_fd(handoff);
		return status;
	}
	*out = handoff;
	return 0;
}

void handoff_empty_bufferevent(struct bufferevent *bev)
{
	struct evbuffer *input = bufferevent_get_input(bev);

	rearm_take_fd(bev);
	evbuffer_drain(input, evbuffer_get_length(input));
}

int ferry_handoff_from_bufferevent(struct ferry_handoff **out, struct bufferevent *bev)
{
	if (out == NULL || bev == NULL)
		return -EINVAL;
	bufferevent_lock(bev);
	int status = check_bufferevent(bev);
	if (status == 0)
		status = handoff_new_with_input(out, bev);
	if (status == 0)
		handoff_empty_bufferevent(bev);
	bufferevent_unlock(bev);
	return status;
}

static int check_socket(const struct ferry_handoff *handoff)
{
	int status = check_fd(handoff);

	if (status == 0 && handoff->identity.kind != FERRY_DESCRIPTOR_SOCKET)
		status = -ENOTSOCK;
	return status;
}

int handoff_to_bufferevent(struct bufferevent **out, struct ferry_handoff *handoff,
                           struct event_base *base, int options)
{
	int status = check_socket(handoff);
	if (status < 0)
		return status;
	status =
	    adopt_bufferevent(out, handoff->fd, base, options, handoff->bytes, handoff->bytes_length);
	if (status == 0)
		handoff->fd = -1;
	return status;
}

void handoff_take_fd_back(struct ferry_handoff *handoff, struct bufferevent *bev)
{
	handoff->fd = bufferevent_getfd(bev);
	handoff_empty_bufferevent(bev);
	bufferevent_free(bev);
}

int ferry_handoff_to_bufferevent(struct bufferevent **out, struct ferry_handoff *handoff,
                                 struct event_base *base, int options)
{
	if (out == NULL || handoff == NULL || base == NULL)
		return -EINVAL;
	struct bufferevent *bev = NULL;
	int status = handoff_to_bufferevent(&bev, handoff, base, options);
	if (status < 0)
		return status;
	if (handoff->bytes_length > 0)
		status = rearm_offer_input(bev);
	if (status < 0) {
		handoff_take_fd_back(handoff, bev);
		return status;
	}
	evutil_make_socket_nonblocking(bufferevent_getfd(bev));
	*out = bev;
	return 0;
}

/* ---- listeners ---- */

int ferry_handoff_from_listener(struct ferry_handoff **out, struct evconnlistener *listener)
{
	if (out == NULL || listener == NULL)
		return -EINVAL;
	int fd = fcntl(evconnlistener_get_fd(listener), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int status = ferry_handoff_new(out, fd);
	if (status < 0) {
		close(fd);
		return status;
	}
	evconnlistener_disable(listener);
	return 0;
}

static int check_listener(const struct ferry_handoff *handoff)
{
	int status = check_socket(handoff);

	if (status < 0)
		return status;
	return socket_is_listening(handoff->fd) > 0 ? 0 : -EINVAL;
}

int ferry_handoff_to_listener(struct evconnlistener **out, struct ferry_handoff *handoff,
                              struct event_base *base, evconnlistener_cb callback, void *context,
                              unsigned int flags)
{
	if (out == NULL || handoff == NULL || base == NULL)
		return -EINVAL;
	int status = check_listener(handoff);
	if (status < 0)
		return status;
	status = adopt_listener(out, handoff->fd, base, callback, context, flags);
	if (status == 0)
		handoff->fd = -1;
	return status;
}
