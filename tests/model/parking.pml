/*
 * Parking and the successor: a connection outlives the proxies, and its input is served once
 * ===========================================================================================
 *
 * A proxy parks the connections that no worker has. Input wakes a parked one, and the proxy hands it to a
 * worker, or lets it wait until the worker has room. The worker returns it when it is idle. In an upgrade
 * a new proxy accepts, commits, and the old one then gives away what it has parked, recalls its worker,
 * and gives away what comes back, until it has nothing and ends. An upgrade may fail before the commit:
 * the new proxy then gives what it has accepted to the old one. A proxy that is taken over may still
 * receive connections of the one before it, and gives them away as well.
 *
 * handoff.pml and return.pml show that a handoff and a return take effect once or not at all. Here each is
 * in flight for some time, and then takes effect in one step. One step of a proxy is one callback from its
 * loop.
 */

#ifndef CONNECTIONS
#define CONNECTIONS 1 /* 1 or 2 */
#endif
#ifndef PROXIES
#define PROXIES 2 /* each has one worker, with one credit; 2 or 3 */
#endif
#ifndef INPUTS
#define INPUTS 2 /* requests of each client, up to 3 */
#endif
#ifndef DEATHS
#define DEATHS 0 /* of workers; another one takes the place */
#endif
#ifndef FAILURES
#define FAILURES 0 /* upgrades that fail before the commit */
#endif
#ifndef REACH
#define REACH 0
#endif

#define ALL 0
#define ONCE 1 /* a connection is in at most one place */
#define KEPT 2 /* and in no fewer, unless its client has ended, or a worker has died with it */
#define INPUT 3 /* input is served, read or unread, and only one of these */
#define QUIET 4 /* a connection that waits for a worker is not woken by input */
#define SERVED 5 /* at rest, all input is served */
#define ENDS 6 /* at rest, only the current proxy is there */
#define NONE 7
#ifndef PROPERTY
#define PROPERTY ALL
#endif
#define holds(property, condition) assert(!(PROPERTY == ALL || PROPERTY == property) || (condition))

/* Mutations: one of the rules is broken. */
#ifndef ARMED_IN_FLIGHT
#define ARMED_IN_FLIGHT 0 /* the event of a connection that is given away stays, and wakes it */
#endif
#ifndef ARMED_WHILE_WAITING
#define ARMED_WHILE_WAITING 0 /* a connection that waits has an event for input */
#endif
#ifndef GIVEN_TWICE
#define GIVEN_TWICE 0 /* a connection that is given away stays in the list */
#endif
#ifndef PENDING_LEFT
#define PENDING_LEFT 0 /* connections whose wake-up is pending are not given away */
#endif
#ifndef BEFORE_COMMIT
#define BEFORE_COMMIT 0 /* the old proxy acts when the new one accepts, not when it has committed */
#endif
#ifndef ENDS_EARLY
#define ENDS_EARLY 0 /* a proxy ends before its successor has all */
#endif
#ifndef PREDECESSOR_FORGOTTEN
#define PREDECESSOR_FORGOTTEN 0 /* a proxy ends while another one may give it connections */
#endif
#ifndef RETURNED_PARKED
#define RETURNED_PARKED 0 /* a proxy that has been taken over parks what its worker returns */
#endif
#ifndef GIVEN_PARKED
#define GIVEN_PARKED 0 /* and what another proxy gives */
#endif
#ifndef FAILED_AT_ONCE
#define FAILED_AT_ONCE 0 /* a proxy whose upgrade has failed ends with what it has accepted */
#endif
#ifndef NO_RECALL
#define NO_RECALL 0 /* the worker of a proxy that has been taken over keeps idle connections */
#endif
#ifndef DISMISSED_EARLY
#define DISMISSED_EARLY 0 /* it is recalled while connections wait for it */
#endif
#ifndef KEPT_IN_SHORTAGE
#define KEPT_IN_SHORTAGE 0 /* a worker keeps an idle connection while another one waits */
#endif
#ifndef BYTES_DROPPED
#define BYTES_DROPPED 0 /* the bytes that a process has read and not served do not go along */
#endif
#ifndef BYTES_TWICE
#define BYTES_TWICE 0 /* served bytes go along */
#endif
#ifndef BYTES_ASLEEP
#define BYTES_ASLEEP 0 /* a connection with such bytes is woken by further input only */
#endif
#ifndef END_FIRST
#define END_FIRST 0 /* the end of the peer counts before the input that came before it */
#endif

