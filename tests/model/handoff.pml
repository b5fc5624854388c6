/*
 * The handoff: a connection changes its process, and is neither lost nor served twice
 * ==================================================================================
 *
 * A dispatcher gives descriptors to workers over channels, one unix stream socket for each worker. It
 * keeps a copy of each descriptor until the worker has answered. A worker claims a handoff by writing
 * CLAIM to its channel, and runs the user's callback only when the kernel has taken the whole claim.
 * When a channel ends, the dispatcher fences it: it calls shutdown(SHUT_RD), after which the kernel
 * takes no more bytes from the worker, then it reads all bytes that the kernel had taken before. User
 * code has not seen the handoffs that are unclaimed then, and they go to another worker.
 *
 * The model includes all events that the two ends do not control: a worker dies or leaves between any
 * two of its steps, it is stopped for any length of time (the others move, however often, and it does
 * not), a timer of the dispatcher runs out at any moment, a write is short, a channel is full, a
 * descriptor is lost on the way, a worker sends an answer twice or sends nonsense, the dispatcher dies.
 * docs/model.md lists the parts that are left out, and the differences of the runs. return.pml has the way back.
 *
 * One step of a process of the model is one system call, or the work between two of them, which no
 * other process can observe.
 */

#ifndef HANDOFFS
#define HANDOFFS 2 /* 1 to 3 */
#endif
#ifndef WORKERS
#define WORKERS 2 /* 2 or 3: worker processes over the whole run, each with a channel of its own */
#endif
#ifndef AT_START
#define AT_START 2 /* workers that exist from the start; the third replaces one whose channel has ended */
#endif
#ifndef CREDITS
#define CREDITS 2 /* handoffs that a worker takes at once */
#endif
#ifndef ROOM_DOWN
#define ROOM_DOWN 1 /* frames that fit into a channel towards the worker */
#endif
#ifndef ROOM_UP
#define ROOM_UP (1 + 2 * SHORT_WRITES) /* answers, or halves of answers, that fit into it in the other direction */
#endif
#ifndef LOSSES
#define LOSSES 1 /* descriptors lost on the way, in the whole run */
#endif
#ifndef NOISE
#define NOISE 0 /* wrong answers, in the whole run */
#endif
#ifndef LIES
#define LIES 0 /* 1: these may also be about handoffs that the worker has, or is about to get */
#endif
#ifndef GONE
#define GONE 0 /* 1: the dispatcher may die */
#endif
#ifndef SHORTAGE
#define SHORTAGE 0 /* 1: a worker that loses a descriptor may have no free descriptor slots */
#endif
#ifndef STREAM
#define STREAM 0 /* 1: handoffs wait in the dispatcher's own stream until the kernel takes them */
#endif
#ifndef SHORT_WRITES
#define SHORT_WRITES 0 /* 1: the kernel may take half of an answer */
#endif
#ifndef CYCLES
#define CYCLES 0 /* 1: check only that every run ends */
#endif
#ifndef REACH
#define REACH 0 /* the situation below that the run searches for */
#endif

#define ATTEMPTS 3

/*
 * The properties. With PROPERTY set to one of them the run checks that one alone, so that a mutation is
 * known to break it.
 */
#define ALL 0
#define ONE_OUTCOME 1 /* each handoff has exactly one outcome */
#define ONCE 2 /* user code never gets a handoff twice, over all workers */
#define SERVED 3 /* no unclaimed handoff is lost while a worker lives; a claimed one is begun */
#define AGREED 4 /* the dispatcher and the workers agree on the claims */
#define COPIES 5 /* the copy is closed when the answer arrives, and not earlier */
#define CREDITS_WHOLE 6 /* a channel has as many outstanding handoffs as the books show */
#define NOTHING_HELD 7 /* in the end no worker has a descriptor that it may not use */
#define TRIES 8 /* no handoff has a fourth attempt, or expires before the third has failed */
#define NONE 9
#define BOOKS 10 /* the properties that depend on the dispatcher alone, not on the answers */
#ifndef PROPERTY
#define PROPERTY ALL
#endif
#define is_of_books(property) (property == ONE_OUTCOME || property == COPIES || \
	property == CREDITS_WHOLE || property == TRIES)
#define is_asked(property) (PROPERTY == ALL || PROPERTY == property || \
	(PROPERTY == BOOKS && is_of_books(property)))
#define holds(property, condition) assert(!is_asked(property) || (condition))

/*
 * Mutations: the design with one of its rules broken. The search must find each.
 */
