/* Short pieces for the reference: descriptors, messages, files and handoffs. */

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include <ferry/ferry.h>

bool is_regular_file(int fd)
{
	struct ferry_descriptor_info info;

	return ferry_descriptor_inspect(fd, &info) == 0 && info.kind == FERRY_DESCRIPTOR_FILE;
}

/* Takes a connection or a listening socket out of a message, and frees the rest. */
void use_socket(struct ferry_message *message, struct event_base *base, evconnlistener_cb accepted)
{
	struct ferry_descriptor *descriptor;
	struct evconnlistener *listener;
	struct bufferevent *bev;

	if (ferry_descriptor_receive(&descriptor, message) < 0)
		return; /* it is not what the sender has described */
	if (ferry_descriptor_get_info(descriptor)->listening)
		ferry_descriptor_to_listener(&listener, descriptor, base, accepted, NULL,
		                             LEV_OPT_CLOSE_ON_FREE);
	else if (ferry_descriptor_to_bufferevent(&bev, descriptor, base, BEV_OPT_CLOSE_ON_FREE) == 0)
		bufferevent_enable(bev, EV_READ);
	ferry_descriptor_free(descriptor);
}

int keep_descriptor(struct ferry_descriptor *descriptor)
{
	printf("got descriptor %d\n", ferry_descriptor_get_fd(descriptor));
	int fd = ferry_descriptor_steal_fd(descriptor);
	ferry_descriptor_free(descriptor);
	return fd; /* the caller closes it */
}

int bound_messages(struct ferry_message_stream *stream)
{
	int status = ferry_message_stream_set_limits(stream, 65536, 16);

	return status < 0 ? status : ferry_message_stream_set_fd_reserve(stream, 32);
}

void look_at_descriptors(const struct ferry_message *message)
{
	for (size_t i = 0; i < ferry_message_get_fd_count(message); i++) {
		int fd = ferry_message_get_fd(message, i); /* still the message's */
		if (fd == -ENOENT)
			printf("descriptor %zu did not arrive\n", i);
		else if (lseek(fd, 0, SEEK_END) >= 0)
			printf("descriptor %zu is a file\n", i);
	}
}

void pause_download(struct ferry_file_producer *file, bool paused)
{
	if (paused)
		ferry_file_producer_pause(file);
	else
		ferry_file_producer_resume(file);
}

void cancel_download(struct ferry_file_producer *file)
{
	ferry_file_producer_stop(file); /* finished runs from the loop, with -ECANCELED */
}

/* The finished of a pipe that was sent: what was read from it and not sent can go elsewhere. */
void save_rest(struct ferry_file_producer *file, int status, uint64_t sent, void *context)
{
	struct evbuffer *rest = context;

	if (status < 0 && ferry_file_producer_get_unsent(file) > 0 &&
	    ferry_file_producer_take_unsent(file, rest) == 0)
		printf("%llu bytes were sent, %zu are left\n", (unsigned long long)sent,
		       evbuffer_get_length(rest));
}

int hand_off_listener(struct ferry_dispatcher *dispatcher, struct evconnlistener *listener)
{
	struct ferry_handoff *handoff;
	int status = ferry_handoff_from_listener(&handoff, listener); /* a duplicate of its socket */

	if (status == 0)
		status = ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL);
	if (status < 0 && status != -EMFILE)
		evconnlistener_enable(listener);
	return status;
}

struct evconnlistener *accept_in_worker(struct ferry_handoff *handoff, struct event_base *base,
                                        evconnlistener_cb accepted)
{
	struct evconnlistener *listener = NULL;

	ferry_handoff_to_listener(&listener, handoff, base, accepted, NULL, LEV_OPT_CLOSE_ON_FREE);
	return listener;
}
