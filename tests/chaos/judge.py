"""The verdict on a run, from the logs of the clients, of the workers, of the proxy, and of the harness
about its kills. This module looks at no process and at no clock.

A connection is identified by the client's address and port, which are unique in the run. There is one excuse
for a failed request: a worker had claimed its connection, and the harness had killed that worker before the
client saw the failure. Either of two logs proves the claim:

- the worker's own line, written when it got the connection;
- the outcome KEPT at the proxy, by that worker. A worker may be killed between its claim and its line, but a
  successful claim is in the channel, and the proxy reads it.

A worker may return a connection, and another one claim it: then the last claim counts. Each claim but the last one must
have been returned, by the outcome RETURNED at the proxy: else two workers had the connection at once.

There is no excuse for an answer with another status than expected or with a wrong byte, nor for a missing
answer.
"""

import collections
import dataclasses

# The endings that a client sees if the process at the other end has died.
BROKEN = ("closed", "reset")
# The endings of connections that the client left; the others were cut.
LEFT = ("done",)
# The endings that a killed worker excuses, before an answer or between two.
CUT_BY_A_DEATH = (*BROKEN, "idle")


@dataclasses.dataclass
class Connection:
    name: str
    begun: int
    answered: int
    ending: str
    status: int
    time: int  # ns, CLOCK_MONOTONIC


@dataclasses.dataclass
class Claim:
    pid: int
    attempt: int


@dataclasses.dataclass
class Outcome:
    what: str  # done, rejected, expired, kept; returned, which is none
    pid: int  # 0: no worker
    attempt: int
    reason: str


def read_connections(lines):
    for line in lines:
        name, begun, answered, ending, status, time = line.split()
        yield Connection(name, int(begun), int(answered), ending, int(status), int(time))


def read_claims(lines):
    """{name: [Claim, …]}; other lines are ignored."""
    claims = collections.defaultdict(list)
    for line in lines:
        words = line.split()
        if words[0] == "claim":
            claims[words[3]].append(Claim(int(words[1]), int(words[2])))
    return claims


def read_outcomes(lines):
    """{name: [Outcome, …]}"""
    outcomes = collections.defaultdict(list)
    for line in lines:
        words = line.split()
        if words[0] == "outcome":
            outcome = Outcome(words[1], int(words[2]), int(words[3]), words[5])
            outcomes[words[4]].append(outcome)
    return outcomes


class Judge:
    """killed: {pid: time right before the kill}. outcomes None: the proxy writes no log."""

    def __init__(self, claims, outcomes, killed):
        self.claims = claims
        self.outcomes = outcomes
        self.killed = killed
        self.totals = dict.fromkeys((
            "connections", "requests", "ok", "failed_after_claim", "failed_unclaimed", "delivered_twice",
            "closed_unannounced", "connections_cut", "cut_in_request", "cut_at_worker", "not_ended", "not_in_claim_log", "outcomes_missing",
            "outcomes_twice", "proven_by_outcome_only", "returned"), 0)
        self.faults = []  # one line each
        self.seen = set()

    def add(self, connection):
        totals = self.totals
        if connection.name in self.seen:
            self.fault("a name twice", connection)
        self.seen.add(connection.name)
        totals["connections"] += 1
        totals["requests"] += connection.begun
        totals["ok"] += connection.answered
        totals["returned"] += self.returns(connection.name)
        if connection.ending not in LEFT:
            self.add_cut(connection)
        if connection.begun != connection.answered:
            self.add_failure(connection)
        elif connection.ending == "idle" and not self.is_excused(connection):
            # If the client had been about to send a request, that request would have been lost.
            self.count("closed_unannounced", connection)
        elif connection.ending == "no-end":
            self.count("not_ended", connection)
        self.check_logs(connection)

    def add_cut(self, connection):
        """A worker that is killed takes with it what it has claimed and not returned, and nothing else."""
        if connection.ending not in CUT_BY_A_DEATH or not self.is_excused(connection):
            self.totals["connections_cut"] += 1
        elif connection.begun != connection.answered:
            self.totals["cut_in_request"] += 1
        else:
            self.totals["cut_at_worker"] += 1

    def add_failure(self, connection):
        if connection.ending in BROKEN and self.is_excused(connection):
            self.totals["failed_after_claim"] += 1
            if len(self.claims.get(connection.name, ())) <= self.returns(connection.name):
                self.totals["proven_by_outcome_only"] += 1
        else:
            self.count("failed_unclaimed", connection)

    def outcomes_of(self, name):
        return self.outcomes.get(name, ()) if self.outcomes is not None else ()

    def returns(self, name):
        return sum(outcome.what == "returned" for outcome in self.outcomes_of(name))

    def takers(self, name):
        """The pids that got the connection and did not return it, by either log."""
        taken = {claim.pid for claim in self.claims.get(name, ())[self.returns(name):]}
        return taken | {outcome.pid for outcome in self.outcomes_of(name)
                        if outcome.what in ("kept", "done")}

    def is_excused(self, connection):
        taken = self.takers(connection.name)
        return len(taken) == 1 and all(
            pid in self.killed and self.killed[pid] <= connection.time for pid in taken)

    def check_logs(self, connection):
        """Checks that the logs are complete for the connection: otherwise they prove nothing."""
        claims = self.claims.get(connection.name, ())
        returns = self.returns(connection.name)
        if len(claims) > returns + 1 or len(self.takers(connection.name)) > 1:
            self.count("delivered_twice", connection)
        if connection.answered > 0 and not claims or len(claims) < returns:
            self.count("not_in_claim_log", connection)
        if self.outcomes is not None and connection.begun > 0:
            outcomes = self.outcomes_of(connection.name)
            if len(outcomes) == 0 and connection.ending != "no-connection":
                self.count("outcomes_missing", connection)
            elif len(outcomes) > returns + 1:
                self.count("outcomes_twice", connection)

    def count(self, name, connection):
        self.totals[name] += 1
        self.fault(name, connection)

    def fault(self, what, connection):
        outcomes = self.outcomes.get(connection.name, []) if self.outcomes is not None else "no log"
        killed = {pid: self.killed.get(pid) for pid in self.takers(connection.name)}
        self.faults.append(f"{what}: {connection} claims {self.claims.get(connection.name, [])} "
                           f"outcomes {outcomes} killed {killed}")

    def finish(self):
        """Finds connections in the claim log that no client had; returns whether there is no fault."""
        for name, claims in self.claims.items():
            if name not in self.seen:
                self.faults.append(f"claimed, and no client of ours: {name} {claims}")
        totals = self.totals
        answered_for = totals["ok"] + totals["failed_after_claim"] + totals["failed_unclaimed"]
        if totals["requests"] != answered_for:
            self.faults.append(f"the sums differ: {totals}")
        return not self.faults