#ifndef CLAIM_ON_RECEIPT
#define CLAIM_ON_RECEIPT 0 /* all handoffs that have arrived are claimed, not only the next one */
#endif
#ifndef CALLBACK_FIRST
#define CALLBACK_FIRST 0 /* user code runs, then the claim is written */
#endif
#ifndef HALF_A_CLAIM
#define HALF_A_CLAIM 0 /* user code runs when the kernel has taken the first bytes of the claim */
#endif
#ifndef NO_FENCE
#define NO_FENCE 0 /* unclaimed handoffs go to another worker without shutdown(SHUT_RD) */
#endif
#ifndef NO_DRAIN
#define NO_DRAIN 0 /* nothing is read after shutdown(SHUT_RD) */
#endif
#ifndef ONE_ID
#define ONE_ID 0 /* a handoff has the same id each time it is sent */
#endif
#ifndef ANY_CHANNEL
#define ANY_CHANNEL 0 /* an answer counts on any channel and in any state */
#endif
#ifndef COPY_KEPT
#define COPY_KEPT 0 /* the dispatcher's copy is not closed at CLAIM */
#endif
#ifndef CREDIT_LOST
#define CREDIT_LOST 0 /* a lost descriptor does not give its credit back */
#endif
#ifndef NOT_RETRIED
#define NOT_RETRIED 0 /* a handoff that was lost is queued, and never taken out of the queue */
#endif
#ifndef CHARGE_NOBODY
#define CHARGE_NOBODY 0 /* a fence is no handoff's attempt */
#endif
#ifndef CHARGE_ALL
#define CHARGE_ALL 0 /* a fence is an attempt of all unclaimed handoffs */
#endif
#ifndef SHORT_FOR_EVER
#define SHORT_FOR_EVER 0 /* a worker that has descriptor slots again does not state its credits */
#endif
#ifndef EARLY_ANSWER
#define EARLY_ANSWER 0 /* an answer counts even if the kernel has not taken the handoff */
#endif
#ifndef NOT_COUNTED
#define NOT_COUNTED 0 /* an attempt whose descriptor is lost does not count, and any number may be lost */
#endif
#ifndef GONE_UNHEARD
#define GONE_UNHEARD 0 /* a worker that waits to write does not notice that the dispatcher is gone */
#endif

/*
 * Situations that must occur; otherwise the properties would be empty. With REACH set to one of them
 * the model fails where it occurs.
 */
#define CLAIM_READ 1 /* the plain way: the dispatcher reads a claim */
#define ALL_DONE 2 /* and all handoffs end as DONE */
#define SERVED_ELSEWHERE 3 /* the first worker is fenced, the second attempt is claimed by another */
#define SERVED_BY_THIRD 4 /* a third attempt is claimed */
#define ATTEMPTS_SPENT 5 /* EXPIRED after three attempts */
#define DEADLINE_PASSED 6 /* EXPIRED in the queue, by the deadline */
#define QUEUE_WITHOUT_WORKER 7
#define DEATH_BEFORE_CALLBACK 8 /* the worker dies with its claim in the kernel, user code has not run */
#define DEATH_AFTER_CALLBACK 9 /* the worker dies while user code has the connection */
#define LATE_CLAIM 10 /* the fence reads a claim that the kernel had taken */
#define LATE_FINISH 11 /* the same for the last answer */
#define CLAIM_REFUSED 12 /* a claim meets the fence: EPIPE */
#define HALF_A_CLAIM_DRAINED 13 /* the fence falls between the two halves of a claim */
#define WOKEN_TOO_LATE 14 /* a stopped worker continues after another has served its handoff */
#define NO_ROOM_UP 15 /* a claim waits, because the channel is full */
#define NO_ROOM_DOWN 16 /* a handoff waits, because the channel is full */
#define LOST_THEN_SERVED 17
#define LOST_TWICE 18 /* a loss is reported again when the next attempt is on the same channel */
#define FOREIGN_ANSWER 19 /* a worker answers for a handoff that another one has */
#define UNKNOWN_ANSWER 20
#define GONE_UNCLAIMED 21 /* the dispatcher is gone, a worker closes a handoff that it had not claimed */
#define GONE_CLAIMED 22 /* the dispatcher is gone, a worker begins a handoff that it had claimed */
#define REFUSED_BY_USER 23
#define REFUSED_BY_LIBRARY 24 /* another descriptor arrived: rejected unclaimed */
#define LEFT_WITH_CLAIM 25 /* a worker leaves its channel and serves a handoff that it had claimed */
#define UNCHARGED_AGAIN 26 /* a handoff that was not the oldest at a fence is claimed in the same attempt */
#define SHORT_ELSEWHERE 27 /* a worker has no descriptor slots, another serves the handoff that it lost */
#define SHORT_AGAIN 28 /* a worker has slots again, and serves the handoff that it lost */
#define EARLY_ANSWERED 29 /* an answer about a handoff that the kernel has not taken */
#define CUT_OFF 30 /* a fence with a handoff still in the dispatcher's stream */

