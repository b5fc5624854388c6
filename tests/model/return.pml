/*
 * The return: a worker gives a connection back, and it is neither lost nor served twice
 * =====================================================================================
 *
 * handoff.pml has the way out, with all its faults. This model has the way back, for connections that go
 * out and come back several times. A worker writes RETURN to its channel, with the descriptor. The
 * connection changes hands when the kernel has taken the last byte. Then the worker closes its copy. The
 * dispatcher reads all that the kernel has taken before it acts on the end of a channel, so that it
 * finds a whole RETURN of a dead worker. If the channel breaks before the last byte, the worker still
 * has the connection and serves it on, and the dispatcher closes the descriptor of the half.
 *
 * A worker may die, leave its channel or not move, between any two of its steps. The dispatcher may
 * fence a channel at any moment. A worker may send a RETURN twice, or with another descriptor. The
 * descriptor of a RETURN may be lost. One step of a process is one system call, or the work between two
 * of them.
 */

#ifndef CONNECTIONS
#define CONNECTIONS 1 /* 1 or 2 */
#endif
#ifndef HANDOFFS
#define HANDOFFS 3 /* times that a connection is handed off, in the whole run */
#endif
#ifndef NOISE
#define NOISE 0 /* returns sent once more, or with another descriptor, in the whole run */
#endif
#ifndef LOSSES
#define LOSSES 0 /* descriptors of returns that are lost on the way */
#endif
#ifndef GONE
#define GONE 0 /* 1: the dispatcher may die */
#endif
#ifndef REACH
#define REACH 0
#endif

#define WORKERS 2
#define CREDITS CONNECTIONS
#define ROOM_UP 2 /* messages, or halves of one, that fit into a channel */
#define ROOM_DOWN 2

#define ALL 0
#define ONCE 1 /* at most one process may act on the connection: read it, answer it, give it away */
#define LOST 2 /* it is lost only with the process that had it, or with its descriptor */
#define COPIES 3 /* a process has a descriptor of it exactly as long as it may need it */
#define ONE_OUTCOME 4 /* each hand-off ends once */
#define SAME 5 /* what comes back is what was given away */
#define BOOKS 6 /* the dispatcher counts as outstanding what is there */
#define RECALLED 7 /* what a worker had when RECALL came, and is idle, comes back */
#define NONE 8
#ifndef PROPERTY
#define PROPERTY ALL
#endif
#define holds(property, condition) assert(!(PROPERTY == ALL || PROPERTY == property) || (condition))

/* Mutations: one of the rules is broken. */
#ifndef CLOSE_EARLY
#define CLOSE_EARLY 0 /* the worker closes its copy when it asks for the return, before any byte is taken */
#endif
#ifndef HALF_COMMITS
#define HALF_COMMITS 0 /* the worker takes the first byte for the commit, not the last */
#endif
#ifndef HALF_COUNTS
#define HALF_COUNTS 0 /* the dispatcher takes the connection when the descriptor arrives, with the first byte */
#endif
#ifndef HALF_UNCLOSED
#define HALF_UNCLOSED 0 /* the dispatcher does not close the descriptor of a half */
#endif
#ifndef NO_DRAIN
#define NO_DRAIN 0 /* the dispatcher acts on the end of a channel before it has read it */
#endif
#ifndef NO_FENCE
#define NO_FENCE 0 /* it acts without shutdown(SHUT_RD): a return is taken after the fence */
#endif
#ifndef DROPPED
#define DROPPED 0 /* a worker whose return has failed closes the connection */
#endif
#ifndef SERVED_AFTER
#define SERVED_AFTER 0 /* a worker serves on after the commit */
#endif
#ifndef COPY_KEPT
#define COPY_KEPT 0 /* a worker does not close its copy after the commit */
#endif
#ifndef STALE_COUNTS
#define STALE_COUNTS 0 /* the id of a RETURN is not compared */
#endif
#ifndef TWICE_COUNTS
#define TWICE_COUNTS 0 /* the state is not looked at: a second RETURN counts as well */
#endif
#ifndef STALE_UNCLOSED
#define STALE_UNCLOSED 0 /* the descriptor of a stale RETURN is not closed */
#endif
#ifndef ANY_DESCRIPTOR
#define ANY_DESCRIPTOR 0 /* the identity of the descriptor is not compared */
#endif
#ifndef TAKEN_WITHOUT
#define TAKEN_WITHOUT 0 /* a RETURN counts although its descriptor was lost */
#endif
#ifndef OLD_PEER
#define OLD_PEER 0 /* a worker returns on a channel of version 1 */
#endif
#ifndef CREDIT_LOST
#define CREDIT_LOST 0 /* a RETURN does not give its credit back */
#endif
#ifndef RECALL_OF_IDLE
#define RECALL_OF_IDLE 0 /* RECALL is forgotten for connections that are busy when it comes */
#endif

