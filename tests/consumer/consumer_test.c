/* The smallest test of a user's program: a transport whose far end the test holds. */

#include <ferry/ferry.h>
#include <ferry/testing.h>

#include <event2/buffer.h>
#include <event2/event.h>

int main(void)
{
	struct event_base *base = event_base_new();
	struct ferry_testing *far;

	if (base == NULL || ferry_testing_new(&far, base) != 0)
		return 1;
	struct ferry_transport *transport = ferry_testing_get_transport(far);
	if (ferry_transport_write(transport, "hello", 5) != 0 || ferry_testing_pump(far) != 0)
		return 1;
	int status = evbuffer_get_length(ferry_testing_get_written(far)) == 5 ? 0 : 1;
	ferry_transport_free(transport);
	ferry_testing_free(far);
	event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
	return status;
}