/* Situations that must occur. */
#define PENDING_GIVEN 1 /* a connection whose wake-up is pending is given away */
#define INPUT_IN_FLIGHT 2
#define END_IN_FLIGHT 3
#define BYTES_IN_FLIGHT 4
#define WAITED 5 /* a connection that has waited is handed to a worker */
#define WAITED_OVER 6 /* the proxy has been taken over meanwhile */
#define RETURNED_OVER 7 /* a connection is returned to a proxy that has been taken over */
#define RETURNED_UNHEARD 8 /* or whose successor has committed, which the proxy has not heard yet */
#define SERVED_BY_BOTH 9 /* workers of two proxies serve one connection */
#define MADE_ROOM 10 /* an idle connection is returned because another one waits */
#define UNCLAIMED 11 /* a worker dies, and a connection in its channel goes to another */
#define OUTLIVED 12 /* a worker dies after a return, which is heard later */
#define FORWARDED 13 /* a connection goes to a proxy that has been taken over as well, and on from there */
#define GIVEN_BACK 14 /* a new proxy whose upgrade has failed gives a connection to the old one */
#define TWO_PREDECESSORS 15 /* two proxies have been taken over, and both have a channel to the third */
#define reached(situation) assert(REACH != situation)

/* ---- the connections ---- */

typedef Connection {
	unsigned sent : 2; /* requests; each is in one of these: */
	unsigned unread : 2; /* in the socket */
	unsigned bytes : 2; /* read by the process that has the connection, and not served */
	unsigned served : 2;
	bool backlog = 1; /* nobody has accepted it */
	bool ended; /* the client has ended it */
	bool closed;
	unsigned server : 2 /* for REACH: the proxy whose worker has served it last, from 1 */
};
Connection connection[CONNECTIONS];

/* ---- the proxies and their workers ---- */

/* SLEEPS: parked. PENDING: parked, without an event; the next turn wakes it. READS: the proxy reads its request.
 * WAITS: for the worker. */
mtype = { NOT_HERE, SLEEPS, PENDING, READS, WAITS };
/* OUT: handed off, and unclaimed. BUSY and IDLE: the worker's. BACK: the worker has returned it, and the proxy has
 * not heard so. */
mtype = { NOWHERE, OUT, BUSY, IDLE, BACK };
typedef Place {
	mtype state = NOT_HERE;
	mtype worker = NOWHERE;
	bool armed; /* there is an event for input */
	unsigned given : 2 /* handoffs to the successor that it has not claimed */
};

/* STARTS: accepts, and has not committed. OVER: taken over. DISMISSES: its worker is recalled. */
mtype = { ABSENT, STARTS, CURRENT, OVER, DISMISSES, GONE };
#define NOBODY 3
typedef Proxy {
	mtype life = ABSENT;
	unsigned successor : 2 = NOBODY; /* the proxy that has accepted its channel */
	bool failed; /* for REACH: its upgrade */
	bool lost_worker; /* for REACH */
	Place at[CONNECTIONS]
};
Proxy proxy[PROXIES];

byte current; /* the proxy that has committed last */
byte newest; /* the one that has started last */
byte deaths = DEATHS;
byte failures = FAILURES;
hidden byte i, j, n;

#define place(k, p) proxy[p].at[k]
#define accepts(p) (proxy[p].life == STARTS || proxy[p].life == CURRENT)
#define was_taken_over(p) (proxy[p].life == OVER || proxy[p].life == DISMISSES)
#define lives(p) (accepts(p) || was_taken_over(p))
#define upgrading (newest > current && proxy[newest].life == STARTS)

#if CONNECTIONS == 1
#define some(what, p) (what(0, p))
#else
#define some(what, p) (what(0, p) || what(1, p))
#endif
#define with_worker(k, p) (place(k, p).worker != NOWHERE)
#define waits(k, p) (place(k, p).state == WAITS)
#define is_unclaimed(k, p) (place(k, p).state == READS || waits(k, p) || place(k, p).worker == OUT)
#define in_flight(k, p) (place(k, p).given > 0)
#define has_room(p) (!some(with_worker, p) && proxy[p].life != DISMISSES)
#define has_input(k) (connection[k].unread > 0)
#define has_nothing(k) (connection[k].unread == 0 && connection[k].bytes == 0)
#define has_ended(k) (connection[k].ended && has_nothing(k))

