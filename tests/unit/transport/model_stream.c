#include "model_stream.h"

#include <string.h>
#include <sys/stat.h>

#include <event2/buffer.h>

#include "model_trace.h"

/* Bytes of all items: those of item n begin at n * ITEM_STEP. */
enum { ITEM_STEP = 977 };
static unsigned char bytes[MODEL_BYTES_MAX + MODEL_ITEMS_MAX * ITEM_STEP];

const unsigned char *model_bytes(unsigned int item)
{
	if (bytes[0] == 0) {
		uint32_t state = 2463534242U;
		for (size_t i = 0; i < sizeof(bytes); i++) {
			state ^= state << 13;
			state ^= state >> 17;
			state ^= state << 5;
			bytes[i] = (unsigned char)(state >> 8);
		}
		bytes[0] = 1;
	}
	return bytes + (size_t)item * ITEM_STEP;
}

void model_stream_open(struct model_stream *stream)
{
	memset(stream, 0, sizeof(*stream));
	stream->arrived = evbuffer_new();
	demand(stream->arrived != NULL, "no memory");
}

void model_stream_close(struct model_stream *stream)
{
	evbuffer_free(stream->arrived);
}

/* ---- the sender ---- */

bool model_stream_has_room(const struct model_stream *stream)
{
	return stream->count < MODEL_ITEMS_MAX;
}

bool model_stream_has_fd_room(const struct model_stream *stream)
{
	return stream->fd_count < MODEL_FDS_MAX;
}

unsigned int model_stream_add(struct model_stream *stream, uint64_t length)
{
	demand(length <= MODEL_BYTES_MAX, "an item of %llu bytes", (unsigned long long)length);
	stream->items[stream->count] =
	    (struct model_item){.length = length, .start = stream->compared + stream->skipped};
	return stream->count++;
}

unsigned int model_stream_add_file(struct model_stream *stream, uint64_t length)
{
	unsigned int item = model_stream_add(stream, length);
	stream->items[item].open = true;
	return item;
}

void model_stream_take_back(struct model_stream *stream, unsigned int item)
{
	demand(item + 1 == stream->count, "a call that failed has run a callback that wrote");
	stream->count--;
}

void model_stream_grow(struct model_stream *stream, unsigned int item, uint64_t length)
{
	stream->items[item].length += length;
	demand(stream->items[item].length <= MODEL_BYTES_MAX, "too long a file");
}

void model_stream_cut(struct model_stream *stream, unsigned int item)
{
	if (stream->items[item].open)
		stream->items[item].cut = true;
}

void model_stream_finish(struct model_stream *stream, unsigned int item, uint64_t length)
{
	struct model_item *file = &stream->items[item];
	demand(file->open, "item %u finished twice", item);
	demand(length <= file->length, "a file sent %llu of %llu bytes", (unsigned long long)length,
	       (unsigned long long)file->length);
	if (item == stream->at)
		demand(length >= stream->offset, "fewer bytes of a file were sent than have arrived");
	file->open = false;
	file->length = length;
}

void model_stream_add_fd(struct model_stream *stream, int fd)
{
	struct stat status;
	demand(fstat(fd, &status) == 0, "the test's own descriptor %d is closed", fd);
	stream->fds[stream->fd_count++] =
	    (struct model_fd){.item = stream->count, .device = status.st_dev, .inode = status.st_ino};
}

void model_stream_take_back_fd(struct model_stream *stream)
{
	stream->fd_count--;
}

/* ---- the receiver ---- */

void model_stream_got_bytes(struct model_stream *stream, struct evbuffer *input, size_t length)
{
	int moved = evbuffer_remove_buffer(input, stream->arrived, length);
	demand(moved == (int)length, "no memory");
	stream->handed += length;
	model_stream_compare(stream);
}

/* The number of a descriptor from the count of those that have arrived. */
static unsigned int fd_number(const struct model_stream *stream, unsigned int arrived)
{
	unsigned int number = arrived;
	for (unsigned int i = 0; i < stream->gap_count; i++)
		if (stream->gaps[i].fds_received <= arrived)
			number += stream->gaps[i].fds;
	return number;
}

void model_stream_got_fd(struct model_stream *stream, int fd, uint64_t bytes_received, size_t left)
{
	unsigned int number = fd_number(stream, stream->fds_handed++);
	struct stat status;

	demand(number < stream->fd_count, "a descriptor that nobody sent");
	struct model_fd *sent = &stream->fds[number];
	demand(fstat(fd, &status) == 0, "descriptor %u arrives closed", number);
	demand(status.st_dev == sent->device && status.st_ino == sent->inode,
	       "another descriptor than number %u", number);
	demand(!sent->arrived, "descriptor %u arrives twice", number);
	sent->arrived = true;
	sent->handed_at = stream->handed;
	sent->offered_at = stream->handed + left;
	sent->read_at = bytes_received;
}

void model_stream_gap(struct model_stream *stream, uint64_t sent, unsigned int fds_sent,
                      uint64_t received, unsigned int fds_received)
{
	uint64_t lost = 0;
	unsigned int fds_lost = 0;

	for (unsigned int i = 0; i < stream->gap_count; i++) {
		lost += stream->gaps[i].bytes;
		fds_lost += stream->gaps[i].fds;
	}
	demand(stream->gap_count < MODEL_GAPS_MAX, "too many gaps");
	demand(sent >= received + lost, "more bytes were received than sent");
	demand(fds_sent >= fds_received + fds_lost, "more descriptors were received than sent");
	stream->gaps[stream->gap_count++] =
	    (struct model_gap){.received = received,
	                       .bytes = sent - received - lost,
	                       .fds_received = fds_received,
	                       .fds = fds_sent - fds_received - fds_lost};
}

