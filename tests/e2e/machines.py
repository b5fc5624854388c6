"""HAProxy and three machines with ferry, each in its own namespaces, on a wire that exists in this process's alone.

The first process of the test runs in namespaces of its own, made by unshare(1) with --kill-child: when it ends in any
way, the kernel ends every process inside, and removes the interfaces, the mounts and the temporary files. Nothing is
visible outside.

    clients 198.18/15 (here) -- 192.0.2.0/24 -- haproxy 10.77.0.10 -- bridge (here) -- m1, m2, m3 10.77.0.11 to .13

Each machine has its own /run/ferry and /var/log; a kill of its first process ends the machine at once, network and
all, as a failure of its power does. All machines see one /etc and one /srv, as after a deployment.
"""

import contextlib
import csv
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "programs"))

import harness  # noqa: E402

NAMES = ("m1", "m2", "m3")
BALANCER = "192.0.2.10"
WORKERS = 4  # of a machine
BASE = pathlib.Path("/run/fleet")
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
SKIPPED = 77


def run(*command, **options):
    subprocess.run(command, check=True, **options)


def enter_own_namespaces(script):
    """Replaces this process by one in namespaces of its own, which runs the script again. If the system has no tool or
    no permission for it, ends as skipped."""
    if os.environ.get("FERRY_FLEET_INSIDE"):
        return
    for tool in ("haproxy", "ip", "nsenter", "unshare"):
        if subprocess.run(["sh", "-c", f"command -v {tool}"], stdout=subprocess.DEVNULL,
                          check=False).returncode != 0:
            print(f"SKIPPED: {tool} is not installed")
            sys.exit(SKIPPED)
    tried = subprocess.run([*UNSHARE, "sh", "-ec", """ip link add name one type veth peer name other
        ip link add name wire type bridge"""], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        print(f"SKIPPED: no namespaces, or no veth in them: {tried.stderr.strip()}")
        sys.exit(SKIPPED)
    os.environ["FERRY_FLEET_INSIDE"] = "1"
    os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, "-B", script, *sys.argv[1:]])


def read_page(path):
    """The files of a page, {path: text}: each is a block of code whose first line is "# " and its path. And the words
    of the command that starts ferry-proxy."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.S | re.M)
    files = {block.split("\n", 1)[0][2:]: block for block in blocks if block.startswith("# /")}
    commands = [block for block in blocks if block.startswith("ferry-proxy --config")]
    assert len(commands) == 1, commands
    return files, shlex.split(commands[0].replace("\\\n", " "))


def become_site(files, contents):
    """Mounts /etc with the files of the page, and /srv with contents, {path: bytes}."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for directory in (BASE / "etc", "/run/ferry", "/run/haproxy"):
        pathlib.Path(directory).mkdir(parents=True)
    run("mount", "--bind", "/etc", str(BASE / "etc"))
    run("mount", "-t", "tmpfs", "tmpfs", "/etc")
    for entry in (BASE / "etc").iterdir():
        if entry.name != "haproxy":
            pathlib.Path("/etc", entry.name).symlink_to(entry)
    run("mount", "-t", "tmpfs", "tmpfs", "/srv")
    for path, content in [*files.items(), *contents.items()]:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "wire", "type", "bridge")
    run("ip", "link", "set", "wire", "up")
    run("ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo")