/* Situations that must occur. */
#define SERVED_AGAIN 1 /* a returned connection is served by another worker */
#define SAME_WORKER_AGAIN 2 /* and by the same one */
#define RETURN_DRAINED 3 /* the fence reads a whole RETURN */
#define DEAD_AFTER_RETURN 4 /* of a worker that is dead */
#define HALF_FENCED 5 /* the fence finds the first half only */
#define RETURN_REFUSED 6 /* the first byte of a RETURN meets the fence */
#define SERVED_ON 7 /* a worker serves a connection whose return has failed */
#define STALE_RETURN 8 /* a RETURN of an earlier hand-off arrives during a later one */
#define SECOND_RETURN 9 /* a RETURN arrives for what was returned */
#define OTHER_DESCRIPTOR 10
#define LOST_DESCRIPTOR 11
#define RETURN_FOR_RECALL 12
#define IDLE_AFTER_RECALL 13 /* RECALL finds a connection busy, which is idle later */
#define SERVED_OVER_OLD 14 /* a channel of version 1 serves a returned connection */
#define GONE_HALFWAY 15 /* the dispatcher dies between the halves */
#define NO_ROOM 16 /* the second half waits, because the channel is full */
#define reached(situation) assert(REACH != situation)

/* ---- the dispatcher and its owner ---- */

/* QUEUED: the owner's, or the queue's; another hand-off may begin. OVER: no further one. */
mtype = { QUEUED, SENT, CLAIMED, OVER };

typedef Connection {
	mtype state = QUEUED;
	unsigned sends : 3; /* the id */
	unsigned channel : 1;
	unsigned copies : 3 = 1; /* descriptors of it in the dispatcher's process */
	/* For the properties: */
	bool open; /* a hand-off is without its outcome */
	unsigned users : 2 = 1; /* processes that may act on it; the dispatcher is one while it is QUEUED */
	bool excused; /* the process that had it has died, or its descriptor was lost */
	bool came_back;
	unsigned last : 2 /* the worker that returned it, from 1 */
};
Connection connection[CONNECTIONS];

mtype = { UP, FENCED, SETTLED, CLOSED };
typedef End {
	mtype state = UP;
	unsigned outstanding : 2;
	unsigned partial : 2; /* the descriptor of a message whose rest has not come: connection + 1, or OTHER */
	bool recall_sent
};
End end_of[WORKERS];
bool version_two[WORKERS];

/* ---- the channels ---- */

#define OTHER 3 /* another descriptor */
mtype = { HANDOFF, RECALL, CLAIM, DONE, RETURN, HALF, REST };
chan down[WORKERS] = [ROOM_DOWN] of { mtype, byte, byte }; /* type, connection, id */
chan up[WORKERS] = [ROOM_UP] of { mtype, byte, byte, byte }; /* type, connection, id, descriptor */
bool refuses[WORKERS];
bool ended[WORKERS];
bool left[WORKERS];

/* ---- the workers ---- */

/* WAITING: received and unclaimed. ASKED: the user has returned it, and the kernel has nothing of the
 * RETURN. HALFWAY: it has the first half. */