/* Each step that moves a connection ends with this. */
inline check()
{
	for (i : 0 .. CONNECTIONS - 1) {
		n = connection[i].backlog + connection[i].closed;
		for (j : 0 .. PROXIES - 1) {
			n = n + (place(i, j).state != NOT_HERE) + place(i, j).given + (place(i, j).worker != NOWHERE)
		}
		holds(ONCE, n <= 1);
		holds(KEPT, n >= 1);
		holds(INPUT, connection[i].closed || connection[i].sent ==
			connection[i].unread + connection[i].bytes + connection[i].served)
	}
	i = 0; j = 0; n = 0
}

/* Only these end a connection: its client, and the death of the worker that has it. */
inline close(k, excused)
{
	holds(KEPT, excused);
	connection[k].closed = 1;
	connection[k].ended = 0;
	connection[k].sent = 0;
	connection[k].unread = 0;
	connection[k].bytes = 0;
	connection[k].served = 0
}

inline read(k) { connection[k].unread--; connection[k].bytes++ }

inline give(k, p)
{
	assert(REACH != PENDING_GIVEN || place(k, p).state != PENDING);
	assert(REACH != BYTES_IN_FLIGHT || connection[k].bytes == 0);
	place(k, p).given = place(k, p).given + (place(k, p).given < 3);
	if
	:: GIVEN_TWICE
	:: else -> place(k, p).state = NOT_HERE
	fi;
	place(k, p).armed = ARMED_IN_FLIGHT
}

inline park(k, p)
{
	if
	:: connection[k].bytes > 0 && !BYTES_ASLEEP -> place(k, p).state = PENDING
	:: else -> place(k, p).state = SLEEPS; place(k, p).armed = 1
	fi
}

/* A connection without a request under way is here. */
inline idles(k, p, parked_here)
{
	if
	:: was_taken_over(p) && !(parked_here) -> give(k, p)
	:: else -> park(k, p)
	fi
}

inline is_over(p)
{
	proxy[p].life = OVER;
	for (i : 0 .. CONNECTIONS - 1) {
		if
		:: place(i, p).state == SLEEPS || (place(i, p).state == PENDING && !PENDING_LEFT) -> give(i, p)
		:: else
		fi
	}
	i = 0
}

inline wake(k, p)
{
	holds(QUIET, place(k, p).state != WAITS);
	place(k, p).armed = 0;
	if
	:: has_ended(k) || (END_FIRST && connection[k].ended) ->
		place(k, p).state = NOT_HERE;
		close(k, has_ended(k))
	:: else -> place(k, p).state = READS
	fi
}

inline hand_off(k, p)
{
	place(k, p).state = NOT_HERE;
	place(k, p).armed = 0;
	place(k, p).worker = OUT
}

/* The proxy ends. What is still here is closed: nothing, if the rules hold. */
inline go(p)
{
	proxy[p].life = GONE;
	for (i : 0 .. CONNECTIONS - 1) {
		for (j : 0 .. PROXIES - 1) {
			if
			:: (j == p || (proxy[j].successor == p && lives(j))) && place(i, j).given > 0 ->
				place(i, j).given = 0;
				close(i, 0)
			:: else
			fi
		}
		if
		:: place(i, p).state != NOT_HERE || place(i, p).worker != NOWHERE ->
			place(i, p).state = NOT_HERE;
			place(i, p).worker = NOWHERE;
			close(i, 0)
		:: else
		fi;
		place(i, p).armed = 0
	}
	i = 0; j = 0
}

