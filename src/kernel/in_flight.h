#ifndef FERRY_KERNEL_IN_FLIGHT_H
#define FERRY_KERNEL_IN_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>

/*
 * The ledger of descriptors in flight (ferry/in_flight.h): one of the process, because the kernel's limit is one for
 * all threads. Each unix socket has an account in it, and one lock is over all of them.
 *
 * An account counts what was sent. The kernel has no count of what was read, but the length of the send queue shows
 * it: it is asked when an account, or the process, has come to its limit, and never before.
 *
 * Accounts that have nothing in flight, and wait because the process is at its limit, are in a queue. One that finds room
 * leaves it to the first of the queue whose loop the calling thread may wake, and waits.
 */

struct in_flight_turn; /* a place in the queue */

struct in_flight {
	union {
		struct in_flight *previous;
		struct in_flight_turn *turn; /* nothing is in flight; NULL: it has not waited */
	};
	struct in_flight *next; /* NULL: nothing is in flight */
	int fd;                 /* the socket */
	atomic_uint fds;        /* at most so many descriptors are in flight */
	unsigned int largest;   /* no message has more of them */
	atomic_bool sending;    /* the send queue does not have the last message yet */
	bool has_turn;          /* its next message leaves the room to nobody */
};

/* Before any account is used. */
void in_flight_start(void);

/* Whether a message with `fds` descriptors may be sent to the socket `fd` now. If so, they count, and one of the
 * next two calls follows. */
bool in_flight_admit(struct in_flight *account, int fd, unsigned int fds);

/* After a message was not admitted: if nothing of the account is in flight, it enters the queue. `wake` has it try again
 * soon, and is called with the ledger locked. Without memory for it the caller's own timer decides alone. */
void in_flight_wait(struct in_flight *account, void (*wake)(void *argument), void *argument);

/* The account's next message leaves the room that it finds to nobody. */
void in_flight_take_turn(struct in_flight *account);

/* The kernel has taken that message. */
static inline void in_flight_sent(struct in_flight *account)
{
	atomic_store_explicit(&account->sending, false, memory_order_release);
}

/* The kernel has not. */
void in_flight_withdraw(struct in_flight *account, unsigned int fds);

/* The count of an account. */
static inline unsigned int in_flight_count(const struct in_flight *account)
{
	return atomic_load_explicit(&account->fds, memory_order_relaxed);
}

/* Closes the account: it no longer counts, and its memory is the owner's again. */
void in_flight_forget(struct in_flight *account);

/* A message should have no more descriptors than this, if it need not: it would have to wait until the account is
 * empty. */
unsigned int in_flight_share(void);

#endif
