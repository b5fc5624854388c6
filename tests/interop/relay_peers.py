"""Real peers with examples/relay.c between them, beside the same peers connected directly.

Usage: relay_peers.py openssh|dbus|multiprocessing|wayland|ssh_agent [--whole] RELAY…

RELAY… is the command of the relay, which may start with valgrind. Each run checks everything that the peers
exchange, and that the relay has no more descriptors in the end than before. --whole makes the runs longer; it prints
the times of both ways for people. Exit status 77: a program is not installed.
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import reduction
from multiprocessing.connection import Client, Listener

from interop import Failure, check, check_equal

DEADLINE = int(os.environ.get("FERRY_DEADLINE", "120"))
HERE = os.path.dirname(os.path.abspath(__file__))


def wait_until(condition, subject):
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        check(time.monotonic() < deadline, f"{subject}: not within {DEADLINE} seconds")
        time.sleep(0.01)
    return result


def need(*programs):
    for program in programs:
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            print(f"skipped: no {program}")
            sys.exit(77)


@contextlib.contextmanager
def running(*command, stop=signal.SIGTERM, **options):
    """A child process, which is ended at the end of the block."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as attempt:
        attempt.connect(os.fspath(path))
        return True
    return False


class Relay:
    """A relay from `path` to `target`."""

    def __init__(self, process, path):
        self.process, self.path = process, path
        wait_until(lambda: os.path.exists(path), "the relay")
        self.before = self.fds()

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def check_left(self):
        wait_until(lambda: self.fds() <= self.before, "the descriptors of the relay")
        check_equal(self.fds(), self.before, "descriptors of the relay")
        check(self.process.poll() is None, "the relay has ended")


@contextlib.contextmanager
def relay_to(directory, target):
    path = os.path.join(directory, "relay")
    with running(*RELAY, path, target) as process:
        relay = Relay(process, path)
        yield relay
        relay.check_left()
    check_equal(process.returncode, 0, "exit status of the relay")


def times_of_both(direct, relayed, rounds):
    """Runs the two in turn, and returns the times of each."""
    times = ([], [])
    for _ in range(rounds):
        for way, action in enumerate((direct, relayed)):
            start = time.monotonic()
            action()
            times[way].append(time.monotonic() - start)
    return times


def report(subject, times, unit, figure=lambda seconds: seconds * 1e6):
    """Prints the medians and the best of both; `figure` makes one of a time. A busy machine disturbs the best least."""
    for name, choose in (("median", statistics.median), ("best", min)):
        direct, relayed = (figure(choose(each)) for each in times)
        print(f"{subject}, {name}: direct {direct:.4g} {unit}, relay {relayed:.4g} {unit}, "
              f"ratio {relayed / direct:.2f}", flush=True)


# ---- OpenSSH: a multiplexing master gets the standard descriptors of each session ----

SSHD = """ListenAddress 127.0.0.1:{port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/id.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
MaxSessions 100
"""


class Master:
    """sshd, and a master that is connected to it."""

    def __init__(self, directory, port):
        self.directory = directory
        self.options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o",
                        f"UserKnownHostsFile={directory}/known", "-o", f"IdentityFile={directory}/id",
                        "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-p", str(port)]

    def command(self, path, *words):
        return ["ssh", *self.options, "-S", path, "127.0.0.1", *words]

    def session(self, path, number):
        """Standard input, output, error and the exit status of one session."""
        result = subprocess.run(self.command(path, f"cat; echo err{number} >&2; exit {number % 200}"),
                                input=f"in{number}".encode(), capture_output=True, timeout=DEADLINE, check=False)
        check_equal((result.stdout, result.stderr, result.returncode),
                    (f"in{number}".encode(), f"err{number}\n".encode(), number % 200), f"session {number}")

    def bulk(self, path, data):
        result = subprocess.run(self.command(path, "sha256sum"), input=data, capture_output=True,
                                timeout=DEADLINE, check=True)
        check_equal(result.stdout.split()[0].decode(), hashlib.sha256(data).hexdigest(), "bulk")

    def at_once(self, path, count):
        sessions = [subprocess.Popen(self.command(path, f"cat >/dev/null; exit {number}"), stdin=subprocess.PIPE)
                    for number in range(count)]
        for session in sessions:
            session.stdin.close()
        check_equal([session.wait(DEADLINE) for session in sessions], list(range(count)), "sessions at once")


@contextlib.contextmanager
def ssh_master(directory):
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{directory}/{name}"], check=True)
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open(f"{directory}/config", "w", encoding="utf-8") as config:
        config.write(SSHD.format(port=port, directory=directory))
    master = Master(directory, port)
    path = f"{directory}/mux"
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
    with running(sshd, "-D", "-f", f"{directory}/config", "-E", f"{directory}/log"):
        wait_until(lambda: "listening" in read_text(f"{directory}/log"), "sshd")
        with running("ssh", *master.options, "-M", "-S", path, "-N", "127.0.0.1"):
            wait_until(lambda: os.path.exists(path), "the master")
            yield master, path


