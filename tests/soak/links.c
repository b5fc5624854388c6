/* Pairs of transports with bytes, descriptors and files in both directions, each compared with the model of a
 * stream. A pair half-closes or is aborted, and another one follows. */

#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ferry/ferry.h"
#include "model_stream.h"
#include "model_trace.h"
#include "recorder.h"
#include "wire.h"

enum { LINKS = 12, FDS_ON_THE_WAY = 24, LONG = 100 * 1024, SHORT = 3000, PIPEFUL = 4096 };
enum link_kind { LINK_UNIX, LINK_TCP, LINK_PIPES };

struct end {
	struct end *peer;
	struct ferry_transport *transport;
	struct model_stream out; /* what this end sends */
	unsigned int made, read_lost, lost, files, files_finished;
	unsigned int data; /* callbacks with bytes or descriptors */
	int reason;
	unsigned int fds_per_message;
	struct ferry_transport_stats stats;
};

struct link {
	enum link_kind kind;
	bool aborted;
	struct end ends[2];
};

struct file {
	struct end *end;
	unsigned int item;
};

static struct link links[LINKS];

static const struct ferry_transport_stats *look(struct end *end)
{
	ck_assert_int_eq(ferry_transport_get_stats(end->transport, &end->stats), 0);
	return &end->stats;
}

/* ---- callbacks ---- */

static void on_made(struct ferry_transport *transport, void *context)
{
	struct end *end = context;

	demand(end->transport == transport && end->made++ == 0 && end->data == 0, "made twice or late");
}

static void on_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct end *end = context;

	demand(end->transport == transport && end->made == 1 && end->lost == 0, "data at a wrong time");
	end->data++;
	model_stream_got_bytes(&end->peer->out, input, evbuffer_get_length(input));
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct end *end = context;
	size_t left =
	    evbuffer_get_length(bufferevent_get_input(ferry_transport_get_bufferevent(transport)));

	demand(end->transport == transport && end->made == 1 && end->lost == 0, "fd at a wrong time");
	end->data++;
	model_stream_got_fd(&end->peer->out, fd, look(end)->bytes_received, left);
	soak_totals.descriptors++;
	close(fd);
}

static void on_read_lost(struct ferry_transport *transport, void *context)
{
	struct end *end = context;

	demand(end->transport == transport && end->made == 1 && end->read_lost++ == 0 && end->lost == 0,
	       "the peer's end comes twice or late");
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct end *end = context;

	demand(end->transport == transport && end->lost++ == 0, "lost twice");
	end->reason = reason;
}

static const struct ferry_protocol protocol = {
    .connection_made = on_made,
    .data_received = on_data,
    .file_descriptor_received = on_fd,
    .read_connection_lost = on_read_lost,
    .connection_lost = on_lost,
};

static void on_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	struct file *file = context;

	(void)producer;
	demand(status == 0 || file->end->lost > 0 || status == -ECONNABORTED || status == -EPIPE ||
	           status == -ECONNRESET,
	       "a file ends with %d", status);
	model_stream_finish(&file->end->out, file->item, sent);
	file->end->files_finished++;
	soak_totals.files += status == 0;
	free(file);
}

static const struct ferry_file_callbacks file_callbacks = {.finished = on_finished};

/* ---- opened and closed ---- */

static void open_end(struct end *end, struct end *peer, int read_fd, int write_fd)
{
	memset(end, 0, sizeof(*end));
	end->peer = peer;
	end->fds_per_message = WIRE_MAX_FDS;
	if (read_fd == write_fd)
		end->transport = make_transport(read_fd);
	else
		ck_assert_int_eq(ferry_transport_new_pipes(&end->transport, base, read_fd, write_fd), 0);
	ck_assert_int_eq(ferry_transport_set_protocol(end->transport, &protocol, end), 0);
	model_stream_open(&end->out);
}