mtype = { NOT_HERE, WAITING, BUSY, IDLE, ASKED, HALFWAY };
typedef Place {
	mtype state = NOT_HERE;
	unsigned id : 3;
	bool copy; /* a descriptor of it in this process */
	bool due; /* RECALL asks for it */
	bool recalled; /* what `due` should be */
	unsigned returned : 3 /* the id of its last return, for noise */
};
typedef Worker { Place at[CONNECTIONS]; bool writing };
Worker worker[WORKERS];

bool gone;
byte noise = NOISE;
byte losses = LOSSES;

hidden byte i, j, n, h, a, f;
hidden mtype what;

#if CONNECTIONS == 1
#define EACH(option, c) option(0, c)
#else
#define EACH(option, c) option(0, c) option(1, c)
#endif
#define place(k, c) worker[c].at[k]

inline check()
{
	for (i : 0 .. CONNECTIONS - 1) {
		holds(COPIES, gone || connection[i].copies ==
			(connection[i].state == QUEUED || connection[i].state == SENT) +
			(end_of[0].partial == i + 1) + (end_of[1].partial == i + 1))
	}
	for (j : 0 .. WORKERS - 1) {
		n = 0;
		for (i : 0 .. CONNECTIONS - 1) {
			n = n + (connection[i].channel == j &&
				(connection[i].state == SENT || connection[i].state == CLAIMED))
		}
		holds(BOOKS, n == end_of[j].outstanding)
	}
	i = 0; j = 0; n = 0
}

inline acts_on(k)
{
	holds(ONCE, connection[k].users == 0);
	connection[k].users = connection[k].users + (connection[k].users < 3)
}

inline gives_up(k) { connection[k].users = connection[k].users - (connection[k].users > 0) }

inline outcome(k)
{
	holds(ONE_OUTCOME, connection[k].open);
	connection[k].open = 0
}

inline close_descriptor(d)
{
	if
	:: d > 0 && d != OTHER -> connection[d - 1].copies--
	:: else
	fi
}

inline fence(c)
{
	refuses[c] = !NO_FENCE;
	end_of[c].state = FENCED
}

/* A whole RETURN of connection h with id a was read from channel c. Its descriptor is in `partial`. */
#define fits(c) (connection[h].channel == c && (a == connection[h].sends || STALE_COUNTS) && \
	(connection[h].state == CLAIMED || (TWICE_COUNTS && connection[h].state == QUEUED)))
inline judge_return(c)
{
	f = end_of[c].partial;
	end_of[c].partial = 0;
	if
	:: !version_two[c] -> close_descriptor(f); fence(c)
	:: version_two[c] && !fits(c) ->
		assert(REACH != STALE_RETURN || connection[h].state != CLAIMED || connection[h].channel != c);
		assert(REACH != SECOND_RETURN || connection[h].state != QUEUED);
		if
		:: STALE_UNCLOSED
		:: else -> close_descriptor(f)
		fi
	:: version_two[c] && fits(c) && f == OTHER && !ANY_DESCRIPTOR ->
		reached(OTHER_DESCRIPTOR);
		fence(c)
	:: version_two[c] && fits(c) && f == 0 && !TAKEN_WITHOUT ->
		reached(LOST_DESCRIPTOR);
		end_of[c].outstanding--;
		outcome(h);
		connection[h].state = OVER
	:: else ->
		holds(SAME, f == h + 1);
		assert(REACH != RETURN_DRAINED || end_of[c].state != FENCED);
		assert(REACH != DEAD_AFTER_RETURN || !left[c]);
		end_of[c].outstanding = end_of[c].outstanding - (!CREDIT_LOST && connection[h].state == CLAIMED);
		outcome(h);
		connection[h].state = QUEUED;
		connection[h].came_back = 1;
		connection[h].last = c + 1;
		acts_on(h)
	fi;
	f = 0
}

/* The descriptor comes with the first byte. */
inline arrives(c)
{
	if
	:: losses > 0 && f != OTHER -> losses--; connection[f - 1].excused = 1; f = 0
	:: f != OTHER -> connection[f - 1].copies++
	:: else
	fi;
	end_of[c].partial = f;
	f = 0
}

