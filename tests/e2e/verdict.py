"""The verdict on a run, from the record of the clients and the logs of HAProxy and of all machines. This module looks
at no process and at no clock.

An address belongs to one connection of one client, and a number in the query to one request. There is one excuse for a
failed request: a machine died, and one of its workers had claimed the connection for this request. Three facts prove
it:

- HAProxy's line of the request names the dead machine;
- the claim log of the dead machine has one claim of this address more than the machine has answered its requests;
- no earlier request of the connection was retried, and left a claim there.

The machines have more than one service: each request is routed, and claimed, by itself.
"""

import collections
import dataclasses
import re

LINE = re.compile(r'(?:^|: )(?P<address>[\d.]+):\d+ \[[^]]*\] \S+ \S+?/(?P<server>\S+) \S+ '
                  r'(?P<status>-?\d+) \d+ \S+ \S+ (?P<state>\S{4}) \d+/\d+/\d+/\d+/(?P<retries>\+?\d+) \S+ "\S+ \S*[?]n=(?P<number>\d+) \S+"$')
ACCESS = re.compile(r'^(?P<address>[\d.]+)(?::\d+)? .*?"\S+ \S*[?]n=(?P<number>\d+) \S+" (?P<status>\d+) ')


@dataclasses.dataclass
class Line:
    """Of HAProxy, about one request."""
    address: str
    server: str
    status: int
    state: str  # "--" first: the session ended as it should
    retries: int
    number: int


def read_balancer(lines):
    """{number: Line}; a number occurs once."""
    found = {}
    for match in filter(None, map(LINE.search, lines)):
        line = Line(match["address"], match["server"], int(match["status"]), match["state"],
                    int(match["retries"].lstrip("+")), int(match["number"]))
        assert line.number not in found, f"{line} and {found[line.number]}"
        found[line.number] = line
    return found


def read_claims(lines):
    """{address: the number of its claims}"""
    words = [line.split() for line in lines]
    return collections.Counter(word[3].rsplit(":", 1)[0] for word in words if word[0] == "claim")


def read_access(lines):
    """{number: [address, ...]}"""
    found = collections.defaultdict(list)
    for match in filter(None, map(ACCESS.match, lines)):
        found[int(match["number"])].append(match["address"])
    return found


class Judge:
    """claims, access: {machine: lines of its log}."""

    def __init__(self, requests, balancer, claims, access):
        self.requests = {request.number: request for request in requests}
        self.lines = read_balancer(balancer)
        self.claims = {name: read_claims(lines) for name, lines in claims.items()}
        self.access = {name: read_access(lines) for name, lines in access.items()}

    def of_address(self, address):
        return [line for line in self.lines.values() if line.address == address]

    def proven(self, request, dead):
        """Whether the dead machine had claimed the request. Returns the reason why not, or nothing."""
        line = self.lines.get(request.number)
        if line is None:
            return "HAProxy has no line of it"
        if line.server != dead:
            return f"HAProxy had sent it to {line.server}"
        others = [other for other in self.of_address(request.address) if other.number < request.number]
        if any(other.retries for other in others):
            return "an earlier request of the connection was retried"
        answered = sum(other.server == dead for other in others)
        claimed = self.claims[dead][request.address]
        if claimed != answered + 1:
            return f"{dead} had claimed the connection {claimed} times, and answered {answered} times"
        return None

    def unproven(self, dead=None):
        """The failed requests without an excuse, with the reason. `dead`: the machine that died."""
        faults = []
        for request in self.requests.values():
            if request.error:
                why = "no machine has died" if dead is None else self.proven(request, dead)
                if why:
                    faults.append(f"{request}: {why}; {self.lines.get(request.number)}")
        return faults

    def logged(self, request, server, dead):
        """Whether the machine's access log has the answer. A worker that was killed right after an answer has no line
        of it, and has one of its claim."""
        lines = self.access[server][request.number]
        return lines == [request.address] or \
            (server == dead and not lines and self.claims[server][request.address] > 0)

    def mislogged(self, dead=None):
        """Faults of the logs, without which they prove nothing. Each request has one line of HAProxy, with its client's
        address; and each answered one a line with this address in the access log of the machine that answered it.
        `dead`: the machine whose workers were killed."""
        faults = []
        for request in self.requests.values():
            line = self.lines.get(request.number)
            if line is None or line.address != request.address:
                faults.append(f"{request}: HAProxy: {line}")
            elif not request.error and not self.logged(request, line.server, dead):
                faults.append(f"{request}: {line.server}: {self.access[line.server][request.number]}")
        known = {request.address for request in self.requests.values()}
        for name, claims in self.claims.items():
            faults += [f"{name}: a claim of a stranger: {address}" for address in claims if address not in known]
        return faults

    def served_by(self, name, since=0):
        """The number of the requests after the number `since` that the machine answered."""
        return sum(line.server == name and number > since and not self.requests[number].error
                   for number, line in self.lines.items())

    def retried(self):
        """The requests that HAProxy had to repeat."""
        return [line for line in self.lines.values() if line.retries]

    def figures(self, dead=None):
        failed = [request for request in self.requests.values() if request.error]
        return (f"requests {len(self.requests)}, retried {len(self.retried())}, failed {len(failed)}, "
                f"claimed on the dead machine {len(failed) - len(self.unproven(dead)) if dead else 0}, "
                + ", ".join(f"{name} {self.served_by(name)}" for name in self.claims))