#define reached(situation) assert(REACH != situation)

/*
 * The dispatcher
 * --------------
 */

/* QUEUED → SENT → CLAIMED → DONE or REJECTED. KEPT: it was CLAIMED when the channel ended. The
 * connection is the worker's, alive or dead, and no further answer comes. */
mtype = { QUEUED, SENT, CLAIMED, DONE, REJECTED, EXPIRED, KEPT };

typedef Handoff {
	mtype state = QUEUED;
	unsigned sends : 3;   /* number of times it was sent; its id has this and the channel's number */
	unsigned attempt : 2; /* from 1; 0: it was not sent */
	unsigned channel : 2; /* the last one it was sent over, 0 at first */
	bool copy = 1; /* the dispatcher has a descriptor of the connection */
	bool notified; /* the outcome callback ran */
	/* No process knows these; they are for the properties: */
	unsigned tries : 2;   /* number of times it was lost, or the oldest unclaimed at a fence */
	bool claimed;  /* a kernel has taken a whole claim */
	bool began;    /* user code has, or had, the connection, in any process */
	bool excused;  /* the worker died between the claim and the callback */
};

Handoff handoff[HANDOFFS];

mtype = { ABSENT, UP, FENCED, SETTLED, CLOSED };

typedef End {
	mtype state = ABSENT;
	unsigned credits : 2;     /* as stated by the worker: CREDITS, or 0 while it has no descriptor slots */
	unsigned outstanding : 2; /* sent there, without an outcome */
};

End end_of[WORKERS]; /* the dispatcher's end of a channel */
chan unclaimed[WORKERS] = [CREDITS] of { byte }; /* SENT there, in that order */

#if STREAM
/* The dispatcher's stream: handoff, which of its sends. The stream has borrowed the descriptor. */
chan stream[WORKERS] = [CREDITS] of { byte, byte };
#define put_in_stream(k, c) stream[c]!k, handoff[k].sends
#define can_pass_on(c) (!gone && end_of[c].state == UP && len(stream[c]) > 0 && !left[c] && \
	len(down[c]) < ROOM_DOWN)
#define is_in_stream(k, id, c) (stream[c]??[k, id])
inline cut_off(c)
{
	do
	:: len(stream[c]) > 0 -> reached(CUT_OFF); stream[c]?_, _
	:: else -> break
	od
}
#else
#define put_in_stream(k, c) false
#define can_pass_on(c) false
#define is_in_stream(k, id, c) false
#define cut_off(c) skip
#endif

/*
 * The channels
 * ------------
 *
 * Towards the worker: a frame and its descriptor. Towards the dispatcher: answers. With short writes
 * each answer comes in two halves, and only the second has its content.
 */
mtype = { HALF, CLAIM, LOST, REJECT, FINISHED, CREDITS_NONE, CREDITS_ALL };

chan down[WORKERS] = [ROOM_DOWN] of { byte, byte };          /* handoff, which of its sends */
chan up[WORKERS] = [ROOM_UP] of { mtype, byte, byte, byte };  /* type, handoff, which, channel */
bool refuses[WORKERS]; /* the dispatcher reads no more: a write fails with EPIPE */
bool ended[WORKERS];   /* the dispatcher writes no more: EOF behind what is in the channel */
bool left[WORKERS];    /* the worker's end is closed, by itself or by its death */

/*
 * The workers
 * -----------
 */
chan waiting[WORKERS] = [CREDITS + LIES] of { byte, byte };  /* received, not claimed */
chan to_begin[WORKERS] = [CREDITS + LIES] of { byte, byte };  /* claimed, user code has not begun */

typedef Owed { /* the answer that a worker owes for one handoff, and for which of its sends */
	mtype what = 0;
	unsigned which : 3
};

/* Free descriptor slots. ENOUGH: there are some. SHORT: there are none, and CREDITS_NONE is to be sent.
 * SHORT_STATED: it was sent, and CREDITS_ALL follows at any time. */
#define ENOUGH 0
#define SHORT 1
#define SHORT_STATED 2

typedef Hand {
	Owed owed[HANDOFFS];
	unsigned slots : 2; /* ENOUGH at first */
	mtype writing = 0; /* the answer whose first half is in the channel */
	unsigned handoff : 2;
	unsigned which : 3;
	unsigned channel : 2
};

Hand worker[WORKERS];

/* The surroundings. */
bool gone; /* the dispatcher is dead */
byte losses = LOSSES;
byte noise = NOISE;
bool was_short; /* only in the search for this: a worker has stated its credits again */

/* For use inside one step: not part of the state. */
hidden byte i, j, n, h, a, e;
hidden mtype what;

#if HANDOFFS == 1
#define EACH_HANDOFF(option, c) option(0, c)
#elif HANDOFFS == 2
#define EACH_HANDOFF(option, c) option(0, c) option(1, c)
#else
#define EACH_HANDOFF(option, c) option(0, c) option(1, c) option(2, c)
#endif