#define PARKING(k, p) \
	:: d_step { lives(p) && place(k, p).armed && (has_input(k) || connection[k].ended) -> wake(k, p); check() } \
	:: d_step { lives(p) && place(k, p).state == PENDING -> place(k, p).state = READS } \
	:: d_step { place(k, p).state == READS && has_input(k) -> read(k) } \
	:: d_step { place(k, p).state == READS && !has_nothing(k) -> \
		if \
		:: has_room(p) -> hand_off(k, p) \
		:: else -> place(k, p).state = WAITS; place(k, p).armed = ARMED_WHILE_WAITING \
		fi; \
		check() } \
	:: d_step { waits(k, p) && has_room(p) -> \
		reached(WAITED); \
		assert(REACH != WAITED_OVER || !was_taken_over(p)); \
		hand_off(k, p); check() } \
	:: d_step { connection[k].backlog && accepts(p) && (has_input(k) || connection[k].ended) -> \
		connection[k].backlog = 0; place(k, p).state = READS; check() } \
	:: d_step { place(k, p).state == READS && has_ended(k) -> \
		place(k, p).state = NOT_HERE; close(k, 1); check() }

#define must_return(k, p) ((proxy[p].life == DISMISSES && !NO_RECALL) || (some(waits, p) && !KEPT_IN_SHORTAGE))

#define SERVING(k, p) \
	:: d_step { place(k, p).worker == OUT -> place(k, p).worker = BUSY } \
	:: d_step { (place(k, p).worker == BUSY || place(k, p).worker == IDLE) && has_input(k) -> read(k) } \
	:: d_step { place(k, p).worker == BUSY && connection[k].bytes > 0 -> \
		assert(REACH != SERVED_BY_BOTH || connection[k].server == 0 || connection[k].server == p + 1); \
		connection[k].bytes--; connection[k].served++; \
		connection[k].server = (p + 1) * (REACH == SERVED_BY_BOTH); \
		check() } \
	:: d_step { place(k, p).worker == BUSY && has_nothing(k) -> place(k, p).worker = IDLE } \
	:: d_step { place(k, p).worker == IDLE && connection[k].bytes > 0 -> place(k, p).worker = BUSY } \
	:: d_step { place(k, p).worker == IDLE && has_ended(k) -> \
		place(k, p).worker = NOWHERE; close(k, 1); check() } \
	:: d_step { place(k, p).worker == IDLE && must_return(k, p) -> give_back(k, p); check() } \
	:: d_step { place(k, p).worker == BACK && lives(p) -> \
		assert(REACH != RETURNED_OVER || !was_taken_over(p)); \
		assert(REACH != RETURNED_UNHEARD || proxy[p].life != CURRENT || current == p); \
		assert(REACH != OUTLIVED || !proxy[p].lost_worker); \
		place(k, p).worker = NOWHERE; idles(k, p, RETURNED_PARKED); check() }

inline give_back(k, p)
{
	assert(REACH != MADE_ROOM || !some(waits, p));
	place(k, p).worker = BACK;
	connection[k].bytes = connection[k].bytes + (BYTES_TWICE && connection[k].bytes < 3)
}

/* From proxy p to proxy q. */
#define TAKE(k, p, q) \
	:: d_step { lives(p) && lives(q) && proxy[p].successor == q && in_flight(k, p) -> \
		assert(REACH != FORWARDED || !was_taken_over(q)); \
		assert(REACH != GIVEN_BACK || !proxy[p].failed); \
		place(k, p).given--; \
		connection[k].bytes = connection[k].bytes * !BYTES_DROPPED; \
		idles(k, q, GIVEN_PARKED); check() }

/* They share the socket on which the successor accepts. */
#define CONNECT(p, q) \
	:: d_step { was_taken_over(p) && proxy[p].successor == NOBODY && accepts(q) -> \
		assert(REACH != TWO_PREDECESSORS || q != 2 || proxy[0].successor + proxy[1].successor != 2 + NOBODY); \
		proxy[p].successor = q }

#define TO(p, q) CONNECT(p, q) EACH(TAKE, p, q)

#define gives_to(q, p) (lives(q) && proxy[q].successor == p)
#define LIFE(p) \
	EACH_OF(PARKING, p) EACH_OF(SERVING, p) \
	/* It hears of the commit. */ \
	:: d_step { proxy[p].life == CURRENT && (current != p || (BEFORE_COMMIT && upgrading)) -> is_over(p); check() } \
	:: d_step { proxy[p].life == OVER && (!some(is_unclaimed, p) || DISMISSED_EARLY) -> \
		proxy[p].life = DISMISSES } \
	:: d_step { proxy[p].life == DISMISSES && !some(is_unclaimed, p) && !some(with_worker, p) && \
		(!some(in_flight, p) || ENDS_EARLY) && (!has_predecessor(p) || PREDECESSOR_FORGOTTEN) -> \
		go(p); check() }

