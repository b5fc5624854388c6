/* The kernel's own limit of descriptors in flight, which holds for a user and spares root: transports and processes of
 * one ordinary user. */

#include <errno.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "children.h"
#include "links.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { LINKS = 4, PROCESSES = 3, MAX_PER_MESSAGE = 4 };

ssize_t __wrap_sendmsg(int socket, const struct msghdr *message, int flags);
ssize_t __real_sendmsg(int socket, const struct msghdr *message, int flags);

static unsigned int refusals; /* by the kernel */

ssize_t __wrap_sendmsg(int socket, const struct msghdr *message, int flags)
{
	ssize_t length = __real_sendmsg(socket, message, flags);

	refusals += length < 0 && errno == ETOOMANYREFS;
	return length;
}

/* Message number n has 1 + n % MAX_PER_MESSAGE descriptors of the file n % 2, and n as its one byte. */
static int files[2];

static unsigned int fds_of(unsigned int number)
{
	return 1 + number % MAX_PER_MESSAGE;
}

/* A user that no other test has, so that what others have in flight changes nothing. */
static void become_ordinary(rlim_t descriptors)
{
	struct rlimit limit = {.rlim_cur = descriptors, .rlim_max = descriptors};
	uid_t uid = 60000 + (uid_t)getppid() % 5000;

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(setresuid(uid, uid, uid), 0);
}

static void open_links_and_files(void)
{
	open_links(LINKS);
	for (int i = 0; i < 2; i++)
		files[i] = make_marked_fd((uint32_t)i);
}

static void close_links_and_files(void)
{
	close_links();
	close(files[0]);
	close(files[1]);
}

/* Queues the next message, if the process has descriptors for it. */
static bool send_message(struct link *link)
{
	unsigned int number = link->sent, fds = fds_of(number);
	char byte = (char)number;

	if (stats_of(link->near.transport).fds_queued > 0)
		return false;
	for (unsigned int i = 0; i < fds; i++)
		if (ferry_transport_send_fd(link->near.transport, files[number % 2], FERRY_FD_DUP) < 0)
			ck_abort_msg("%u descriptors are too many for the queue", fds);
	ck_assert_int_eq(ferry_transport_write(link->near.transport, &byte, 1), 0);
	link->sent++;
	return true;
}

static bool receive_message(struct link *link)
{
	struct wire_read got;
	char byte;

	wire_receive(link->far, &byte, 1, &got);
	if (got.bytes == -EAGAIN)
		return false;
	ck_assert_int_eq(got.bytes, 1);
	ck_assert_int_eq(byte, (char)link->received);
	ck_assert(!got.truncated);
	ck_assert_uint_eq(got.fd_count, fds_of(link->received));
	for (size_t i = 0; i < got.fd_count; i++)
		ck_assert(same_file(got.fds[i], files[link->received % 2]));
	wire_close_fds(&got);
	link->received++;
	return true;
}

/* The peers read nothing until no transport goes on, and then all that there is, in turn. */
static void walk(unsigned int messages)
{
	unsigned int received = 0, idle = 0;

	while (received < LINKS * messages) {
		bool sent = false;
		for (int i = 0; i < LINKS; i++)
			if (links[i].sent < messages)
				sent |= send_message(&links[i]);
		event_base_loop(base, EVLOOP_NONBLOCK);
		idle = sent ? 0 : idle + 1;
		if (idle < 3)
			continue;
		bool got = false;
		for (int i = 0; i < LINKS; i++)
			while (receive_message(&links[i])) {
				received++;
				got = true;
			}
		if (!got && received < LINKS * messages)
			event_base_loop(base, EVLOOP_ONCE);
	}
	for (int i = 0; i < LINKS; i++) {
		ck_assert_uint_eq(links[i].received, messages);
		ck_assert_uint_eq(stats_of(links[i].near.transport).fds_queued, 0);
	}
}

static const rlim_t limits[] = {64, 1024};

/* With so few messages the ordinary sockets are never full. */
static unsigned int messages_for(int limit)
{
	return limits[limit] == 64 ? 100 : 200;
}

TEST_CASE("an ordinary user");

LOOP_TEST(what_the_kernel_refuses_is_sent_later_in_order, COUNT(limits))
{
	become_ordinary(limits[_i]);
	ferry_in_flight_set_limit(UINT_MAX);
	open_links_and_files();
	walk(messages_for(_i));
	ck_assert_uint_gt(refusals, 0);
	close_links_and_files();
}

/* Only root can become a user of whom nothing else is in flight. */
LOOP_TEST(below_the_default_limit_the_kernel_refuses_nothing, COUNT(limits))
{
	if (!is_root())
		return;
	become_ordinary(limits[_i]);
	open_links_and_files();
	walk(messages_for(_i));
	ck_assert_uint_eq(refusals, 0);
	close_links_and_files();
}

/* In each of several processes, which share the kernel's limit. */
LOOP_TEST(processes_of_one_user_wait_for_each_other_and_lose_nothing, COUNT(limits))
{
	pid_t children[PROCESSES];

	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		ck_assert_int_ge(children[i], 0);
		if (children[i] != 0)
			continue;
		ck_assert_int_eq(event_reinit(base), 0);
		become_ordinary(limits[_i]);
		if (i > 0) /* the first one has the default, and meets the refusals of the others */
			ferry_in_flight_set_limit(UINT_MAX);
		open_links_and_files();
		walk(messages_for(_i));
		close_links_and_files();
		_exit(0);
	}
	for (int i = 0; i < PROCESSES; i++) {
		int status;
		ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
		ck_assert_int_eq(status, 0);
	}
}

/* What another process has in flight stops this one, whatever its own limit is. */
TEST(another_process_that_does_not_read_is_waited_for)
{
	int ends[2], fds[MAX_PER_MESSAGE];
	struct wire_read got;
	char byte;

	become_ordinary(64);
	make_pair(PAIR_UNIX, ends);
	open_links_and_files();
	for (int i = 0; i < MAX_PER_MESSAGE; i++)
		fds[i] = files[0];
	while (wire_send(ends[0], "x", 1, fds, MAX_PER_MESSAGE) == 1)
		continue;
	ck_assert_uint_eq(refusals, 1);

	ck_assert(send_message(&links[0]));
	while (refusals < 3)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(stats_of(links[0].near.transport).fds_queued, 1);
	while (wire_receive(ends[1], &byte, 1, &got), got.bytes == 1)
		wire_close_fds(&got);
	while (!receive_message(&links[0]))
		event_base_loop(base, EVLOOP_ONCE);
	close(ends[0]);
	close(ends[1]);
	close_links_and_files();
}
