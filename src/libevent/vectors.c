#include "libevent/vectors.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "libevent/segments.h"

/* Copies the part into the pieces that have room left. */
static void append(struct evbuffer_iovec room[VECTORS_PIECES], const struct iovec *part)
{
	const unsigned char *bytes = part->iov_base;
	size_t length = part->iov_len;

	for (int i = 0; i < VECTORS_PIECES && room[i].iov_base != NULL && length > 0; i++) {
		size_t step = room[i].iov_len < length ? room[i].iov_len : length;
		if (step == 0)
			continue;
		memcpy(room[i].iov_base, bytes, step);
		room[i].iov_base = (unsigned char *)room[i].iov_base + step;
		room[i].iov_len -= step;
		bytes += step;
		length -= step;
	}
}

ssize_t vectors_length(const struct iovec *parts, size_t count)
{
	size_t length = 0;

	if (parts == NULL && count > 0)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].iov_len > SSIZE_MAX - length ||
		    (parts[i].iov_base == NULL && parts[i].iov_len > 0))
			return -EINVAL;
		length += parts[i].iov_len;
	}
	return (ssize_t)length;
}

int vectors_reserve(struct evbuffer *buffer, size_t length,
                    struct evbuffer_iovec pieces[VECTORS_PIECES])
{
	/* For one piece libevent may move bytes that are in the buffer. In an empty one it finds it with less work. */
	int count = evbuffer_get_length(buffer) == 0 ? 1 : VECTORS_PIECES;

	return evbuffer_reserve_space(buffer, (ev_ssize_t)length, pieces, count);
}

int vectors_gather_ahead(struct evbuffer *buffer, const struct iovec *head,
                         const struct iovec *parts, size_t count,
                         struct evbuffer_iovec pieces[VECTORS_PIECES])
{
	struct evbuffer_iovec room[VECTORS_PIECES] = {{NULL, 0}, {NULL, 0}};
	size_t left = head->iov_len;
	int used = 0;

	for (size_t i = 0; i < count; i++)
		left += parts[i].iov_len;
	if (evbuffer_reserve_space(buffer, (ev_ssize_t)left, pieces, VECTORS_PIECES) < 1)
		return -ENOMEM;
	while (left > 0 && used < VECTORS_PIECES) {
		/* libevent may return more room than was requested. */
		if (pieces[used].iov_len > left)
			pieces[used].iov_len = left;
		left -= pieces[used].iov_len;
		room[used] = pieces[used];
		used++;
	}
	append(room, head);
	for (size_t i = 0; i < count; i++)
		append(room, &parts[i]);
	return used;
}

int vectors_gather(struct evbuffer *buffer, const struct iovec *parts, size_t count)
{
	struct evbuffer_iovec pieces[VECTORS_PIECES];

	int piece_count = vectors_gather_ahead(buffer, parts, parts + 1, count - 1, pieces);
	if (piece_count < 0)
		return piece_count;
	return evbuffer_commit_space(buffer, pieces, piece_count) == 0 ? 0 : -ENOMEM;
}

int vectors_cut(struct evbuffer_iovec *vectors, int count, size_t length)
{
	for (int i = 0; i < count; i++) {
		if (vectors[i].iov_len >= length) {
			vectors[i].iov_len = length;
			return i + 1;
		}
		length -= vectors[i].iov_len;
	}
	return count;
}

void vectors_view_open(struct vectors_view *view, struct evbuffer *buffer, size_t max)
{
	view->first = 0;
	view->length = 0;
	view->count = evbuffer_peek(buffer, (ev_ssize_t)max, NULL, view->vectors, VECTORS_VIEW_MAX);
	if (view->count > VECTORS_VIEW_MAX)
		view->count = VECTORS_VIEW_MAX;
	view->before_segment = segments_cut(buffer, view->vectors, view->count, &max);
	for (int i = 0; i < view->count; i++) {
		/* evbuffer_peek() returns whole chains, and may exceed `max`. */
		if (view->vectors[i].iov_len > max - view->length)
			view->vectors[i].iov_len = max - view->length;
		view->length += view->vectors[i].iov_len;
	}
}

void vectors_view_skip(struct vectors_view *view, size_t count)
{
	view->length -= count;
	while (count > 0) {
		struct evbuffer_iovec *vector = &view->vectors[view->first];
		size_t step = vector->iov_len < count ? vector->iov_len : count;
		vector->iov_base = (unsigned char *)vector->iov_base + step;
		vector->iov_len -= step;
		count -= step;
		if (vector->iov_len == 0)
			view->first++;
	}
}

int vectors_view_copy(const struct vectors_view *view, size_t length, struct iovec *vectors)
{
	int count = 0;

	for (int i = view->first; i < view->count && length > 0; i++) {
		size_t step = view->vectors[i].iov_len < length ? view->vectors[i].iov_len : length;
		vectors[count++] = (struct iovec){view->vectors[i].iov_base, step};
		length -= step;
	}
	return count;
}
