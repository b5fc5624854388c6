#include "kernel/in_flight.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/resource.h>

#include "ferry/in_flight.h"

#include "kernel/send_queue.h"

enum {
	/* The kernel charges a sender more than this for each message, until it is read whole. It is 768 for one byte;
	 * unit.kernel.in_flight has the check. */
	MESSAGE_COST = 512,
	LOOKS_PER_ADMISSION = 8, /* at accounts of others, which waits for the lock meanwhile */
	TURNS_LOOKED_AT = 64     /* of the queue; those of other threads come first if it is longer */
};

struct in_flight_turn {
	TAILQ_ENTRY(in_flight_turn) link;
	struct in_flight *account;
	bool queued;
	uint64_t ticket;  /* lower ones came before */
	pthread_t thread; /* the one that tried */
	void (*wake)(void *argument);
	void *argument;
};

/* The accounts with descriptors in flight, those that were looked at last behind the others. No more than the limit
 * and a message's descriptors. */
static struct {
	pthread_mutex_t lock;
	atomic_uint limit; /* 0: the default, which was not needed yet */
	unsigned int fds;
	unsigned int accounts;
	struct in_flight list; /* the ends of the ring */
	TAILQ_HEAD(in_flight_queue, in_flight_turn) queue;
	uint64_t tickets;
} ledger = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .list = {.previous = &ledger.list, .next = &ledger.list},
    .queue = TAILQ_HEAD_INITIALIZER(ledger.queue),
};

static pthread_once_t fork_watched = PTHREAD_ONCE_INIT;

/* ---- the lock ---- */

static void lock_ledger(void)
{
	pthread_mutex_lock(&ledger.lock);
}

static void unlock_ledger(void)
{
	pthread_mutex_unlock(&ledger.lock);
}

/* Another thread may have the lock at the moment of fork(2), and the child has no such thread. */
static void watch_fork(void)
{
	pthread_atfork(lock_ledger, unlock_ledger, unlock_ledger);
}

void in_flight_start(void)
{
	pthread_once(&fork_watched, watch_fork);
}

/* ---- accounts ---- */

static void append(struct in_flight *account)
{
	account->next = &ledger.list;
	account->previous = ledger.list.previous;
	account->previous->next = account;
	ledger.list.previous = account;
	ledger.accounts++;
}

static void remove_account(struct in_flight *account)
{
	account->previous->next = account->next;
	account->next->previous = account->previous;
	account->previous = account->next = NULL;
	ledger.accounts--;
}

/* The only writer of the counts. */
static inline void set_count(struct in_flight *account, unsigned int fds)
{
	ledger.fds = ledger.fds - in_flight_count(account) + fds;
	atomic_store_explicit(&account->fds, fds, memory_order_relaxed);
	if (fds == 0) {
		account->largest = 0;
		if (account->next != NULL)
			remove_account(account);
	} else if (account->next == NULL) {
		append(account);
	}
}

/* A message leaves the send queue when it was read whole, and its descriptors leave flight before. A socket without
 * a queue has nothing in flight. */
static void look(struct in_flight *account)
{
	if (atomic_load_explicit(&account->sending, memory_order_acquire))
		return;
	int length = send_queue_length(account->fd);
	uint64_t messages = length > 0 ? (uint64_t)length / MESSAGE_COST : 0;

	if (messages * account->largest < in_flight_count(account))
		set_count(account, (unsigned int)(messages * account->largest));
}

/* ---- the queue ---- */

static struct in_flight_turn *turn_of(const struct in_flight *account)
{
	return account->next == NULL ? account->turn : NULL;
}

static void leave_queue(const struct in_flight *account)
{
	struct in_flight_turn *turn = turn_of(account);

	if (turn == NULL || !turn->queued)
		return;
	TAILQ_REMOVE(&ledger.queue, turn, link);
	turn->queued = false;
}

static void end_turn(struct in_flight *account)
{
	leave_queue(account);
	account->has_turn = false;
	free(turn_of(account));
	if (account->next == NULL)
		account->turn = NULL;
}

/* One that was woken in vain, because several were, has its place again. */
static void enter_queue(struct in_flight_turn *turn, bool again)
{
	struct in_flight_turn *behind = NULL;

	if (again)
		TAILQ_FOREACH (behind, &ledger.queue, link)
			if (behind->ticket > turn->ticket)
				break;
	if (!again)
		turn->ticket = ++ledger.tickets;
	if (behind != NULL)
		TAILQ_INSERT_BEFORE(behind, turn, link);
	else
		TAILQ_INSERT_TAIL(&ledger.queue, turn, link);
	turn->queued = true;
}

/* The first that waited in this thread. Its loop runs in this thread too, or has locks. */
static struct in_flight *first_in_queue(void)
{
	struct in_flight_turn *turn = TAILQ_FIRST(&ledger.queue);

	for (int i = 0; turn != NULL && i < TURNS_LOOKED_AT; i++) {
		if (pthread_equal(turn->thread, pthread_self()))
			return turn->account;
		turn = TAILQ_NEXT(turn, link);
	}
	return NULL;
}

