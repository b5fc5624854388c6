/* Each allocation of a worker client fails in turn: while it is made, gets a socket, and connects to it. A call that
 * fails changes nothing. Once the calls have succeeded, the client connects, perhaps at a later attempt, and states its
 * credits. */

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "ferry/worker_client.h"

#include "heap.h"
#include "heap_sweep.h"
#include "test.h"

enum { HELLO_BYTES = 40, CREDITS_BYTES = 24, TURNS = 5000 };

static const struct ferry_worker_callbacks callbacks;
static struct ferry_worker_client *client;
static int listening = -1, accepted = -1;
static int added; /* what the calls have returned */
static unsigned int failed;

static void note_failure(struct ferry_worker_client *from, const char *at, int reason,
                         void *context)
{
	(void)from, (void)at, (void)context;
	must(reason == -ENOMEM);
	failed++;
}

static void listen_there(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *name = own_abstract_name();
	memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	must(bind(listening, (struct sockaddr *)&address, length) == 0);
	must(listen(listening, 16) == 0);
}

static int make_client(struct event_base *loop)
{
	const struct timeval pause = {.tv_usec = 1};
	int status = ferry_worker_client_new(&client, loop, &callbacks, NULL);
	if (status < 0)
		return status;
	must(ferry_worker_client_set_pauses(client, &pause, &pause) == 0);
	must(ferry_worker_client_set_failed_cb(client, note_failure, NULL) == 0);
	must(ferry_worker_client_set_credits(client, 7) == 0);
	status = ferry_worker_client_allow_uid(client, geteuid());
	return status == 0 ? ferry_worker_client_add_unix(client, own_abstract_name()) : status;
}

/* Bytes that the kernel has for the dispatcher, of a connection that may end: then the next one counts. */
static ssize_t count_bytes(void)
{
	char bytes[HELLO_BYTES + CREDITS_BYTES + 1];
	if (accepted < 0)
		accepted = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ssize_t length = recv(accepted, bytes, sizeof(bytes), MSG_PEEK);
	if (accepted >= 0 && length == 0) {
		close(accepted);
		accepted = -1;
	}
	return length;
}

static void connect_client(struct event_base *loop)
{
	failed = 0;
	listen_there();
	added = make_client(loop);
	must(added == 0 || added == -ENOMEM);
	for (int i = 0; added == 0 && i < TURNS && count_bytes() < HELLO_BYTES + CREDITS_BYTES; i++)
		must(event_base_loop(loop, EVLOOP_ONCE) == 0);
}

static void judge(unsigned long failing)
{
	ck_assert(added == 0 || failing > 0);
	if (added == 0)
		ck_assert_int_eq(count_bytes(), HELLO_BYTES + CREDITS_BYTES);
	ck_assert_uint_le(failed, 1);
	ferry_worker_client_free(client);
	client = NULL;
	close(listening);
	if (accepted >= 0)
		close(accepted);
	accepted = -1;
}

TEST(every_allocation_on_the_way_to_a_dispatcher_may_fail)
{
	sweep_scenario(connect_client, judge, 8);
}

BEFORE_ALL
{
	heap_take_over();
}