/* Two invariants, checked after each step of the dispatcher: a copy exists exactly as long as another
 * worker may need it, and the outstanding handoffs of a worker are those that were sent there and are
 * not over. */
inline check_books()
{
	for (i : 0 .. HANDOFFS - 1) {
		holds(COPIES, handoff[i].copy == (handoff[i].state == QUEUED || handoff[i].state == SENT))
	}
	for (j : 0 .. WORKERS - 1) {
		n = 0;
		for (i : 0 .. HANDOFFS - 1) {
			if
			:: handoff[i].channel == j && (handoff[i].state == SENT || handoff[i].state == CLAIMED) -> n++
			:: else
			fi
		}
		holds(CREDITS_WHOLE, n == end_of[j].outstanding && n <= CREDITS)
	}
	n = 0
}

inline outcome(k, result)
{
	holds(ONE_OUTCOME, !handoff[k].notified);
	handoff[k].notified = 1;
	handoff[k].copy = 0;
	handoff[k].state = result;
	if
	:: NOISE == 0 -> /* no answer can name it */
		handoff[k].sends = 0;
		handoff[k].attempt = 0;
		handoff[k].channel = 0;
		handoff[k].tries = 0
	:: else
	fi
}

/* An unclaimed handoff, which its worker cannot claim any more, is queued. `charged`: that was an
 * attempt. */
inline elsewhere(k, charged)
{
	if
	:: charged && handoff[k].attempt == ATTEMPTS ->
		reached(ATTEMPTS_SPENT);
		holds(TRIES, handoff[k].tries == ATTEMPTS);
		outcome(k, EXPIRED)
	:: else ->
		handoff[k].attempt = handoff[k].attempt + (charged);
		handoff[k].state = QUEUED
	fi
}

/* Removes a handoff from the unclaimed ones of its channel. */
inline forget(k)
{
	if
	:: handoff[k].state == SENT -> unclaimed[handoff[k].channel]??eval(k)
	:: else
	fi
}

/* An answer about a handoff of channel c: it counts if it fits the state. */
inline believe(c)
{
	if
	:: what == CLAIM && handoff[h].state == SENT ->
		reached(CLAIM_READ);
		assert(REACH != LATE_CLAIM || end_of[c].state != FENCED);
		assert(REACH != SERVED_ELSEWHERE || handoff[h].attempt != 2 || c == 0 || !refuses[0]);
		assert(REACH != SERVED_BY_THIRD || handoff[h].attempt != 3);
		assert(REACH != LOST_THEN_SERVED || handoff[h].attempt == 1 || refuses[0] || refuses[1]);
		assert(REACH != UNCHARGED_AGAIN || handoff[h].sends == handoff[h].attempt);
		assert(REACH != SHORT_ELSEWHERE || handoff[h].attempt != 2 || c == 0 || refuses[0] ||
			end_of[0].credits > 0);
		assert(REACH != SHORT_AGAIN || handoff[h].attempt != 2 || !was_short || refuses[0] || refuses[1]);
		forget(h);
		handoff[h].copy = COPY_KEPT;
		handoff[h].state = CLAIMED
	:: what == LOST && handoff[h].state == SENT ->
		forget(h);
		end_of[c].outstanding = end_of[c].outstanding - !CREDIT_LOST;
		handoff[h].sends = handoff[h].sends - NOT_COUNTED;
		handoff[h].tries = handoff[h].tries + !NOT_COUNTED;
		elsewhere(h, !NOT_COUNTED)
	:: what == REJECT && (handoff[h].state == SENT || handoff[h].state == CLAIMED) ->
		assert(REACH != REFUSED_BY_USER || handoff[h].state != CLAIMED);
		assert(REACH != REFUSED_BY_LIBRARY || handoff[h].state != SENT);
		forget(h);
		end_of[c].outstanding--;
		outcome(h, REJECTED)
	:: what == FINISHED && (handoff[h].state == CLAIMED || ANY_CHANNEL) ->
		assert(REACH != LATE_FINISH || end_of[c].state != FENCED);
		forget(h);
		end_of[c].outstanding--;
		outcome(h, DONE)
	:: else /* sent twice, or out of order: counted */
	fi
}

#define foreign(c) (!ANY_CHANNEL && (e != c || handoff[h].channel != c))
#define stale (!ANY_CHANNEL && !ONE_ID && a != handoff[h].sends)
#define early(c) (!EARLY_ANSWER && is_in_stream(eval(h), eval(a), c))

/* Reads an answer (what, h, a, e) from channel c. An answer that does not belong there is counted, and
 * changes nothing. */
