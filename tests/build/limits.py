"""Compares docs/limits.md with the code: each row of the page has its place there, and each default that a header or
another page states is that of a row. By ctest: build.limits."""

import os
import pathlib
import re
import sys

ROOT = pathlib.Path(os.environ["FERRY_SOURCE"])
UNITS = {"": 1, "KiB": 1024, "MiB": 1024 * 1024, "s": 1, "seconds": 1, "ms": 0.001}
CONSTANTS = {"CLOCK_SECOND": 1, "ANCILLARY_MAX_FDS": 253, "TRANSPORT_NO_TIMEOUT": None, "TRANSPORT_LINGER_USEC": None}

# The row, by its limit; the file; and the code, with its value in parentheses. A value is a number or a product, in
# the units of the page once it is divided by the last number here.
PLACES = [
    ("bytes that wait before a producer is paused", "src/transport/producer.c", r"default_high = \(size_t\)(.*);"),
    ("descriptors that wait before a producer is paused", "src/transport/transport.c", r"\.fd_high = (\d+)"),
    ("descriptors that wait", "src/stream/outgoing.c", r"\.limits = \{\.fds = (\d+)"),
    ("descriptors of one message of the kernel", "src/stream/outgoing.c", r"\.fds_per_message = (\d+)"),
    ("bytes of one wake-up, unix socket", "src/transport/transport.c", r"BYTES_PER_TURN = (.*),"),
    ("bytes of one wake-up, TCP", "src/transport/transport.c", r"BYTES_PER_TURN_INET = (.*),"),
    ("payload of a message", "src/message/stream.c", r"PAYLOAD_DEFAULT = (.*) \}"),
    ("descriptors of a message", "src/message/stream.c", r"stream->max_fds = (ANCILLARY_MAX_FDS);"),
    ("descriptors of a message", "src/kernel/ancillary.h", r"ANCILLARY_MAX_FDS = (\d+)"),
    ("callbacks that wait for messages to be sent", "src/message/receipts.c", r"PENDING_MAX = (\d+)"),
    ("bytes of a line", "src/line/stream.c", r"MAX_LENGTH_DEFAULT = (\d+)"),
    ("bytes that a channel reads ahead", "src/channel/state.c", r"READ_LIMIT_DEFAULT = ([^,]*),"),
    ("bytes that a channel queues", "src/channel/state.c", r"WRITE_LIMIT_DEFAULT = (.*) \}"),
    ("bytes of a ClientHello", "include/ferry/client_hello.h", r"FERRY_CLIENT_HELLO_LIMIT =\s+(\d+)"),
    ("handoffs that wait for a worker", "src/handoff/dispatcher.c", r"\bQUEUE_LIMIT = (\d+)"),
    ("handoffs that a worker has not claimed", "src/handoff/dispatcher.c", r"UNCLAIMED_LIMIT = (\d+)"),
    ("handoffs that a worker serves at once", "src/handoff/worker.c", r"CREDITS_DEFAULT = (\d+)"),
    ("the same, of a worker client", "src/handoff/worker_client.c", r"CREDITS_DEFAULT = (\d+)"),
    ("reports of served handoffs that wait", "src/handoff/worker_fields.h", r"WORKER_REPORTS_MAX = (\d+)"),
    ("a report of a served handoff waits", "src/handoff/worker_reports.c", r"delay = \{\.tv_usec = (\d+)", 1000000),
    ("parked connections", "src/parking/parking.c", r"\bLIMIT = (\d+)"),
    ("free descriptor slots, to park", "src/parking/parking.c", r"FD_RESERVE = (\d+)"),
    ("crashes until a supervisor is FAILING", "src/supervisor/settings.c", r"CRASH_LIMIT = (\d+)"),
    ("a closing TCP connection waits for the peer's end", "src/transport/parts.h", r"TRANSPORT_LINGER_USEC = (.*?) /", 1000000),
    ("connecting, while the backlog is full", "src/endpoint/connector.c", r"TIMEOUT_DEFAULT = (.*),"),
    ("a handoff waits for a worker", "src/handoff/dispatcher.c", r"\bDEADLINE = (.*),"),
    ("a worker owes an answer", "src/handoff/dispatcher.c", r"\bDEADLINE = (.*),"),
    ("a worker client's first pause", "src/handoff/worker_client.c", r"FIRST_PAUSE = (.*?),"),
    ("its longest pause", "src/handoff/worker_client.c", r"LONGEST_PAUSE = (.*?),"),
    ("a successor starts", "src/upgrade/upgrade.c", r"default_timeout = \{\.tv_sec = (\d+)"),
    ("a replaced process stays", "src/upgrade/upgrade.c", r"default_probation = \{\.tv_sec = (\d+)"),
] + [(row, "src/supervisor/settings.c", rf"&options->{member}, (.*)\}}") for row, member in (
    ("crashes are counted", "crash_window"),
    ("before a process that has ended is started again", "first_pause"),
    ("the same, after many that ended soon", "longest_pause"),
    ("a process that lives so long has not ended soon", "long_life"),
    ("a process starts", "start_timeout"),
    ("a process drains", "drain_timeout"),
    ("from that SIGTERM", "kill_timeout"),
    ("returns of a recall are spread", "recall_spread"))]