inline hear(c)
{
	up[c]?what, h, a, f;
	if
	:: what == CLAIM && connection[h].state == SENT && connection[h].channel == c && a == connection[h].sends ->
		assert(REACH != SERVED_AGAIN || !connection[h].came_back || connection[h].last == c + 1);
		assert(REACH != SAME_WORKER_AGAIN || connection[h].last != c + 1);
		assert(REACH != SERVED_OVER_OLD || !connection[h].came_back || version_two[c]);
		connection[h].copies--;
		connection[h].state = CLAIMED
	:: what == DONE && connection[h].state == CLAIMED && connection[h].channel == c && a == connection[h].sends ->
		end_of[c].outstanding--;
		outcome(h);
		connection[h].state = OVER
	:: what == RETURN -> arrives(c); judge_return(c)
	:: what == HALF ->
		arrives(c);
		if
		:: HALF_COUNTS -> judge_return(c)
		:: else
		fi
	:: what == REST -> judge_return(c)
	:: else
	fi;
	h = 0; a = 0; f = 0; what = 0
}

inline settle(c)
{
	if
	:: end_of[c].partial != 0 ->
		reached(HALF_FENCED);
		if
		:: HALF_UNCLOSED
		:: else -> close_descriptor(end_of[c].partial)
		fi;
		end_of[c].partial = 0
	:: else
	fi;
	for (j : 0 .. CONNECTIONS - 1) {
		if
		:: connection[j].channel == c && connection[j].state == CLAIMED ->
			end_of[c].outstanding--;
			outcome(j);
			connection[j].state = OVER
		:: connection[j].channel == c && connection[j].state == SENT ->
			end_of[c].outstanding--;
			outcome(j);
			connection[j].state = QUEUED;
			acts_on(j)
		:: else
		fi
	}
	j = 0;
	end_of[c].state = SETTLED
}

inline close_end(c)
{
	refuses[c] = 1;
	ended[c] = 1;
	do
	:: len(up[c]) > 0 -> up[c]?what, h, a, f
	:: else -> break
	od;
	h = 0; a = 0; f = 0; what = 0
}

#define can_hand_off(k, c) (!gone && connection[k].state == QUEUED && connection[k].sends < HANDOFFS && \
	end_of[c].state == UP && end_of[c].outstanding < CREDITS && !left[c] && len(down[c]) < ROOM_DOWN)
#define can_recall(c) (!gone && end_of[c].state == UP && version_two[c] && !end_of[c].recall_sent && !left[c] && \
	len(down[c]) < ROOM_DOWN)
#define can_hear(c) (!gone && len(up[c]) > 0 && (end_of[c].state == UP || (end_of[c].state == FENCED && !NO_DRAIN)))
#define can_see_end(c) (!gone && end_of[c].state == UP && left[c])
#define can_settle(c) (!gone && end_of[c].state == FENCED && (len(up[c]) == 0 || NO_DRAIN))
#define can_close(c) (!gone && end_of[c].state == SETTLED)

#define can_receive(c) (!left[c] && len(down[c]) > 0)
#define can_write(c) (!left[c] && !refuses[c] && len(up[c]) < ROOM_UP)
#define can_answer(c) (can_write(c) && !worker[c].writing)
#define can_claim(k, c) (can_answer(c) && place(k, c).state == WAITING)
#define may_return(k, c) (!left[c] && place(k, c).state == IDLE && (version_two[c] || OLD_PEER))
#define must_return(k, c) (may_return(k, c) && place(k, c).due)
#define can_return(k, c) (can_answer(c) && place(k, c).state == ASKED)
#define can_go_on(k, c) (can_write(c) && place(k, c).state == HALFWAY)
#define wants(k, c) || place(k, c).state == WAITING || place(k, c).state == ASKED || place(k, c).state == HALFWAY
#define can_see_refusal(c) (!left[c] && refuses[c] && (worker[c].writing EACH(wants, c)))
#define can_see_eof(c) (!left[c] && ended[c] && len(down[c]) == 0)

#define or_moves(k, c) || can_claim(k, c) || must_return(k, c) || can_return(k, c) || can_go_on(k, c)
#define moves(c) (can_hear(c) || can_see_end(c) || can_settle(c) || can_close(c) || can_receive(c) || \
	can_see_refusal(c) || can_see_eof(c) EACH(or_moves, c))