inline hear(c)
{
	up[c]?what, h, a, e;
	if
	:: what == HALF
	:: what == CREDITS_NONE -> end_of[c].credits = 0
	:: what == CREDITS_ALL -> end_of[c].credits = CREDITS; was_short = (REACH == SHORT_AGAIN)
	:: else ->
		if
		:: h >= HANDOFFS -> reached(UNKNOWN_ANSWER)
		:: else ->
			if
			:: foreign(c) -> reached(FOREIGN_ANSWER)
			:: !foreign(c) && stale -> assert(REACH != LOST_TWICE || what != LOST || handoff[h].state != SENT)
			:: !foreign(c) && !stale && early(c) -> reached(EARLY_ANSWERED)
			:: !foreign(c) && !stale && !early(c) -> believe(c)
			fi
		fi
	fi;
	h = 0; a = 0; e = 0; what = 0
}

/* close() */
inline close_end(c)
{
	refuses[c] = 1;
	ended[c] = 1;
	do
	:: len(up[c]) > 0 -> up[c]?what, h, a, e
	:: else -> break
	od;
	h = 0; a = 0; e = 0; what = 0
}

/* The channel is over, and its bytes have been read: unclaimed handoffs are queued again. The oldest of
 * them is charged with an attempt, because the worker may have died of it; the worker has not looked at
 * those behind. */
inline settle(c)
{
	for (j : 0 .. HANDOFFS - 1) {
		if
		:: handoff[j].channel == c && handoff[j].state == CLAIMED ->
			assert(REACH != DEATH_AFTER_CALLBACK || !handoff[j].began || !left[c]);
			end_of[c].outstanding--;
			outcome(j, KEPT)
		:: else
		fi
	}
	n = 0;
	do
	:: len(unclaimed[c]) > 0 ->
		unclaimed[c]?j;
		end_of[c].outstanding--;
		handoff[j].tries = handoff[j].tries + (n == 0);
		elsewhere(j, ((n == 0 || CHARGE_ALL) && !CHARGE_NOBODY));
		n++
	:: else -> break
	od;
	cut_off(c);
	j = 0; n = 0;
	assert(REACH != HALF_A_CLAIM_DRAINED || worker[c].writing != CLAIM);
	end_of[c].credits = 0;
	end_of[c].state = SETTLED
}

/*
 * The moves. Each is the condition of one step below. Faults and timers are not among them: if no move
 * is possible, only a fault or a timer could change the state, and the run is judged.
 *
 * The order of handoffs and the choice of workers are left open, so that every rule of choosing is
 * covered. Only handoffs that were never sent go in their order, because they differ in nothing but
 * their number.
 */
#define before(k) (k - (k > 0))
#define in_turn(k) (k == 0 || handoff[k].sends > 0 || handoff[before(k)].sends > 0 || \
	handoff[before(k)].state != QUEUED)
#define may_send(k, c) (!gone && handoff[k].state == QUEUED && in_turn(k) && end_of[c].state == UP && \
	end_of[c].outstanding < end_of[c].credits && (STREAM || !left[c]) && \
	!(NOT_RETRIED && handoff[k].sends > 0))
#define can_send(k, c) (may_send(k, c) && (STREAM || len(down[c]) < ROOM_DOWN))
#define can_replace(c) (!gone && end_of[c].state == ABSENT && (end_of[0].state != UP || end_of[1].state != UP))
#define can_hear(c) (!gone && len(up[c]) > 0 && \
	(end_of[c].state == UP || (end_of[c].state == FENCED && !NO_DRAIN)))
#define can_see_end(c) (!gone && end_of[c].state == UP && left[c])
#define can_settle(c) (!gone && end_of[c].state == FENCED && (len(up[c]) == 0 || NO_DRAIN))
#define can_close(c) (!gone && end_of[c].state == SETTLED)

#define can_receive(c) (!left[c] && len(down[c]) > 0)
#define can_write(c) (!left[c] && !refuses[c] && len(up[c]) < ROOM_UP)
#define between_answers(c) (worker[c].writing == 0)
/* One claim for each handoff, right before its own callback. */
#define can_claim(c) (can_write(c) && between_answers(c) && len(waiting[c]) > 0 && \
	(len(to_begin[c]) == 0 || CLAIM_ON_RECEIPT))
#define can_answer(k, c) (can_write(c) && between_answers(c) && worker[c].owed[k].what != 0)
#define can_go_on(c) (can_write(c) && !between_answers(c))
#define can_state_credits(c) (can_write(c) && between_answers(c) && (worker[c].slots == SHORT || \
	(worker[c].slots == SHORT_STATED && !SHORT_FOR_EVER)))