/* It has left the queue: if it does not try any more, nobody waits for it. */
static void wake(struct in_flight *account)
{
	leave_queue(account);
	account->has_turn = true;
	account->turn->wake(account->turn->argument);
}

/* Whether another account is first; that one tries soon. */
static bool yields(const struct in_flight *account)
{
	if (TAILQ_EMPTY(&ledger.queue) || account->has_turn)
		return false;
	struct in_flight *first = first_in_queue();
	if (first == NULL || first == account)
		return false;
	wake(first);
	return true;
}

static void wake_next(void)
{
	struct in_flight *first = TAILQ_EMPTY(&ledger.queue) ? NULL : first_in_queue();

	if (first != NULL)
		wake(first);
}

void in_flight_wait(struct in_flight *account, void (*wake_cb)(void *argument), void *argument)
{
	lock_ledger();
	bool again = account->has_turn && turn_of(account) != NULL;
	if (account->next == NULL && account->turn == NULL)
		account->turn = calloc(1, sizeof(*account->turn));
	struct in_flight_turn *turn = turn_of(account);
	if (turn != NULL) {
		turn->account = account;
		turn->thread = pthread_self();
		turn->wake = wake_cb;
		turn->argument = argument;
		if (!turn->queued)
			enter_queue(turn, again);
	}
	account->has_turn = false;
	unlock_ledger();
}

void in_flight_take_turn(struct in_flight *account)
{
	lock_ledger();
	leave_queue(account);
	account->has_turn = true;
	unlock_ledger();
}

/* ---- admission ---- */

static unsigned int default_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	return limit.rlim_cur >= 2 ? (unsigned int)limit.rlim_cur / 2 : 1;
}

/* If the user sets one meanwhile, that is the limit. */
static unsigned int set_default_limit(void)
{
	unsigned int none = 0;

	atomic_compare_exchange_strong(&ledger.limit, &none, default_limit());
	return atomic_load(&ledger.limit);
}

static unsigned int get_limit(void)
{
	unsigned int limit = atomic_load_explicit(&ledger.limit, memory_order_relaxed);

	return limit != 0 ? limit : set_default_limit();
}

/* An account that is not empty leaves others as much as it has itself: one whose peer has stopped reading keeps no
 * other from going on. The message of an empty account may be larger than the limit, as the kernel permits too. */
static inline bool is_within(const struct in_flight *account, unsigned int fds)
{
	unsigned int limit = get_limit(), own = in_flight_count(account), others = ledger.fds - own;

	return others < limit && (own == 0 || own + fds <= (limit - others) / 2);
}

/* Looks at the account, and then at those that were not looked at for longest, until the message is within the limit. */
static bool find_room(struct in_flight *account, unsigned int fds)
{
	if (in_flight_count(account) > 0)
		look(account);
	for (unsigned int looks = 0; looks < LOOKS_PER_ADMISSION && !is_within(account, fds); looks++) {
		struct in_flight *other = ledger.list.next;
		if (other == &ledger.list)
			break;
		remove_account(other);
		append(other);
		look(other);
	}
	return is_within(account, fds);
}

static void admit(struct in_flight *account, unsigned int fds)
{
	end_turn(account);
	set_count(account, in_flight_count(account) + fds);
	if (account->largest < fds)
		account->largest = fds;
	atomic_store_explicit(&account->sending, true, memory_order_relaxed);
	if (ledger.fds < get_limit())
		wake_next();
}

bool in_flight_admit(struct in_flight *account, int fd, unsigned int fds)
{
	lock_ledger();
	if (account->fd != fd)
		set_count(account, 0); /* the socket was replaced */
	account->fd = fd;
	bool admitted = (is_within(account, fds) || find_room(account, fds)) && !yields(account);
	if (admitted)
		admit(account, fds);
	unlock_ledger();
	return admitted;
}

void in_flight_withdraw(struct in_flight *account, unsigned int fds)
{
	lock_ledger();
	set_count(account, in_flight_count(account) - fds);
	atomic_store_explicit(&account->sending, false, memory_order_relaxed);
	unlock_ledger();
}

void in_flight_forget(struct in_flight *account)
{
	lock_ledger();
	set_count(account, 0);
	end_turn(account);
	unlock_ledger();
}

unsigned int in_flight_share(void)
{
	unsigned int limit = get_limit();

	return limit >= 2 ? limit / 2 : 1;
}

/* ---- what users call ---- */

void ferry_in_flight_set_limit(unsigned int fds)
{
	in_flight_start();
	lock_ledger();
	atomic_store_explicit(&ledger.limit, fds != 0 ? fds : default_limit(), memory_order_relaxed);
	unlock_ledger();
}

int ferry_in_flight_get_info(struct ferry_in_flight_info *info)
{
	if (info == NULL)
		return -EINVAL;
	in_flight_start();
	lock_ledger();
	*info = (struct ferry_in_flight_info){
	    .limit = get_limit(),
	    .fds = ledger.fds,
	    .transports = ledger.accounts,
	};
	unlock_ledger();
	return 0;
}