# Rows whose default is the absence of a limit, or no number: the code, or the sentence of a header, that has it.
OTHERS = [
    ("bytes that wait", "none", "include/ferry/transport.h", "bytes; 0, the default, for none"),
    ("descriptors in flight, all transports", "half of RLIMIT_NOFILE", "src/kernel/in_flight.c", "rlim_cur / 2"),
    ("free descriptor slots, to read messages", "0", "include/ferry/message.h", "0, the default: reading is"),
    ("closing in all", "none", "src/transport/core.c", ".close_timeout = TRANSPORT_NO_TIMEOUT"),
    ("a relay without movement", "none", "include/ferry/relay.h", "count as movement. None at first"),
    ("a relay closes", "none", "include/ferry/relay.h", "-ETIMEDOUT. None at first"),
]

# Where other pages repeat a default: the page, the words around the number, and the row.
REPEATED = [
    ("back-pressure.md", "high-water mark ({} if 0)", "bytes that wait before a producer is paused"),
    ("back-pressure.md", "or {} descriptors are queued", "descriptors that wait before a producer is paused"),
    ("channel.md", "ferry reads {} ahead of the polls", "bytes that a channel reads ahead"),
    ("channel.md", "hold for messages: {},", "bytes that a channel reads ahead"),
    ("closing.md", "or for {} after the last acknowledged", "a closing TCP connection waits for the peer's end"),
    ("coming-from.md", "0 to {} descriptors in place of one", "descriptors of a message"),
    ("coming-from.md", "{} in place of 16 KiB", "payload of a message"),
    ("coverage.md", "at most {} pending descriptors", "descriptors that wait"),
    ("coverage.md", "`MAX_LENGTH` ({})", "bytes of a line"),
    ("files.md", "sends at most {} on a unix socket", "bytes of one wake-up, unix socket"),
    ("files.md", "on a unix socket and {} elsewhere", "bytes of one wake-up, TCP"),
    ("guide.md", "At most {} descriptors (`ferry_transport_set_max", "descriptors of one message of the kernel"),
    ("guide.md", "at most {} (`ferry_transport_set_fd_buffer()`)", "descriptors that wait"),
    ("guide.md", "One wake-up sends at most {} (", "bytes of one wake-up, unix socket"),
    ("guide.md", "({} on TCP);", "bytes of one wake-up, TCP"),
    ("handoff.md", "keeps it for up to {}, and", "a report of a served handoff waits"),
    ("handoff.md", "than there are, by {} at most", "reports of served handoffs that wait"),
    ("handoff.md", "{} handoffs at first", "handoffs that wait for a worker"),
    ("handoff.md", "set_unclaimed_limit()`, {} at first", "handoffs that a worker has not claimed"),
    ("handoff.md", "tries again after {}, 100 ms", "a worker client's first pause"),
    ("handoff.md", "100 ms, … {};", "its longest pause"),
    ("line.md", "has at most {} bytes, or the limit of", "bytes of a line"),
    ("message.md", "the receiver's limits ({} and", "payload of a message"),
    ("message.md", "and {}, unless set)", "descriptors of a message"),
    ("relay.md", "write high-water mark ({}, or", "bytes that wait before a producer is paused"),
    ("relay.md", "`ferry_transport_set_fd_buffer()` ({}) and", "descriptors that wait before a producer is paused"),
    ("relay.md", "that it was sent, {} after the last", "a closing TCP connection waits for the peer's end"),
    ("supervisor.md", "fail: {} have ended within", "crashes until a supervisor is FAILING"),
    ("supervisor.md", "have ended within {}`", "crashes are counted"),
    ("tls.md", "longer than the limit, which is {} bytes", "bytes of a ClientHello"),
    ("tls.md", "malformed, or longer than {} bytes", "bytes of a ClientHello"),
    ("transport.md", "for {} at most after the last acknowledged", "a closing TCP connection waits for the peer's end"),
    ("tutorials/daemon.md", "`options.drain_timeout` is {}", "a process drains"),
    ("upgrade.md", "the deadline (`timeout`, {})", "a successor starts"),
]
# Sentences with a setter and a number that is no default.
OTHER_NUMBERS = [("channel.md", "and one read more"), ("coming-from.md", "mode 0600"), ("relay.md", "one read above it"),
                 ("relay.md", "under the mark + 253"), ("tutorials/broker.md", "with fewer than 8 free slots")]