#define can_begin(c) (len(to_begin[c]) > 0)
#define owes(k, c) || worker[c].owed[k].what != 0
#define can_see_refusal(c) (!left[c] && refuses[c] && !(GONE_UNHEARD && gone) && \
	(len(waiting[c]) > 0 || !between_answers(c) || worker[c].slots != ENOUGH EACH_HANDOFF(owes, c)))
#define can_see_eof(c) (!left[c] && ended[c] && len(down[c]) == 0 && !(GONE_UNHEARD && gone))

#define or_send(k, c) || can_send(k, c)
#define or_answer(k, c) || can_answer(k, c)
#define moves(c) (can_replace(c) || can_hear(c) || can_see_end(c) || can_settle(c) || can_close(c) || \
	can_pass_on(c) || can_receive(c) || can_claim(c) || can_state_credits(c) || can_go_on(c) || \
	can_begin(c) || can_see_refusal(c) || can_see_eof(c) EACH_HANDOFF(or_send, c) EACH_HANDOFF(or_answer, c))

/* One sendmsg() passes the frame and the descriptor to the kernel, at once or from the stream. A full
 * channel takes neither. */
#define SEND(k, c) \
	:: d_step { can_send(k, c) -> \
		holds(TRIES, handoff[k].tries < ATTEMPTS); \
		handoff[k].sends++; \
		handoff[k].attempt = handoff[k].attempt + (handoff[k].attempt == 0); \
		handoff[k].channel = c; \
		handoff[k].state = SENT; \
		end_of[c].outstanding++; \
		unclaimed[c]!k; \
		if \
		:: STREAM -> put_in_stream(k, c) \
		:: else -> down[c]!k, handoff[k].sends \
		fi; \
		check_books() \
	} \
	:: d_step { REACH == NO_ROOM_DOWN && may_send(k, c) && !can_send(k, c) -> reached(NO_ROOM_DOWN) }

/* The deadline of a handoff in the queue. (A handoff that is SENT has no timer of its own. Its channel
 * has one, which is a reason for the fence.) */
#define EXPIRE(k, c) \
	:: d_step { c == 0 && !gone && handoff[k].state == QUEUED && in_turn(k) -> \
		reached(DEADLINE_PASSED); \
		outcome(k, EXPIRED); \
		check_books() \
	}

/*
 * The dispatcher's work at one channel. In the code it is one process, with all its channels in one
 * event loop. Its steps are atomic, so that several processes are equivalent here.
 */
proctype Dispatcher(byte c)
{
end:
	do
	EACH_HANDOFF(SEND, c)
	EACH_HANDOFF(EXPIRE, c)
#if STREAM
	/* sendmsg() of the first frame in the stream. */
	:: d_step {
		can_pass_on(c) ->
		stream[c]?h, a;
		holds(COPIES, handoff[h].copy);
		down[c]!h, a;
		h = 0; a = 0
	   }
#endif
	/* A new worker replaces one whose channel has ended. */
	:: d_step {
		can_replace(c) ->
		end_of[c].state = UP;
		end_of[c].credits = CREDITS
	   }
	/* recvmsg() */
	:: d_step {
		can_hear(c) ->
		hear(c);
		check_books()
	   }
	/* The fence, first half: the worker's end is closed, a timer has run out, the format is broken, the
	 * owner removes the worker. At any moment, and with any unread answers in the channel. */
	:: d_step {
		can_see_end(c) || (!gone && end_of[c].state == UP) ->
		refuses[c] = !NO_FENCE;
		end_of[c].state = FENCED
	   }
	/* Second half: the channel is empty, and stays empty. */
	:: d_step {
		can_settle(c) ->
		settle(c);
		check_books()
	   }
	/* close(), some time later. */
	:: d_step {
		can_close(c) ->
		close_end(c);
		end_of[c].state = CLOSED
	   }
	/* The dispatcher dies: its descriptors are closed, all copies among them. */
	:: d_step {
		GONE && !gone && c == 0 ->
		gone = 1;
		for (j : 0 .. WORKERS - 1) {
			cut_off(j);
			close_end(j)
		}
		j = 0
	   }
	od
}

/* User code gets the connection. */
inline callback(k)
{
	holds(ONCE, !handoff[k].began);
	handoff[k].began = 1
}

inline end_answer(c)
{
	worker[c].writing = 0;
	worker[c].handoff = 0;
	worker[c].which = 0;
	worker[c].channel = 0
}

/* The worker's end of the channel is over: it closes unclaimed handoffs, and keeps the claimed ones. */
inline leave(c)
{
	do
	:: len(waiting[c]) > 0 ->
		waiting[c]?h, a;
		assert(REACH != WOKEN_TOO_LATE || !handoff[h].began || !refuses[c]);
		assert(REACH != GONE_UNCLAIMED || !gone)
	:: else -> break
	od;
	do
	:: len(down[c]) > 0 -> down[c]?h, a
	:: else -> break
	od;
	for (i : 0 .. HANDOFFS - 1) {
		worker[c].owed[i].what = 0;
		worker[c].owed[i].which = 0
	}
	worker[c].slots = ENOUGH;
	end_answer(c);
	left[c] = 1;
	h = 0; a = 0
}

