#include "libevent/segments.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* Numbers that nothing else in a chain or a segment has. No system call gets the descriptor. */
enum { PROBE_FD = 0x2d5e6ec1, PROBE_OFFSET = 0x1a2b3000, PROBE_LENGTH = 0x55aa };

enum {
	HEADER_MAX = 128,        /* bytes of a chain before its extra part */
	SEGMENT_MAX = 32,        /* bytes of a segment before the end of its descriptor */
	CHAIN_SENDFILE = 0x0002, /* the flags of chains in libevent 2.1 and 2.2 */
	CHAIN_REFERENCE = 0x0004,
	CHAIN_FILE_SEGMENT = 0x0001,
	CHAIN_IMMUTABLE = 0x0008,
};

/* The places in bytes, the same for all chains of the process. They are written before `learned`. */
static struct {
	size_t flags;  /* in a chain */
	size_t header; /* the length of a chain's header; then comes the pointer to the segment */
	size_t fd;     /* in a segment */
} places;
static atomic_int learned; /* 0: not yet; 1: one thread is writing them; 2: done */

/* The chain of the byte at `position`. The members of struct evbuffer_ptr are public. */
static const unsigned char *chain_at(struct evbuffer *buffer, size_t position,
                                     struct evbuffer_ptr *pointer)
{
	if (evbuffer_ptr_set(buffer, pointer, position, EVBUFFER_PTR_SET) < 0)
		return NULL;
	return pointer->internal_.chain;
}

static unsigned int word_at(const unsigned char *bytes, size_t place)
{
	unsigned int word;

	memcpy(&word, bytes + place, sizeof(word));
	return word;
}

/* ---- finding the places ---- */

struct chains {
	const unsigned char *plain, *reference, *segment;
};

/* The length of the header: evbuffer_peek() adds it and the offset in the file to the chain's address. */
static int find_header(struct evbuffer *buffer, const unsigned char *chain, size_t *header)
{
	struct evbuffer_iovec pieces[3];

	if (evbuffer_peek(buffer, -1, NULL, pieces, 3) != 3)
		return -ENOTSUP;
	*header = (size_t)((uintptr_t)pieces[2].iov_base - (uintptr_t)chain - PROBE_OFFSET);
	return *header <= HEADER_MAX ? 0 : -ENOTSUP;
}

static const void *pointer_at(const unsigned char *bytes, size_t at)
{
	const void *pointer;

	memcpy(&pointer, bytes + at, sizeof(pointer));
	return pointer;
}

static int find_flags(const struct chains *chains, size_t header, size_t *place)
{
	for (size_t at = 0; at + sizeof(unsigned int) <= header; at += sizeof(unsigned int)) {
		if (word_at(chains->plain, at) == 0 &&
		    word_at(chains->reference, at) == (CHAIN_REFERENCE | CHAIN_IMMUTABLE) &&
		    word_at(chains->segment, at) ==
		        (CHAIN_FILE_SEGMENT | CHAIN_SENDFILE | CHAIN_IMMUTABLE)) {
			*place = at;
			return 0;
		}
	}
	return -ENOTSUP;
}

static int find_fd(const struct evbuffer_file_segment *segment, size_t *place)
{
	const unsigned char *bytes = (const unsigned char *)segment;

	for (size_t at = 0; at < SEGMENT_MAX; at += sizeof(unsigned int)) {
		if (word_at(bytes, at) == PROBE_FD) {
			*place = at;
			return 0;
		}
	}
	return -ENOTSUP;
}

static int find_places(struct evbuffer *buffer, struct evbuffer_file_segment *segment)
{
	struct evbuffer_ptr pointer;
	struct chains chains = {
	    .plain = chain_at(buffer, 0, &pointer),
	    .reference = chain_at(buffer, 1, &pointer),
	    .segment = chain_at(buffer, 2, &pointer),
	};

	if (chains.plain == NULL || chains.reference == NULL || chains.segment == NULL)
		return -ENOTSUP;
	int status = find_header(buffer, chains.segment, &places.header);
	if (status == 0)
		status = find_flags(&chains, places.header, &places.flags);
	if (status == 0)
		status = find_fd(segment, &places.fd);
	if (status == 0 && pointer_at(chains.segment, places.header) != segment)
		status = -ENOTSUP;
	return status;
}

/* A buffer with a chain of each kind that matters. */
static int learn(void)
{
	int status = -ENOMEM;
	struct evbuffer *buffer = evbuffer_new();
	struct evbuffer_file_segment *segment =
	    evbuffer_file_segment_new(PROBE_FD, PROBE_OFFSET, PROBE_LENGTH, EVBUF_FS_DISABLE_LOCKING);

	if (buffer == NULL || segment == NULL)
		goto free_both;
	evbuffer_set_flags(buffer, EVBUFFER_FLAG_DRAINS_TO_FD);
	if (evbuffer_add(buffer, "x", 1) < 0 || evbuffer_add_reference(buffer, "x", 1, NULL, NULL) < 0)
		goto free_both;
	if (evbuffer_add_file_segment(buffer, segment, 0, PROBE_LENGTH) < 0)
		segment = NULL; /* the call has freed it */
	else
		status = find_places(buffer, segment);
free_both:
	if (segment != NULL)
		evbuffer_file_segment_free(segment);
	if (buffer != NULL)
		evbuffer_free(buffer);
	return status;
}

int segments_learn(void)
{
	int expected = 0;

	while (atomic_load_explicit(&learned, memory_order_acquire) != 2) {
		/* Another thread takes some microseconds for it. */
		expected = 0;
		if (!atomic_compare_exchange_strong(&learned, &expected, 1))
			continue;
		int status = learn();
		atomic_store_explicit(&learned, status == 0 ? 2 : 0, memory_order_release);
		if (status < 0)
			return status;
	}
	return 0;
}

/* ---- looking at a buffer ---- */

static bool is_segment(const void *chain)
{
	return (word_at(chain, places.flags) & CHAIN_SENDFILE) != 0;
}

bool segments_cut(struct evbuffer *buffer, const struct evbuffer_iovec *pieces, int count,
                  size_t *length)
{
	struct evbuffer_ptr pointer;
	size_t before = 0;

	if (count == 0 || chain_at(buffer, 0, &pointer) == NULL)
		return false;
	for (int i = 0; i < count && before < *length; i++) {
		/* A pointer into a buffer skips chains that are empty. */
		if (pieces[i].iov_len == 0)
			continue;
		if (is_segment(pointer.internal_.chain)) {
			*length = before;
			return true;
		}
		before += pieces[i].iov_len;
		if (before < *length && i + 1 < count)
			evbuffer_ptr_set(buffer, &pointer, pieces[i].iov_len, EVBUFFER_PTR_ADD);
	}
	return false;
}

bool segments_first(struct evbuffer *buffer, struct segment *out)
{
	struct evbuffer_ptr pointer;
	struct evbuffer_iovec piece = {NULL, 0};
	const unsigned char *segment;

	const unsigned char *chain = chain_at(buffer, 0, &pointer);
	if (chain == NULL || !is_segment(chain) || evbuffer_peek(buffer, 1, &pointer, &piece, 1) < 1)
		return false;
	memcpy(&segment, chain + places.header, sizeof(segment));
	*out = (struct segment){
	    .chain = chain,
	    .fd = (int)word_at(segment, places.fd),
	    .offset = (int64_t)((uintptr_t)piece.iov_base - (uintptr_t)chain - places.header),
	    .length = piece.iov_len,
	};
	return true;
}