def read_text(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def openssh(directory, whole):
    need("ssh", "sshd", "ssh-keygen")
    sessions, together, size = (60, 20, 50_000_000) if whole else (6, 5, 3_000_000)
    data = os.urandom(size)
    with ssh_master(directory) as (master, path), relay_to(directory, path) as relay:
        numbers = itertools.count()
        times = times_of_both(lambda: master.session(path, next(numbers)),
                              lambda: master.session(relay.path, next(numbers)), sessions)
        report(f"{sessions} of {sessions} sessions", times, "us")
        times = times_of_both(lambda: master.bulk(path, data), lambda: master.bulk(relay.path, data), 3 if whole else 1)
        report(f"{size} bytes of standard input", times, "MB/s", lambda seconds: size / seconds / 1e6)
        master.at_once(relay.path, together)
        print(f"{together} of {together} sessions at once")
        relay.check_left()
        # The client of a session is killed: the master ends the session, as it does directly.
        mark = f"{os.getpid()}.{time.monotonic_ns() % 1000}"
        client = subprocess.Popen(master.command(relay.path, f"echo ready; exec sleep {mark}"), stdout=subprocess.PIPE)
        check_equal(client.stdout.readline(), b"ready\n", "the session")
        client.kill()
        client.wait()
        client.stdout.close()
        relay.check_left()


# ---- D-Bus: sd-bus counts the descriptors of each message ----

BUS = """<busconfig><type>session</type><listen>unix:path={directory}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>
"""


def dbus_peer(*words):
    return ["/usr/bin/python3", "-B", f"{HERE}/relay_dbus_peer.py", *words]


def monitored(directory, path, act):
    """The number of messages that a monitor sees while act() runs, which ends with a message that has "the end"."""
    output, errors = f"{directory}/monitor.out", f"{directory}/monitor.err"
    with open(output, "w", encoding="utf-8") as out, open(errors, "w", encoding="utf-8") as err, \
            running("busctl", f"--address=unix:path={path}", "monitor", "--json=short", stdout=out, stderr=err,
                    env={**os.environ, "SYSTEMD_LOG_LEVEL": "debug"}):
        wait_until(lambda: "Monitoring bus" in read_text(errors), "the monitor")
        act()
        wait_until(lambda: "the end" in read_text(output), "the last message")
    check("invalid message" not in read_text(errors).lower(), read_text(errors))
    return sum(1 for line in read_text(output).splitlines() if line.startswith("{"))


def dbus(directory, whole):
    need("dbus-daemon", "busctl")
    if subprocess.run(["/usr/bin/python3", "-c", "import dbus, gi"], capture_output=True, check=False).returncode:
        print("skipped: no python3-dbus or python3-gi")
        sys.exit(77)
    rounds = 300 if whole else 20
    with open(f"{directory}/bus.conf", "w", encoding="utf-8") as config:
        config.write(BUS.format(directory=directory))
    bus = f"{directory}/bus"
    with running("dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork", "--nopidfile"):
        wait_until(lambda: listens(bus), "the bus")
        with running(*dbus_peer("service", bus), stdout=subprocess.PIPE) as service, relay_to(directory, bus) as relay:
            check_equal(service.stdout.readline(), b"ready\n", "the service")

            def act():
                subprocess.run(dbus_peer("libdbus", bus, str(rounds)), check=True, timeout=DEADLINE)
            direct, relayed = monitored(directory, bus, act), monitored(directory, relay.path, act)
            check_equal(relayed, direct, "messages in the monitor")
            print(f"{relayed} of {direct} messages in a monitor", flush=True)
            for library in ("libdbus", "gdbus"):
                times = [float(subprocess.run(dbus_peer(library, way, str(rounds)), check=True, timeout=DEADLINE,
                                              capture_output=True).stdout) for way in (bus, relay.path) * 3]
                report(f"a call with a descriptor, {library}", (times[0::2], times[1::2]), "us", float)
            service.stdout.close()


# ---- multiprocessing: one descriptor, then one byte of answer ----

def serve_handles(listener, count):
    with listener.accept() as connection:
        for number in range(count):
            connection.send(("go", number))
            fd = os.memfd_create("handle")
            os.write(fd, b"%d" % number)
            reduction.send_handle(connection, fd, None)
            os.close(fd)
            back = reduction.recv_handle(connection)
            check_equal(os.pread(back, 20, 0), b"%d" % number, "handle that came back")
            os.close(back)


def exchange_handles(listener, path, count):
    server = threading.Thread(target=serve_handles, args=(listener, count))
    server.start()
    received = 0
    with Client(path, family="AF_UNIX", authkey=b"key") as connection:
        for number in range(count):
            check_equal(connection.recv(), ("go", number), "message")
            fd = reduction.recv_handle(connection)
            received += os.pread(fd, 20, 0) == b"%d" % number
            reduction.send_handle(connection, fd, None)
            os.close(fd)
    server.join()
    check_equal(received, count, "handles")


def multiprocessing(directory, whole):
    count = 500 if whole else 50
    path = f"{directory}/server"
    with Listener(path, family="AF_UNIX", authkey=b"key") as listener, relay_to(directory, path) as relay:
        times = times_of_both(lambda: exchange_handles(listener, path, count),
                              lambda: exchange_handles(listener, relay.path, count), 3)
        report(f"{count} of {count} handles there and back", times, "us", lambda seconds: seconds / count * 1e6)


# ---- Wayland: shared memory and keymaps, clients that are killed ----

def start_wayland_client(directory, path, number):
    log = f"{directory}/client{number}"
    with open(log, "w", encoding="utf-8") as output:
        return log, subprocess.Popen(["weston-simple-shm"], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                     env={**os.environ, "XDG_RUNTIME_DIR": directory, "WAYLAND_DISPLAY": path,
                                          "WAYLAND_DEBUG": "client"})


def draw_and_end(directory, path, numbers, killed):
    """Clients that draw some frames each; the last `killed` of them are killed while they draw."""
    clients = [start_wayland_client(directory, path, number) for number in numbers]
    for log, client in clients:
        wait_until(lambda log=log: read_text(log).count(".done(") > 3, f"frames of {log}")
        check(client.poll() is None, f"a client has ended: {log}")
    for index, (_, client) in enumerate(clients):
        client.send_signal(signal.SIGKILL if index >= len(clients) - killed else signal.SIGINT)
    statuses = [client.wait(DEADLINE) for _, client in clients]
    check_equal(statuses, [0] * (len(clients) - killed) + [-signal.SIGKILL] * killed, "exit statuses")


def wayland(directory, whole):
    need("weston", "weston-simple-shm", "weston-info")
    batches, batch, killed = (10, 10, 2) if whole else (2, 4, 1)
    os.chmod(directory, 0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": directory}
    environment.pop("WAYLAND_DISPLAY", None)
    with open(f"{directory}/weston.log", "w", encoding="utf-8") as log, \
            running("weston", "--backend=headless-backend.so", "--socket=display", "--idle-time=0", "--no-config",
                    stdout=log, stderr=log, env=environment) as weston:
        path = f"{directory}/display"
        wait_until(lambda: os.path.exists(path) or weston.poll() is not None, "weston")
        check(weston.poll() is None, read_text(f"{directory}/weston.log"))
        with relay_to(directory, path) as relay:
            listing = [subprocess.run(["weston-info"], capture_output=True, check=True, timeout=DEADLINE,
                                      env={**environment, "WAYLAND_DISPLAY": way}).stdout for way in (path, relay.path)]
            check_equal(listing[1], listing[0], "what weston-info prints")
            for number in range(batches):
                draw_and_end(directory, relay.path, range(number * batch, (number + 1) * batch), killed)
                relay.check_left()
            check(weston.poll() is None, "weston has ended")
            print(f"{batches * batch} clients, {batches * killed} of them killed; descriptors of the relay: "
                  f"{relay.before} before, {relay.fds()} after")


# ---- ssh-agent ----

def ssh_agent(directory, whole):
    need("ssh-agent", "ssh-add", "ssh-keygen")
    count = 100 if whole else 10
    path = f"{directory}/agent"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "throw-away", "-f", f"{directory}/id"],
                   check=True)
    with running("ssh-agent", "-D", "-a", path, stdout=subprocess.DEVNULL):
        wait_until(lambda: os.path.exists(path), "the agent")
        with relay_to(directory, path) as relay:
            environment = {**os.environ, "SSH_AUTH_SOCK": relay.path}
            subprocess.run(["ssh-add", "-q", f"{directory}/id"], env=environment, check=True, timeout=DEADLINE)
            os.remove(f"{directory}/id")  # the agent signs
            signers = [subprocess.Popen(["ssh-keygen", "-q", "-Y", "sign", "-n", "test", "-f", f"{directory}/id.pub"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env=environment) for _ in range(count)]
            for signer in signers:
                output, _ = signer.communicate(b"text", timeout=DEADLINE)
                check_equal(signer.returncode, 0, "exit status of ssh-keygen")
                check(b"BEGIN SSH SIGNATURE" in output, output)
            listing = subprocess.run(["ssh-add", "-l"], env=environment, check=True, capture_output=True,
                                     timeout=DEADLINE).stdout
            check(b"throw-away" in listing, listing)
            print(f"{count} of {count} signatures")


PEERS = {action.__name__: action for action in (openssh, dbus, multiprocessing, wayland, ssh_agent)}

if __name__ == "__main__":
    arguments = sys.argv[1:]
    WHOLE = "--whole" in arguments
    NAME, *RELAY = [word for word in arguments if word != "--whole"]
    with tempfile.TemporaryDirectory(prefix="ferry-relay-") as DIRECTORY:
        try:
            PEERS[NAME](DIRECTORY, WHOLE)
        except Failure as failure:
            sys.exit(f"{NAME}: {failure}")