/* An answer is (what, h, a, e). It is written when the kernel has taken all of it. For a claim this
 * moment is the commit. */
inline answer_written(c)
{
	up[c]!what, h, a, e;
	if
	:: what == CLAIM && e == c && waiting[c]?[eval(h), eval(a)] ->
		waiting[c]?h, a;
		handoff[h].claimed = 1;
		if
		:: CALLBACK_FIRST
		:: else -> to_begin[c]!h, a
		fi
	:: else
	fi;
	h = 0; a = 0; e = 0; what = 0
}

/* The kernel takes the whole answer, or its first half; then the rest must follow before another answer
 * begins. */
inline begin_answer(c)
{
	if
	:: SHORT_WRITES ->
		up[c]!HALF, 0, 0, 0;
		worker[c].writing = what;
		worker[c].handoff = h;
		worker[c].which = a;
		worker[c].channel = e;
		if
		:: HALF_A_CLAIM && what == CLAIM -> waiting[c]?h, a; to_begin[c]!h, a
		:: else
		fi;
		h = 0; a = 0; e = 0; what = 0
	:: else -> answer_written(c)
	fi
}

#define ANSWER(k, c) \
	:: atomic { can_answer(k, c) -> \
		what = worker[c].owed[k].what; h = k; a = worker[c].owed[k].which; e = c; \
		if \
		:: worker[c].owed[k].what = 0; worker[c].owed[k].which = 0 \
		:: NOISE && noise > 0 -> noise-- /* the answer is sent once more */ \
		fi; \
		begin_answer(c) \
	}

/* Wrong answers: about a handoff that this worker has answered, or that another worker has or had,
 * under this channel's number or under the other's. A liar also sends wrong answers about handoffs that
 * it has or will have. */
#define can_babble(k, c) (NOISE && noise > 0 && can_write(c) && between_answers(c) && handoff[k].sends > 0)
#define mine(k, c) (!LIES && handoff[k].channel == c && handoff[k].state == SENT)
#define SAY(answer, k, c) \
	:: d_step { can_babble(k, c) && !mine(k, c) -> \
		noise--; what = answer; h = k; a = handoff[k].sends; e = c; begin_answer(c) \
	} \
	:: d_step { can_babble(k, c) && handoff[k].sends > 1 -> \
		noise--; what = answer; h = k; a = handoff[k].sends - 1; e = c; begin_answer(c) \
	} \
	:: d_step { can_babble(k, c) && handoff[k].channel != c -> \
		noise--; what = answer; h = k; a = handoff[k].sends; e = handoff[k].channel; begin_answer(c) \
	}
#define NONSENSE(k, c) SAY(CLAIM, k, c) SAY(LOST, k, c) SAY(REJECT, k, c) SAY(FINISHED, k, c)