#define HAND_OFF(k, c) \
	:: d_step { can_hand_off(k, c) -> \
		gives_up(k); \
		connection[k].sends++; \
		connection[k].channel = c; \
		connection[k].state = SENT; \
		connection[k].open = 1; \
		end_of[c].outstanding++; \
		down[c]!HANDOFF, k, connection[k].sends; \
		check() \
	}

proctype Dispatcher(byte c)
{
end:
	do
	EACH(HAND_OFF, c)
	:: d_step { can_recall(c) -> end_of[c].recall_sent = 1; down[c]!RECALL, 0, 0 }
	:: atomic { can_hear(c) -> hear(c); check() }
	/* The fence, at any moment. */
	:: d_step { !gone && end_of[c].state == UP -> fence(c) }
	:: d_step { can_settle(c) -> settle(c); check() }
	:: d_step { can_close(c) -> close_end(c); end_of[c].state = CLOSED }
	:: d_step {
		GONE && !gone && c == 0 ->
		gone = 1;
		for (j : 0 .. CONNECTIONS - 1) {
			assert(REACH != GONE_HALFWAY || place(j, 0).state != HALFWAY);
			if
			:: place(j, 0).state == NOT_HERE && place(j, 1).state == NOT_HERE -> connection[j].excused = 1
			:: place(j, 0).state == WAITING || place(j, 1).state == WAITING -> connection[j].excused = 1
			:: else
			fi;
			if
			:: connection[j].state == QUEUED -> gives_up(j)
			:: else
			fi;
			connection[j].copies = 0
		}
		j = 0;
		close_end(0);
		close_end(1)
	   }
	od
}

/* The commit: the kernel has the last byte of the RETURN. */
inline commit(k, c)
{
	assert(REACH != RETURN_FOR_RECALL || !place(k, c).due);
	place(k, c).returned = place(k, c).id;
	place(k, c).copy = COPY_KEPT;
	place(k, c).due = 0;
	place(k, c).recalled = 0;
	if
	:: SERVED_AFTER -> place(k, c).state = BUSY; place(k, c).copy = 1
	:: HALF_COMMITS && place(k, c).state == HALFWAY -> place(k, c).state = NOT_HERE
	:: else -> place(k, c).state = NOT_HERE; gives_up(k)
	fi
}

/* The worker's end is over. Unclaimed ones are closed. A return that the kernel does not have is the user's again. */
inline leave(c)
{
	do
	:: len(down[c]) > 0 -> down[c]?what, h, a
	:: else -> break
	od;
	for (i : 0 .. CONNECTIONS - 1) {
		if
		:: place(i, c).state == WAITING -> place(i, c).state = NOT_HERE; place(i, c).copy = 0
		:: place(i, c).state == ASKED || place(i, c).state == HALFWAY ->
			assert(REACH != RETURN_REFUSED || place(i, c).state != ASKED || !refuses[c]);
			if
			:: DROPPED || !place(i, c).copy ->
				place(i, c).state = NOT_HERE;
				place(i, c).copy = 0;
				if
				:: !HALF_COMMITS -> gives_up(i)
				:: else
				fi
			:: else -> reached(SERVED_ON); place(i, c).state = BUSY
			fi
		:: else
		fi;
		place(i, c).due = 0;
		place(i, c).recalled = 0
	}
	worker[c].writing = 0;
	left[c] = 1;
	i = 0; h = 0; a = 0; what = 0
}

inline die(c)
{
	for (j : 0 .. CONNECTIONS - 1) {
		if
		:: place(j, c).state == WAITING || place(j, c).state == NOT_HERE
		:: else -> connection[j].excused = 1; gives_up(j)
		fi;
		place(j, c).state = NOT_HERE;
		place(j, c).copy = 0
	}
	j = 0;
	leave(c)
}