inline judge()
{
	for (i : 0 .. CONNECTIONS - 1) {
		holds(SERVED, connection[i].closed || (connection[i].served == connection[i].sent && !connection[i].ended))
	}
	for (j : 0 .. PROXIES - 1) {
		holds(ENDS, !lives(j) || (proxy[j].life == CURRENT && j == current))
	}
	i = 0; j = 0
}

/* What happens without being asked. */
#define CLIENT(k) \
	:: d_step { connection[k].sent < INPUTS && !connection[k].ended && !connection[k].closed -> \
		assert(REACH != INPUT_IN_FLIGHT || !is_given(k)); \
		connection[k].sent++; connection[k].unread++ } \
	:: d_step { !connection[k].ended && !connection[k].closed -> \
		assert(REACH != END_IN_FLIGHT || !is_given(k)); \
		connection[k].ended = 1 }

/* The worker keeps an idle connection for some time. */
#define KEEP(k, p) \
	:: d_step { lives(p) && place(k, p).worker == IDLE -> give_back(k, p); check() }

#define DEATH(p) \
	:: d_step { deaths > 0 && lives(p) -> deaths--; die(p); check() }

inline die(p)
{
	for (i : 0 .. CONNECTIONS - 1) {
		if
		:: place(i, p).worker == OUT ->
			reached(UNCLAIMED);
			place(i, p).worker = NOWHERE;
			place(i, p).state = WAITS
		:: place(i, p).worker == BUSY || place(i, p).worker == IDLE ->
			place(i, p).worker = NOWHERE;
			close(i, 1)
		:: else
		fi
	}
	proxy[p].lost_worker = (REACH == OUTLIVED);
	i = 0
}

#if CONNECTIONS == 1
#define EACH(option, p, q) option(0, p, q)
#define EACH_OF(option, p) option(0, p)
#define CLIENTS CLIENT(0)
#else
#define EACH(option, p, q) option(0, p, q) option(1, p, q)
#define EACH_OF(option, p) option(0, p) option(1, p)
#define CLIENTS CLIENT(0) CLIENT(1)
#endif
#if PROXIES == 2
#define is_given(k) (in_flight(k, 0) || in_flight(k, 1))
#define has_predecessor(p) (gives_to(0, p) || gives_to(1, p))
#define LIVES LIFE(0) LIFE(1) TO(0, 1) TO(1, 0)
#define CHANCES EACH_OF(KEEP, 0) EACH_OF(KEEP, 1) DEATH(0) DEATH(1)
#else
#define is_given(k) (in_flight(k, 0) || in_flight(k, 1) || in_flight(k, 2))
#define has_predecessor(p) (gives_to(0, p) || gives_to(1, p) || gives_to(2, p))
#define LIVES LIFE(0) LIFE(1) LIFE(2) TO(0, 1) TO(0, 2) TO(1, 0) TO(1, 2) TO(2, 0) TO(2, 1)
#define CHANCES EACH_OF(KEEP, 0) EACH_OF(KEEP, 1) EACH_OF(KEEP, 2) DEATH(0) DEATH(1) DEATH(2)
#endif

/* Each of these steps is taken, if nothing else happens; then the state is at rest. */
active proctype Proxies()
{
	proxy[0].life = CURRENT;
end:
	do
	:: atomic {
		if
		LIVES
		:: d_step { upgrading -> proxy[newest].life = CURRENT; current = newest }
		:: else -> d_step { judge() }; goto rest
		fi
	   }
	od;
rest:
progress:
	skip;
	goto end
}

active proctype Chance()
{
end:
	do
	CLIENTS
	CHANCES
	:: d_step { newest < PROXIES - 1 && !upgrading && proxy[current].life == CURRENT ->
		newest++;
		proxy[newest].life = STARTS }
	:: d_step { failures > 0 && upgrading ->
		failures--;
		proxy[newest].failed = (REACH == GIVEN_BACK);
		if
		:: FAILED_AT_ONCE -> go(newest)
		:: else -> is_over(newest)
		fi;
		check() }
	od
}