static void open_link(struct link *link, enum link_kind kind)
{
	int there[2], back[2];

	link->kind = kind;
	link->aborted = false;
	if (kind == LINK_PIPES) {
		make_pipe(there);
		make_pipe(back);
	} else {
		make_pair(kind == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, there);
		memcpy(back, (int[]){there[1], there[0]}, sizeof(back));
	}
	if (kind == LINK_UNIX && one_in(3))
		wire_shrink(there[0]);
	/* On sockets each end reads and writes the same descriptor. */
	if (kind == LINK_PIPES) {
		open_end(&link->ends[0], &link->ends[1], back[0], there[1]);
		open_end(&link->ends[1], &link->ends[0], there[0], back[1]);
	} else {
		open_end(&link->ends[0], &link->ends[1], there[0], there[0]);
		open_end(&link->ends[1], &link->ends[0], there[1], there[1]);
	}
	soak_totals.connections++;
}

static bool is_over(void *argument)
{
	const struct link *link = argument;

	return link->ends[0].lost > 0 && link->ends[1].lost > 0 &&
	       link->ends[0].files_finished == link->ends[0].files &&
	       link->ends[1].files_finished == link->ends[1].files;
}

static void check_counters(struct link *link)
{
	for (int n = 0; n < 2; n++) {
		const struct ferry_transport_stats *from = look(&link->ends[n]),
		                                   *to = look(&link->ends[!n]);
		demand(to->bytes_received <= from->bytes_sent, "more bytes were received than sent");
		demand(to->fds_received <= from->fds_sent, "more descriptors were received than sent");
		demand(link->ends[n].out.fds_handed <= to->fds_received, "descriptors that nobody read");
		demand(link->ends[n].out.handed <= to->bytes_received, "bytes that nobody read");
		demand(from->file_bytes_sent <= from->bytes_sent, "more bytes of files than bytes");
		demand(from->fds_queued <= from->fds_queued_max &&
		           from->bytes_queued <= from->bytes_queued_max,
		       "the most is less than now");
		demand(to->fds_unclaimed + to->fds_lost + to->controls_ignored == 0, "descriptors lost");
	}
}

/* After an orderly end, everything has arrived, and the counters of both ends are equal. */
static void check_end(struct link *link, int n)
{
	struct end *from = &link->ends[n];
	const struct ferry_transport_stats *sent = look(from), *received = look(from->peer);

	if (!link->aborted) {
		demand(from->reason == 0, "an orderly end with %d", from->reason);
		demand(sent->bytes_sent == received->bytes_received &&
		           received->bytes_received == from->out.compared,
		       "bytes are missing");
		demand(sent->fds_sent == from->out.fd_count && received->fds_received == sent->fds_sent,
		       "descriptors are missing");
		demand(sent->files_sent == from->files, "files are missing");
		demand(sent->fds_unsent == 0, "descriptors were not sent");
	}
	demand(sent->bytes_queued + sent->fds_queued + sent->files_queued == 0, "queued at the end");
	model_stream_check_end(&from->out, !link->aborted, 0);
	soak_totals.bytes += from->out.compared;
}

static void free_link(struct link *link)
{
	check_counters(link);
	for (int n = 0; n < 2; n++)
		check_end(link, n);
	for (int n = 0; n < 2; n++) {
		ferry_transport_free(link->ends[n].transport);
		model_stream_close(&link->ends[n].out);
		link->ends[n].transport = NULL;
	}
}

static void write_item(struct end *end, size_t length)
{
	unsigned int item = model_stream_add(&end->out, length);
	int status = ferry_transport_write(end->transport, model_bytes(item), length);

	demand(status == 0, "write: %d", status);
}

/* The last item is a byte, for the descriptors before it: each stream keeps room for it. */
static void end_link(struct link *link, bool abort)
{
	for (int n = 0; n < 2; n++)
		ferry_transport_resume_reading(link->ends[n].transport);
	link->aborted = abort;
	if (abort) {
		ck_assert_int_eq(ferry_transport_abort_connection(link->ends[0].transport), 0);
	} else {
		for (int n = 0; n < 2; n++) {
			write_item(&link->ends[n], 1);
			ck_assert_int_eq(ferry_transport_lose_write_connection(link->ends[n].transport), 0);
		}
	}
	pump_until(is_over, link);
	free_link(link);
}

/* ---- the steps ---- */