/* ---- the comparison ---- */

static void check_fd(struct model_stream *stream, struct model_fd *fd)
{
	uint64_t start = stream->items[fd->item].start;
	uint64_t before = 0, until = 0, read = 0; /* lost bytes, at least and at most */

	for (unsigned int i = 0; i < stream->gap_count; i++) {
		before += stream->gaps[i].received < fd->handed_at ? stream->gaps[i].bytes : 0;
		until += stream->gaps[i].received <= fd->offered_at ? stream->gaps[i].bytes : 0;
		read += stream->gaps[i].received <= fd->read_at ? stream->gaps[i].bytes : 0;
	}
	unsigned int number = (unsigned int)(fd - stream->fds);
	demand(fd->handed_at + before <= start,
	       "descriptor %u comes after %llu bytes, behind its own at %llu", number,
	       (unsigned long long)fd->handed_at, (unsigned long long)start);
	demand(stream->early || fd->read_at + read > start,
	       "descriptor %u comes with %llu bytes, before those of its byte at %llu", number,
	       (unsigned long long)fd->read_at, (unsigned long long)start);
	demand(stream->early || !stream->exact || fd->offered_at + until >= start,
	       "descriptor %u comes after %llu bytes, before its byte at %llu", number,
	       (unsigned long long)fd->offered_at, (unsigned long long)start);
	fd->checked = true;
}

static void check_fds(struct model_stream *stream)
{
	for (unsigned int i = 0; i < stream->fd_count; i++) {
		struct model_fd *fd = &stream->fds[i];
		if (fd->arrived && !fd->checked && fd->item <= stream->at && fd->item < stream->count)
			check_fd(stream, fd);
	}
}

/* Goes on to the item with the next byte. False if it is not certain yet, or there is none. */
static bool find_next(struct model_stream *stream)
{
	while (stream->at < stream->count) {
		const struct model_item *item = &stream->items[stream->at];
		if (item->open && item->cut)
			return false;
		if (stream->offset < item->length)
			return true;
		if (item->open)
			return false;
		stream->at++;
		stream->offset = 0;
		if (stream->at < MODEL_ITEMS_MAX)
			stream->items[stream->at].start = stream->compared + stream->skipped;
	}
	return false;
}

static size_t smaller(uint64_t a, uint64_t b)
{
	return (size_t)(a < b ? a : b);
}

/* The lost bytes of a gap. */
static void skip_lost(struct model_stream *stream)
{
	while (stream->gap < stream->gap_count &&
	       stream->gaps[stream->gap].received == stream->compared)
		stream->gap_left += stream->gaps[stream->gap++].bytes;
	while (stream->gap_left > 0 && find_next(stream)) {
		size_t length =
		    smaller(stream->gap_left, stream->items[stream->at].length - stream->offset);
		stream->gap_left -= length;
		stream->offset += length;
		stream->skipped += length;
	}
}

static size_t compare_some(struct model_stream *stream, size_t length)
{
	static unsigned char block[65536];

	length = smaller(length, sizeof(block));
	length = smaller(length, stream->items[stream->at].length - stream->offset);
	if (stream->gap < stream->gap_count)
		length = smaller(length, stream->gaps[stream->gap].received - stream->compared);
	evbuffer_remove(stream->arrived, block, length);
	if (memcmp(block, model_bytes(stream->at) + stream->offset, length) != 0) {
		size_t i = 0;
		while (block[i] == model_bytes(stream->at)[stream->offset + i])
			i++;
		demand(false, "another byte at %llu, %llu of item %u",
		       (unsigned long long)(stream->compared + i), (unsigned long long)(stream->offset + i),
		       stream->at);
	}
	stream->offset += length;
	stream->compared += length;
	return length;
}

void model_stream_compare(struct model_stream *stream)
{
	for (;;) {
		skip_lost(stream);
		bool certain = find_next(stream);
		check_fds(stream);
		size_t length = evbuffer_get_length(stream->arrived);
		demand(stream->at < stream->count || length == 0, "%zu bytes that nobody wrote", length);
		if (!certain || length == 0 || stream->gap_left > 0)
			return;
		compare_some(stream, length);
	}
}

void model_stream_check_end(struct model_stream *stream, bool all, uint64_t sent)
{
	model_stream_compare(stream);
	demand(evbuffer_get_length(stream->arrived) == 0, "%zu bytes that were not sent",
	       evbuffer_get_length(stream->arrived));
	demand(!all || stream->at == stream->count, "only %u of %u items have arrived, and %llu bytes",
	       stream->at, stream->count, (unsigned long long)stream->offset);
	demand(stream->compared + stream->skipped >= sent, "%llu of the %llu bytes sent have arrived",
	       (unsigned long long)(stream->compared + stream->skipped), (unsigned long long)sent);
	unsigned int arrived = fd_number(stream, stream->fds_handed);
	for (unsigned int i = 0; i < stream->fd_count && all; i++)
		demand(arrived == stream->fd_count || stream->fds[i].item == stream->count,
		       "only %u of %u descriptors have arrived", arrived, stream->fd_count);
}