inline receive(c)
{
	down[c]?what, h, a;
	if
	:: what == HANDOFF -> place(h, c).state = WAITING; place(h, c).id = a; place(h, c).copy = 1
	:: what == RECALL ->
		for (i : 0 .. CONNECTIONS - 1) {
			place(i, c).recalled = (place(i, c).state == BUSY || place(i, c).state == IDLE);
			place(i, c).due = (place(i, c).recalled && (place(i, c).state == IDLE || !RECALL_OF_IDLE))
		}
		i = 0
	fi;
	h = 0; a = 0; what = 0
}

#define SERVE(k, c) \
	:: d_step { can_claim(k, c) -> up[c]!CLAIM, k, place(k, c).id, 0; place(k, c).state = BUSY; acts_on(k) } \
	:: d_step { place(k, c).state == BUSY -> \
		place(k, c).state = IDLE; \
		assert(REACH != IDLE_AFTER_RECALL || !place(k, c).due) } \
	:: d_step { place(k, c).state == IDLE -> place(k, c).state = BUSY } \
	/* The client ends the connection, or the worker does. */ \
	:: d_step { place(k, c).state == BUSY && (left[c] || can_answer(c)) -> \
		if \
		:: !left[c] -> up[c]!DONE, k, place(k, c).id, 0 \
		:: else \
		fi; \
		place(k, c).state = NOT_HERE; place(k, c).copy = 0; place(k, c).due = 0; place(k, c).recalled = 0; \
		connection[k].excused = 1; \
		gives_up(k) }

#define GIVE_BACK(k, c) \
	:: d_step { may_return(k, c) -> place(k, c).state = ASKED; place(k, c).copy = !CLOSE_EARLY } \
	:: d_step { can_return(k, c) -> up[c]!RETURN, k, place(k, c).id, k + 1; commit(k, c) } \
	:: d_step { can_return(k, c) -> \
		up[c]!HALF, k, place(k, c).id, k + 1; \
		worker[c].writing = 1; \
		place(k, c).state = HALFWAY; \
		if \
		:: HALF_COMMITS -> place(k, c).copy = 0; gives_up(k) \
		:: else \
		fi } \
	:: d_step { can_go_on(k, c) -> \
		worker[c].writing = 0; \
		up[c]!REST, k, place(k, c).id, 0; \
		commit(k, c) } \
	:: d_step { REACH == NO_ROOM && !left[c] && !refuses[c] && len(up[c]) == ROOM_UP && \
		place(k, c).state == HALFWAY -> reached(NO_ROOM) } \
	/* A faulty worker: a RETURN once more, with a descriptor that it should have closed; another one. */ \
	:: d_step { NOISE && noise > 0 && can_answer(c) && place(k, c).returned > 0 -> \
		noise--; up[c]!RETURN, k, place(k, c).returned, k + 1 } \
	:: d_step { NOISE && noise > 0 && can_return(k, c) -> \
		noise--; connection[k].excused = 1; up[c]!RETURN, k, place(k, c).id, OTHER; commit(k, c) }

proctype WorkerProcess(byte c)
{
end:
	do
	:: d_step { can_receive(c) -> receive(c) }
	EACH(SERVE, c)
	EACH(GIVE_BACK, c)
	:: d_step { can_see_refusal(c) -> leave(c) }
	:: d_step { can_see_eof(c) -> leave(c) }
	:: d_step { !left[c] -> leave(c) }
	:: d_step { !left[c] || place(0, c).copy -> die(c) }
	od
}

inline judge()
{
	for (i : 0 .. CONNECTIONS - 1) {
		holds(LOST, connection[i].excused || connection[i].users > 0 || connection[i].state == SENT);
		for (j : 0 .. WORKERS - 1) {
			holds(COPIES, !place(i, j).copy || place(i, j).state != NOT_HERE);
			holds(RECALLED, left[j] || !place(i, j).recalled || place(i, j).state != IDLE)
		}
	}
	i = 0; j = 0
}

init {
	atomic {
		for (j : 0 .. WORKERS - 1) {
			if
			:: version_two[j] = 1
			:: version_two[j] = 0
			fi;
			run Dispatcher(j);
			run WorkerProcess(j)
		}
		j = 0
	}
end:
	do
	:: d_step { !moves(0) && !moves(1) -> judge() }
	od
}