proctype Worker(byte c)
{
end:
	do
	/* recvmsg(): the frame arrives. Its descriptor may be lost, or be another one than was sent. */
	:: atomic {
		can_receive(c) ->
		down[c]?h, a;
		if
		:: waiting[c]!h, a;
			if
			:: CALLBACK_FIRST -> callback(h)
			:: else
			fi
		:: losses > 0 ->
			losses = losses - 1 + NOT_COUNTED;
			worker[c].owed[h].what = LOST;
			worker[c].owed[h].which = a;
			if
			:: SHORTAGE && worker[c].slots == ENOUGH -> worker[c].slots = SHORT
			:: true /* only this one was lost, or there is no memory for the timer that checks the slots */
			fi
		:: losses > 0 ->
			losses--;
			worker[c].owed[h].what = REJECT;
			worker[c].owed[h].which = a
		fi;
		h = 0; a = 0
	   }
	/* sendmsg() of an answer. */
	:: d_step {
		can_claim(c) ->
		waiting[c]?<h, a>;
		what = CLAIM;
		e = c;
		begin_answer(c)
	   }
	EACH_HANDOFF(ANSWER, c)
	EACH_HANDOFF(NONSENSE, c)
	:: d_step {
		NOISE && noise > 0 && can_write(c) && between_answers(c) ->
		noise--;
		what = CLAIM; h = HANDOFFS; a = 1; e = c;
		begin_answer(c)
	   }
	/* It has no descriptor slots, and takes no handoffs for now; or has some again, and takes as many
	 * as before. */
	:: d_step {
		can_state_credits(c) ->
		if
		:: worker[c].slots == SHORT -> what = CREDITS_NONE; worker[c].slots = SHORT_STATED
		:: else -> what = CREDITS_ALL; worker[c].slots = ENOUGH
		fi;
		h = 0; a = 0; e = c;
		begin_answer(c)
	   }
	/* The rest of an answer whose first half is in the channel. */
	:: d_step {
		can_go_on(c) ->
		what = worker[c].writing;
		h = worker[c].handoff;
		a = worker[c].which;
		e = worker[c].channel;
		end_answer(c);
		answer_written(c)
	   }
	/* The handoff is claimed: user code may have it, whatever has happened to the channel since. User
	 * code may refuse it. The model lets it refuse one handoff only, because for the protocol a refusal
	 * is a DONE. */
	:: atomic {
		can_begin(c) ->
		to_begin[c]?h, a;
		assert(REACH != GONE_CLAIMED || !gone);
		assert(REACH != LEFT_WITH_CLAIM || !left[c]);
		callback(h);
		if
		:: left[c] /* no channel for an answer */
		:: !left[c] -> worker[c].owed[h].what = FINISHED; worker[c].owed[h].which = a
		:: !left[c] && h == 0 -> worker[c].owed[h].what = REJECT; worker[c].owed[h].which = a
		fi;
		h = 0; a = 0
	   }
	/* EPIPE for the next write. */
	:: d_step {
		can_see_refusal(c) ->
		assert(REACH != CLAIM_REFUSED || len(waiting[c]) == 0);
		leave(c)
	   }
	/* EOF: the dispatcher is gone, or has closed this channel. */
	:: d_step {
		can_see_eof(c) ->
		leave(c)
	   }
	/* The worker leaves by itself. */
	:: d_step {
		!left[c] && end_of[c].state != ABSENT ->
		leave(c)
	   }
	/* SIGKILL. A handoff that was claimed and not begun dies with the worker, and there is one at
	 * most. */
	:: d_step {
		end_of[c].state != ABSENT && (!left[c] || len(to_begin[c]) > 0) ->
		holds(SERVED, len(to_begin[c]) <= 1);
		do
		:: len(to_begin[c]) > 0 ->
			reached(DEATH_BEFORE_CALLBACK);
			to_begin[c]?h, a;
			handoff[h].excused = 1
		:: else -> break
		od;
		leave(c)
	   }
	:: d_step {
		REACH == NO_ROOM_UP && !left[c] && !refuses[c] && len(up[c]) == ROOM_UP && len(waiting[c]) > 0 ->
		reached(NO_ROOM_UP)
	   }
	od
}

#if WORKERS == 2
#define anything_moves (moves(0) || moves(1))
#else
#define anything_moves (moves(0) || moves(1) || moves(2))
#endif

/* Checks a state without moves, in which only a death or a timer could change anything. */
inline judge()
{
	n = 0;
	for (i : 0 .. HANDOFFS - 1) {
		/* No handoff waits for ever while a worker lives; without a worker there is the deadline. */
		for (j : 0 .. WORKERS - 1) {
			holds(SERVED, gone || end_of[j].state != UP || handoff[i].state != QUEUED)
		}
		/* A handoff that a liar claims to have stays with it until its channel ends. */
		holds(ONE_OUTCOME, gone || handoff[i].notified || handoff[i].state == QUEUED || LIES);
		holds(AGREED, gone || handoff[i].state == REJECTED ||
			handoff[i].claimed == (handoff[i].state == DONE || handoff[i].state == KEPT));
		/* Only a death can happen between the claim and the callback. */
		holds(SERVED, !handoff[i].claimed || handoff[i].began || handoff[i].excused);
		holds(AGREED, !handoff[i].began || handoff[i].claimed);
		assert(REACH != QUEUE_WITHOUT_WORKER || gone || handoff[i].state != QUEUED);
		n = n + (handoff[i].state == DONE)
	}
	for (j : 0 .. WORKERS - 1) {
		holds(CREDITS_WHOLE, gone || end_of[j].outstanding == 0 || LIES);
		holds(CREDITS_WHOLE, gone || end_of[j].state != UP || end_of[j].credits == CREDITS);
		holds(NOTHING_HELD, len(waiting[j]) == 0 && len(to_begin[j]) == 0 && len(down[j]) == 0);
		holds(NOTHING_HELD, !gone || left[j] || end_of[j].state == ABSENT)
	}
	assert(REACH != ALL_DONE || n != HANDOFFS);
	i = 0; j = 0; n = 0
}

init {
	atomic {
		for (j : 0 .. AT_START - 1) {
			end_of[j].state = UP;
			end_of[j].credits = CREDITS
		}
		for (j : 0 .. WORKERS - 1) {
			run Dispatcher(j);
			run Worker(j)
		}
		j = 0
	}
end:
	do
	:: d_step { !CYCLES && !anything_moves -> judge() }
	od
}