def value(code):
    """Of a product or a quotient of numbers."""
    code = re.sub(r"INT64_C\((\d+)\)|\(size_t\)", lambda found: found.group(1) or "", code)
    code = re.sub(r"[A-Z][A-Z_]+", lambda found: str(CONSTANTS[found.group()]), code)
    if not re.fullmatch(r"[\d\s*/.]+", code):
        sys.exit(f"no number: {code}")
    result = None
    for operator, number in re.findall(r"([*/]?)\s*([\d.]+)", code):
        result = float(number) if result is None else \
            result * float(number) if operator == "*" else result / float(number)
    return result


def on_page(text):
    number, _, unit = text.replace(",", "").partition(" ")
    return float(number) * UNITS[unit]


def stated_by_headers():
    """The setters whose comments state a default in numbers, or that there is none."""
    for header in sorted(ROOT.glob("include/ferry/*.h")):
        for comment, function in re.findall(r"/\*\*((?:(?!\*/).)*?)\*/\s*FERRY_EXPORT[^;(]*?\b(ferry_\w+_set_\w+)\(",
                                            header.read_text(), re.S):
            text = re.sub(r"\s*\n\s*\*?\s*", " ", comment)
            if re.search(r"\b\d[\d.,]*( \w+)?( and [\d.]+ \w+)? (at first|in a new)|default is \d|None at first|"
                         r"There is none at first|\b0, the default|seconds at first", text):
                yield function


def comments():
    """The comment of each function, and of each member of options, in one line."""
    found = {}
    for header in sorted(ROOT.glob("include/ferry/*.h")):
        text = header.read_text()
        pieces = [(function, comment) for comment, function in re.findall(
            r"/\*\*((?:(?!\*/).)*?)\*/\s*FERRY_EXPORT[^;(]*?\b(ferry_\w+)\(", text, re.S)]
        pieces += re.findall(r"\b(\w+);\s*/\*\*<((?:(?!\*/).)*?)\*/", text, re.S)
        pieces += [(member, comment) for comment, member in re.findall(
            r"/\*\*((?:(?!\*/).)*?)\*/\s*struct timeval (\w+);", text, re.S)]
        for name, comment in pieces:
            found[name] = found.get(name, "") + re.sub(r"\s*\n\s*\*?\s*", " ", comment)
    return found


