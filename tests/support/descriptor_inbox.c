#include "descriptor_inbox.h"

#include <errno.h>

#include "recorder.h"
#include "support.h"

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	struct descriptor_inbox *inbox = context;

	ck_assert_ptr_nonnull(inbox);
	ck_assert_ptr_eq(stream, inbox->stream);
	inbox->count++;
	if (inbox->hook != NULL) {
		inbox->hook(inbox, message);
		return;
	}
	ck_assert_ptr_null(inbox->descriptor);
	inbox->status = ferry_descriptor_receive(&inbox->descriptor, message);
	/* Nothing is left in the message, whatever it was. */
	for (size_t i = 0; i < ferry_message_get_fd_count(message); i++)
		ck_assert_int_eq(ferry_message_get_fd(message, i), -ENOENT);
	ck_assert_int_eq(inbox->descriptor != NULL, inbox->status == 0);
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	struct descriptor_inbox *inbox = context;

	(void)stream;
	if (inbox != NULL) {
		inbox->lost++;
		inbox->reason = reason;
	}
}

static const struct ferry_message_callbacks callbacks = {.message_received = on_message,
                                                         .connection_lost = on_lost};

struct ferry_message_stream *open_message_stream(int fd, struct descriptor_inbox *inbox)
{
	struct ferry_message_stream *stream;

	ck_assert_int_eq(ferry_message_stream_new(&stream, make_transport(fd), &callbacks, inbox), 0);
	if (inbox != NULL)
		*inbox = (struct descriptor_inbox){.stream = stream};
	return stream;
}

int inbox_wait(struct descriptor_inbox *inbox)
{
	pump_until_count(&inbox->count, inbox->count + 1);
	return inbox->status;
}

void inbox_discard(struct descriptor_inbox *inbox)
{
	ferry_descriptor_free(inbox->descriptor);
	inbox->descriptor = NULL;
}

void inbox_close(struct descriptor_inbox *inbox)
{
	inbox_discard(inbox);
	ferry_message_stream_free(inbox->stream);
	inbox->stream = NULL;
	pump_turns(3); /* freed streams are finalised by the loop */
}