static void send_descriptor(struct end *end)
{
	if (!model_stream_has_fd_room(&end->out) ||
	    end->out.fd_count - end->out.fds_handed >= FDS_ON_THE_WAY)
		return;
	int fd = make_marked_fd(end->out.fd_count);
	model_stream_add_fd(&end->out, fd);
	bool copy = one_in(2);
	int status = ferry_transport_send_fd(end->transport, fd, copy ? FERRY_FD_DUP : FERRY_FD_TAKE);
	if (status < 0)
		model_stream_take_back_fd(&end->out);
	/* As many as one message carries wait for the same byte. */
	demand(status == 0 || (status == -ENOBUFS && end->fds_per_message < FDS_ON_THE_WAY),
	       "send_fd: %d", status);
	if (copy || status < 0)
		close(fd);
}

static int make_source(const unsigned char *bytes, size_t length)
{
	int fds[2];

	if (length <= PIPEFUL && one_in(2)) {
		make_pipe(fds);
		ck_assert_int_eq(write(fds[1], bytes, length), (ssize_t)length);
		close(fds[1]);
		return fds[0];
	}
	fds[0] = one_in(2) ? memfd_create("ferry-soak", MFD_CLOEXEC) : make_file(0);
	ck_assert_int_ge(fds[0], 0);
	ck_assert_int_eq(pwrite(fds[0], bytes, length, 0), (ssize_t)length);
	return fds[0];
}

static void send_file(struct end *end)
{
	size_t length = support_random_below(one_in(4) ? 2 * LONG : SHORT);
	unsigned int item = model_stream_add_file(&end->out, length);
	struct file *file = malloc(sizeof(*file));
	int fd = make_source(model_bytes(item), length);

	ck_assert_ptr_nonnull(file);
	*file = (struct file){end, item};
	end->files++;
	int status = ferry_transport_send_file(NULL, end->transport, fd, FERRY_FD_TAKE, 0, FERRY_TO_END,
	                                       one_in(3) ? FERRY_FILE_COPY : 0, &file_callbacks, file);
	demand(status == 0, "send_file: %d", status);
}

static void tune(struct end *end)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(end->transport);

	bufferevent_set_max_single_read(bev, one_in(2) ? 300 + support_random_below(4000) : 256 * 1024);
	bufferevent_set_max_single_write(bev,
	                                 one_in(2) ? 300 + support_random_below(4000) : 256 * 1024);
	end->fds_per_message = 1 + support_random_below(one_in(2) ? 4 : WIRE_MAX_FDS);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(end->transport, end->fds_per_message),
	                 0);
}

static void flush(struct end *end)
{
	int status = ferry_transport_flush(end->transport, &(struct timeval){0, 0});

	demand(status == 0 || status == -ETIMEDOUT, "flush: %d", status);
}

static void act(struct link *link, struct end *end)
{
	switch (support_random_below(12)) {
	case 0:
	case 1:
	case 2:
		if (link->kind == LINK_UNIX)
			send_descriptor(end);
		break;
	case 3:
	case 4:
		send_file(end);
		break;
	case 5:
		ck_assert_int_eq(ferry_transport_pause_reading(end->transport), 0);
		break;
	case 6:
		ck_assert_int_eq(ferry_transport_resume_reading(end->transport), 0);
		break;
	case 7:
		tune(end);
		break;
	case 8:
		flush(end);
		break;
	default:
		write_item(end, support_random_below(one_in(10) ? LONG : SHORT));
	}
}

static void step(void)
{
	struct link *link = &links[support_random_below(LINKS)];
	struct end *end = &link->ends[support_random_below(2)];

	/* One more item is the last byte's. */
	bool full = end->out.count + 1 >= MODEL_ITEMS_MAX;
	if (full || one_in(400)) {
		end_link(link, !full && one_in(3));
		open_link(link, link->kind);
		return;
	}
	act(link, end);
	check_counters(link);
}

static void open_all(void)
{
	for (int i = 0; i < LINKS; i++)
		open_link(&links[i], (enum link_kind)(i % 6 < 3   ? LINK_UNIX
		                                      : i % 6 < 5 ? LINK_TCP
		                                                  : LINK_PIPES));
}

static void close_all_links(void)
{
	for (int i = 0; i < LINKS; i++)
		end_link(&links[i], false);
}

static void rest(void)
{
	close_all_links();
	open_all();
}

const struct soak_part soak_links = {"links", 40, open_all, step, rest, close_all_links};