def is_stated(default, comment):
    number, _, unit = default.replace(",", "").partition(" ")
    words = {"s": ("s", "seconds?"), "ms": ("milliseconds?",)}.get(unit, (unit,))
    return any(re.search(rf"(?<![\d.]){re.escape(number)} ?{word}\b", comment) for word in words)


def repeated(rows, setters):
    """The faults of the other pages: another number, or a number behind a setter that REPEATED does not have."""
    faults = []
    pages = {path.relative_to(ROOT / "docs").as_posix(): " ".join(re.sub(r"```.*?```", "", path.read_text(), flags=re.S).split())
             for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/tutorials/*.md")]}
    for name, words, row in REPEATED:
        pattern = re.escape(words).replace(r"\{\}", r"(\d[\d,.]*(?: (?:[KM]iB|ms|s|seconds)\b)?)")
        found = re.search(pattern, pages[name])
        if found is None or row not in rows:
            faults.append(f"{name} has no '{words}', or docs/limits.md no '{row}'")
            continue
        if abs(on_page(found.group(1)) - on_page(rows[row])) > 1e-9:
            faults.append(f"{name}: {found.group(1)} in '{words}'; {rows[row]} in docs/limits.md")
        pages[name] = pages[name][:found.start(1)] + "…" + pages[name][found.end(1):]
    for name, text in pages.items():
        for sentence in re.split(r"(?<=[.;:]) | \| \|| - ", text if name not in ("limits.md", "coverage.md") else ""):
            if any(f"`{setter}()`" in sentence for setter in setters) and re.search(r"\b\d", sentence) and not any(
                    name == other and words in sentence for other, words in OTHER_NUMBERS):
                faults.append(f"{name}: nothing compares the number in '{sentence}'")
    return faults


def main():
    page = (ROOT / "docs/limits.md").read_text()
    cells = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in page.splitlines() if re.match(r"\| [^-]", line)]
    rows = {row[0]: row[1] for row in cells if row[1] != "default"}
    faults, seen = [], set()
    for row, file, pattern, *scale in PLACES:
        seen.add(row)
        found = re.search(pattern, (ROOT / file).read_text())
        if found is None or row not in rows:
            faults.append(f"{row}: not on the page, or not in {file}")
        elif abs(value(found.group(1)) / (scale[0] if scale else 1) - on_page(rows[row])) > 1e-9:
            faults.append(f"{row}: {rows[row]} on the page, {found.group(1)} in {file}")
    for row, text, file, code in OTHERS:
        seen.add(row)
        if rows.get(row) != text or code not in (ROOT / file).read_text():
            faults.append(f"{row}: not '{text}' on the page, or not in {file}")
    faults += [f"{row}: nothing compares it" for row in rows if row not in seen]
    found = comments()
    for row in cells:
        name = re.match(r"`(?:ferry_)?\w+", row[2])
        name = name and name.group().strip("`")
        if name in found and re.match(r"[\d.]", row[1]) and not is_stated(row[1], found[name]):
            faults.append(f"{row[0]}: {row[1]} on the page; the header states another number for {name}")
    stated = set(stated_by_headers())
    faults += [f"{name}: a header states its default, and the page does not" for name in sorted(stated)
               if f"`{name}()`" not in page]
    faults += repeated(rows, set(re.findall(r"`(\w+)\(\)`", " ".join(row[2] for row in cells))))
    print("\n".join(faults) if faults else
          f"{len(rows)} defaults, {len(stated)} functions that state one, {len(REPEATED)} repetitions in other pages")
    sys.exit(1 if faults or len(rows) < 30 or len(stated) < 12 else 0)


main()