class Host:
    """Namespaces of their own for network, processes and mounts; and the processes in them."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.logs = BASE / name
        shutil.rmtree(self.logs, ignore_errors=True)
        (self.logs / "ferry").mkdir(parents=True)
        self.children = []
        self.shell = None  # its first process's parent

    def boot(self):
        # A process whose parent has ended becomes a child of the shell, which waits for it.
        with open(self.logs / "output", "ab") as log:
            self.shell = subprocess.Popen([*UNSHARE, "sh", "-c", "while :; do sleep 3600; done"],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        children = pathlib.Path(f"/proc/{self.shell.pid}/task/{self.shell.pid}/children")
        self.init = int(harness.wait_until(children.read_text, f"{self.name} boots"))
        unshare = os.readlink(f"/proc/{self.shell.pid}/exe")
        harness.wait_until(lambda: os.readlink(f"/proc/{self.init}/exe") != unshare, f"{self.name} boots")
        run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self.init))
        run("ip", "link", "set", self.name, "master", "wire", "up")
        self.run(f"""ip link set lo up && ip addr add {self.address}/24 dev eth0 && ip link set eth0 up &&
            mount --bind {self.logs} /var/log &&
            mount -t tmpfs tmpfs /run/ferry && mount -t tmpfs tmpfs /run/haproxy""")

    def enter(self, *command):
        return ["nsenter", "--target", str(self.init), "--net", "--mount", "--pid", "--", *command]

    def run(self, script):
        run(*self.enter("sh", "-ec", " ".join(script.split())))

    def start(self, *command, **options):
        with open(self.logs / "output", "ab") as log:
            child = subprocess.Popen(self.enter(*command), stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=subprocess.STDOUT, **options)
        self.children.append(child)
        return child

    def text(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.logs / "output").read_text(errors="replace")
        return ""

    def pids(self, name):
        """{pid inside: pid here} of the processes with this name."""
        space = os.readlink(f"/proc/{self.init}/ns/pid")
        found = {}
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "comm").read_text().strip() == name and os.readlink(process / "ns/pid") == space:
                    inside = re.search(r"^NSpid:.*\s(\d+)$", (process / "status").read_text(), re.M)
                    found[int(inside.group(1))] = int(process.name)
        return found

    def kill_processes(self):
        """SIGKILL to all processes but the first, by one call. The kernel closes their sockets, and answers."""
        self.run("kill -9 -1")
        for child in self.children:
            child.wait()
        self.children = []

    def kill(self):
        """The wire is cut, and then all ends: nobody hears of the end. Sockets with unsent data would keep the
        interface in the kernel for minutes."""
        run("ip", "link", "del", self.name)
        if self.shell.poll() is None:
            os.kill(self.init, signal.SIGKILL)
        self.shell.wait()
        for child in self.children:
            child.wait()
        self.children = []

    def set_link(self, state):
        run("ip", "link", "set", self.name, state)


class Machine(Host):
    """Runs ferry-proxy by the command of the page."""

    def __init__(self, name, address, command):
        super().__init__(name, address)
        self.command = command
        self.pid = 0  # of the current proxy, inside
        self.upgrades = 0

    def count(self, words):
        return len(re.findall(words, self.text(), re.M))

    def start_ferry(self):
        listening, ready = self.count("^listening "), self.count(r"\) is ready")
        path = f"{harness.BIN}:{os.environ['PATH']}"
        child = self.start("env", f"PATH={path}", *self.command)
        harness.wait_until(lambda: self.count("^listening ") > listening or child.poll() is not None,
                           f"{self.name} listens: {self.text()}")
        assert child.poll() is None, self.text()
        self.wait_for_workers(ready + WORKERS)
        [self.pid] = self.pids("ferry-proxy")
        self.upgrades = 0

    def wait_for_workers(self, total):
        """`total`: since the beginning."""
        harness.wait_until(lambda: self.count(r"\) is ready") >= total, f"{self.name}'s workers")

    def signal(self, number):
        os.kill(self.pids("ferry-proxy")[self.pid], number)

    def wait_for_end_of(self, pid):
        harness.wait_until(lambda: pid not in self.pids("ferry-proxy"), f"{self.name}: {pid} ends: {self.text()}")

    def upgrade(self):
        """Returns the pid of the old proxy, which may still run."""
        old = self.pid
        taken, listening = self.count("has taken over"), self.count("^listening ")
        self.signal(signal.SIGUSR2)
        harness.wait_until(lambda: self.count("has taken over") > taken and
                           self.count("^listening ") > listening, f"{self.name} is upgraded")
        self.pid = int(re.findall(r"the new proxy \(pid (\d+)\) is started", self.text())[-1])
        return old

    def begin_end(self):
        """The proxy becomes a lame duck: it serves on, and the health checks fail. Returns its process."""
        ducks = self.count("more seconds")
        self.signal(signal.SIGTERM)
        harness.wait_until(lambda: self.count("more seconds") > ducks, f"{self.name} is a lame duck")
        return self.children[-1]

    def restart_at_once(self):
        """Ends the proxy without its time as a lame duck, and starts it. Returns the exit status."""
        child = self.begin_end()
        self.signal(signal.SIGTERM)
        status = child.wait(harness.DEADLINE)
        self.start_ferry()
        return status

    def ask(self, target):
        """The body of an answer at the admin address."""
        answer = subprocess.run(self.enter("curl", "-s", f"http://127.0.0.1:8079{target}"), stdout=subprocess.PIPE,
                                text=True, check=True)
        return answer.stdout

    def connections(self):
        """The metrics of the connections that the proxy and its workers have, and which are not 0."""
        return re.findall(r"^ferry_(?:proxy_clients|proxy_idle|service_handoffs_outstanding\{\S*|service_queue_length\{\S*)"
                          r" [1-9].*$", self.ask("/-/metrics"), re.M)

    def reports(self):
        """The lines of sanitizers."""
        return re.findall(r"^.*(?:Sanitizer|runtime error:).*$", self.text(), re.M)

    def lines(self, log):
        with contextlib.suppress(FileNotFoundError):
            return (self.logs / "ferry" / log).read_text().splitlines()
        return []


class Balancer(Host):
    def __init__(self):
        super().__init__("haproxy", "10.77.0.10")

    def boot(self):
        super().boot()
        subprocess.run(["ip", "link", "del", "front"], stderr=subprocess.DEVNULL, check=False)  # of the one before
        run("ip", "link", "add", "front", "type", "veth", "peer", "name", "eth1", "netns", str(self.init))
        run("ip", "addr", "add", "192.0.2.2/24", "dev", "front")
        run("ip", "link", "set", "front", "up")
        self.run(f"""ip addr add {BALANCER}/24 dev eth1 && ip link set eth1 up &&
            ip route add 198.18.0.0/15 via 192.0.2.2""")
        syslog = pathlib.Path(__file__).parent / "syslog.py"
        self.start(sys.executable, "-B", str(syslog), "514", "/var/log/haproxy.log")
        harness.wait_until(lambda: "listening" in self.text(), "the syslog server")
        self.start("haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg")

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"/proc/{self.init}/root/run/haproxy/admin.sock")
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def requests(self):
        """The lines about requests."""
        return [line for line in (self.logs / "haproxy.log").read_text().splitlines() if " www ferry/" in line]

    def servers(self):
        """{name: the row of `show stat`}"""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        return {row["svname"]: row for row in rows if row["pxname"] == "ferry" and row["svname"] != "BACKEND"}

    def wait_for(self, name, status, what="status"):
        def is_so():
            with contextlib.suppress(OSError, KeyError):
                return self.servers()[name][what].startswith(status)
            return False
        harness.wait_until(is_so, f"{name}: {what} {status}")


class Fleet:
    """All hosts."""

    def __init__(self):
        self.machines = {}
        self.balancer = None

    def start(self, command):
        for index, name in enumerate(NAMES):
            machine = self.machines[name] = Machine(name, f"10.77.0.{11 + index}", command)
            machine.boot()
            machine.start_ferry()
        self.balancer = Balancer()
        self.balancer.boot()
        for name in NAMES:
            self.balancer.wait_for(name, "UP")

    def hosts(self):
        return [*self.machines.values(), *([self.balancer] if self.balancer else [])]

    def end(self):
        for host in self.hosts():
            host.kill()

    def describe(self):
        return "\n".join(f"== {host.name}\n{host.text()[-3000:]}" for host in self.hosts())
