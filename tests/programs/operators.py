"""What an operator relies on: the end of a proxy, its health, and the paths of its sockets."""

import contextlib
import fcntl
import os
import pathlib
import pwd
import random
import re
import resource
import signal
import socket
import stat
import subprocess
import tempfile
import unittest

import harness
from supervised import Case

HALF = b"GET /index.html HTTP/1.1\r\nHo"
REST = b"st: a\r\n\r\n"
V2_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), harness.DEADLINE).close()
    except (ConnectionRefusedError, ConnectionResetError):  # the socket may close within the handshake
        return True
    return False


class End(Case):
    def start_with_download(self, *options):
        """A proxy whose worker has a client that does not read, and is therefore not done soon."""
        proxy = self.start("--drain-timeout", "3600", *options, workers=1)
        with open(proxy.root / "large", "wb") as file:
            file.truncate(64 << 20)
        proxy.wait_until_ready(1)
        download = proxy.client()
        self.addCleanup(download.socket.close)
        download.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        download.read_head()
        return proxy, download

    def test_the_port_is_closed_while_workers_finish(self):
        proxy, download = self.start_with_download()
        admin = proxy.addresses("admin")[0][1]
        proxy.signal(signal.SIGTERM)
        harness.wait_until(lambda: refuses(proxy.port), "the port is closed")
        harness.wait_until(lambda: refuses(admin) and not proxy.control.exists(), "the others are closed, too")
        self.assertFalse(proxy.has_ended())
        with socket.create_server(("127.0.0.1", proxy.port)):  # the next proxy can have it
            pass
        received = len(download.input)
        while received < 64 << 20:
            received += len(download.socket.recv(1 << 20)) or self.fail(f"the end after {received} bytes")

    def test_a_head_under_way_is_served(self):
        proxy, download = self.start_with_download()
        with proxy.client() as begun:
            begun.send(HALF)
            harness.wait_until(lambda: proxy.metric("ferry_proxy_clients ") >= 1, "the client is read")
            proxy.signal(signal.SIGTERM)
            harness.wait_until(lambda: refuses(proxy.port), "the port is closed")
            begun.send(REST)
            self.assertEqual(begun.read_answer().status, 200)
        download.socket.close()

    def test_clients_in_the_backlog_are_served(self):
        proxy, download = self.start_with_download()
        proxy.signal(signal.SIGSTOP)
        waiting = [proxy.client() for _ in range(100)]
        for client in waiting:
            self.addCleanup(client.socket.close)
            client.send(HALF + REST)
        proxy.signal(signal.SIGTERM)
        proxy.signal(signal.SIGCONT)
        self.assertEqual([client.read_answer().status for client in waiting], [200] * 100)
        download.socket.close()

    def test_half_a_request_does_not_hold_up_the_end(self):
        proxy = self.start("--head-timeout", "3600", "--drain-timeout", "3600", workers=1)
        proxy.wait_until_ready(1)
        with proxy.client() as begun, proxy.client() as silent, proxy.client() as kept:
            kept.ask("/")
            kept.send(HALF)
            begun.send(HALF)
            harness.wait_until(lambda: proxy.metric("ferry_proxy_clients ") >= 2, "the clients are read")
            proxy.signal(signal.SIGTERM)
            self.assertEqual(proxy.wait_for_end(proxy.pid), 0)
            self.assertEqual(begun.read_answer().status, 408)
            self.assertTrue(silent.at_end())

    def test_a_lame_duck_serves_and_is_not_healthy(self):
        proxy = self.start("--lame-duck", "3600", workers=1)
        proxy.wait_until_ready(1)
        with proxy.client() as kept:
            self.assertEqual(kept.ask("/").status, 200)
            proxy.signal(signal.SIGTERM)
            proxy.wait_for("serving for 3600 more seconds")
            answer = proxy.admin("/-/healthz")
            self.assertEqual((answer.status, answer.body), (503, b"draining\n"))
            self.assertEqual(proxy.ask("/").status, 200)
            self.assertEqual(kept.ask("/").status, 200)
            proxy.signal(signal.SIGTERM)
            harness.wait_until(lambda: refuses(proxy.port), "the port is closed")
        self.assertEqual(proxy.wait_for_end(proxy.pid), 0)

    def test_signals_while_it_tidies_up_do_not_kill_it(self):
        """A terminal, a service manager and an operator may each send the same signal, at any step of the end."""
        for name in ("proxy", "worker"):
            server = harness.Server(workers=1)
            server.put("index.html", b"hello")
            program = server.proxy if name == "proxy" else server.workers[0]
            with contextlib.ExitStack() as clients:
                for _ in range(100):
                    clients.enter_context(server.client()).ask("/")
                while program.process.poll() is None:
                    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                        program.process.send_signal(number)
            self.assertEqual(program.process.returncode, 0, program.text())
            server.stop()


class Health(Case):
    def test_a_service_without_a_worker_is_not_healthy(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0
            service www root={root} workers=1
            service chat socket={directory}/chat.sock
            route path=/chat chat
            default www
        """)
        proxy.wait_until_ready(1)
        self.assertEqual(proxy.admin("/-/healthz").status, 200)
        self.assertEqual(proxy.admin("/-/healthz/www").status, 200)
        answer = proxy.admin("/-/healthz/chat")
        self.assertEqual((answer.status, answer.body), (503, b"chat: no worker is ready\n"))
        with contextlib.ExitStack() as stack:
            worker = harness.Child(proxy.directory, "ferry-worker", "--socket", proxy.directory / "chat.sock",
                                   "--root", proxy.root)
            stack.callback(worker.kill)
            harness.wait_until(lambda: proxy.admin("/-/healthz/chat").status == 200, "the worker is ready")
        harness.wait_until(lambda: proxy.admin("/-/healthz/chat").status == 503, "the worker is gone")
        self.assertEqual(proxy.admin("/-/healthz/none").status, 404)

    def test_a_proxy_without_a_worker_is_not_healthy(self):
        proxy = self.start(workers=1, worker=("--nothing",))
        proxy.wait_for("exited with status 2", 2)
        self.assertEqual(proxy.admin("/-/healthz").status, 503)


class Paths(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.path = self.directory / "path.sock"

    def start(self, *options):
        return harness.Child(self.directory, "ferry-proxy", "--root", self.directory, "--workers", "1",
                             *options, emulated=True)

    def start_all(self):
        """A proxy for each kind of path that it listens on."""
        kinds = {"control": ("--control", self.path, "--port", "0"),
                 "listen": ("--listen", f"unix:{self.path}"),
                 "admin": ("--admin", f"unix:{self.path}", "--port", "0"),
                 "service": ("--socket", self.path, "--port", "0")}
        for kind, options in kinds.items():
            with self.subTest(kind):
                yield self.start(*options)

    def assert_refused(self, proxy):
        self.assertEqual(proxy.process.wait(harness.DEADLINE), 1)
        self.assertIn("another process listens there, or the file is not a socket", proxy.text())

    def test_a_file_is_not_replaced(self):
        self.path.write_text("precious")
        for proxy in self.start_all():
            self.assert_refused(proxy)
            self.assertEqual(self.path.read_text(), "precious")

    def test_a_directory_is_not_replaced(self):
        self.path.mkdir()
        (self.path / "kept").write_text("precious")
        for proxy in self.start_all():
            self.assert_refused(proxy)
            self.assertEqual((self.path / "kept").read_text(), "precious")

    def test_a_symbolic_link_is_not_followed(self):
        for target in ("file", "nowhere", "stale"):
            with self.subTest(target):
                (self.directory / "file").write_text("precious")
                with socket.socket(socket.AF_UNIX) as stale, contextlib.suppress(OSError):
                    stale.bind(str(self.directory / "stale"))
                self.path.symlink_to(self.directory / target)
                self.assert_refused(self.start("--control", self.path, "--port", "0"))
                self.assertTrue(self.path.is_symlink())
                self.assertEqual((self.directory / "file").read_text(), "precious")
                self.path.unlink()

    def test_the_socket_of_another_is_not_taken(self):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            with self.subTest(kind), socket.socket(socket.AF_UNIX, kind) as other:
                other.bind(str(self.path))
                if kind != socket.SOCK_DGRAM:
                    other.listen()
                inode = self.path.stat().st_ino
                for proxy in self.start_all():
                    self.assert_refused(proxy)
                self.assertEqual(self.path.stat().st_ino, inode)
                self.path.unlink()

    def test_a_socket_that_a_killed_proxy_has_left_is_replaced(self):
        killed = self.start("--listen", f"unix:{self.path}")
        killed.wait_for("listening ")
        killed.kill()
        self.assertTrue(self.path.exists())
        proxy = self.start("--listen", f"unix:{self.path}")
        proxy.wait_for("listening ")
        proxy.stop()
        self.assertFalse(self.path.exists())

    def test_one_of_several_that_start_at_once_gets_the_path(self):
        killed = self.start("--listen", f"unix:{self.path}")
        killed.wait_for("listening ")
        killed.kill()
        proxies = [self.start("--listen", f"unix:{self.path}") for _ in range(8)]
        for proxy in proxies:
            self.addCleanup(proxy.kill)
        harness.wait_until(lambda: all(proxy.process.poll() is not None or "listening " in proxy.text()
                                       for proxy in proxies), "each has decided")
        serving = [proxy for proxy in proxies if proxy.process.poll() is None]
        self.assertEqual(len(serving), 1)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(harness.DEADLINE)
            client.connect(str(self.path))
            client.sendall(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertIn(b" 404 ", client.recv(4096))
        serving[0].stop()
        self.assertEqual([path.name for path in self.directory.iterdir() if "sock" in path.name], [])

    def test_mode_and_group_are_right(self):
        group = os.getgroups()[0] if os.getgroups() else os.getgid()
        proxy = self.start("--listen", f"unix:{self.path} mode=0660 group={group}")
        proxy.wait_for("listening ")
        status = self.path.stat()
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_gid), (0o660, group))
        proxy.stop()


class Trust(Case):
    def test_only_trusted_addresses_may_send_a_header(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0 proxy-protocol from=192.0.2.0/24,2001:db8::/32
            listen 127.0.0.1:0 proxy-protocol from=192.0.2.0/24,127.0.0.0/8
            service www root={root} workers=1
        """)
        proxy.wait_until_ready(1)
        (_, strange), (_, trusted) = proxy.addresses("listening")
        with proxy.client(trusted) as client:
            client.send(V2_LOCAL)
            self.assertEqual(client.ask("/").status, 200)
        with proxy.client(strange) as client:
            with contextlib.suppress(ConnectionError):
                client.send(V2_LOCAL + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                client.at_end()
            self.assertEqual(client.input, b"")
        proxy.wait_for("127.0.0.1: not an address that may send PROXY headers")


LINE = re.compile(r'(\S+) - - \[[^]]+\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+) '
                  r'"((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" (\d+\.\d{3})')


class Logs(Case):
    def lines(self, path, total):
        """The fields of each line: client, request, status, bytes, referer, agent, time."""
        def read():
            return path.read_text().splitlines() if path.exists() else []
        harness.wait_until(lambda: len(read()) >= total, f"{total} lines in {path.name}")
        found = [LINE.fullmatch(line) for line in read()]
        self.assertTrue(all(found), read())
        return [match.groups() for match in found]

    def start_with_log(self, directives=""):
        proxy = self.start(config=f"""
            listen 127.0.0.1:0
            access-log {{directory}}/access.log
            head-size 1000
            {directives}
            service www root={{root}} workers=1
            service other root={{root}} workers=1
            route host=a www
            route host=b other
        """)
        proxy.wait_until_ready(2)
        return proxy, proxy.access_log

    def test_lines_are_in_the_combined_format(self):
        proxy, log = self.start_with_log()
        with proxy.client() as client:
            client.send('GET /index.html?"x HTTP/1.1\r\nHost: a\r\nReferer: http://r/\\"\r\nUser-Agent: \xe4 b\r\n\r\n')
            self.assertEqual(client.read_answer().status, 200)
        _, request, status, size, referer, agent, _ = self.lines(log, 1)[0]
        self.assertEqual((request, status, size), ('GET /index.html?\\"x HTTP/1.1', "200", "5"))
        self.assertEqual((referer, agent), ('http://r/\\\\\\"', "\\xe4 b"))

    def test_the_bytes_are_those_that_were_sent(self):
        proxy, log = self.start_with_log()
        with open(proxy.root / "large", "wb") as file:
            file.truncate(1 << 30)
        with proxy.client() as client:
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
        line = self.lines(log, 1)[0]
        self.assertEqual((line[1], line[2]), ("GET /large HTTP/1.1", "200"))
        self.assertTrue(0 < int(line[3]) < 1 << 30, line)

    def test_each_answer_on_a_kept_connection_has_its_line(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0
            access-log {directory}/access.log
            keep 600
            service www root={root} workers=1
        """)
        log = proxy.access_log
        (proxy.root / "large").write_bytes(b"x" * 200000)
        wanted = ["/large", "/index.html", "/large", "/large", "/index.html"]
        requests = [f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in wanted]
        with proxy.client() as client:
            for number, request in enumerate(requests):
                client.send(request)
                client.read_answer()
                self.lines(log, number + 1) # while the client may send the next request
            client.send("".join(requests))
            for _ in requests:
                client.read_answer()
            lines = self.lines(log, 2 * len(wanted))
        sizes = {"/large": "200000", "/index.html": "5"}
        self.assertEqual([(line[1], line[3]) for line in lines],
                         [(f"GET {path} HTTP/1.1", sizes[path]) for path in wanted * 2])

    def test_the_answers_of_the_proxy_have_lines(self):
        proxy, log = self.start_with_log()
        bad = (("BAD\r\n\r\n", "400", "-"), (f"GET /{'x' * 1000}", "414", "-"),
               (f"GET / HTTP/1.1\r\nHost: a\r\nX: {'x' * 1000}", "431", "-"))
        for number, (text, status, request) in enumerate(bad):
            with proxy.client() as client:
                client.send(text)
                answer = client.read_answer()
                self.assertEqual(str(answer.status), status, text)
            line = self.lines(log, number + 1)[number]
            self.assertEqual((line[1], line[2], int(line[3])), (request, status, len(answer.body)))

    def test_logs_are_opened_anew(self):
        proxy, log = self.start_with_log()
        old = log.with_suffix(".1")
        claims, outcomes = proxy.claim_log, proxy.outcome_log
        proxy.ask("/index.html", "Referer: first")
        self.lines(log, 1)
        for file in (log, claims, outcomes):
            file.rename(file.with_suffix(".1"))
        proxy.signal(signal.SIGUSR1)
        harness.wait_until(lambda: log.exists() and claims.exists() and outcomes.exists(), "the logs are new")
        harness.wait_until(lambda: sum(1 for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*")
                                       if points_to(fd, old)) == 0, "nobody has the old log")
        proxy.ask("/index.html", "Referer: second")
        with proxy.client() as client:
            client.send("BAD\r\n\r\n")
            client.read_answer()
        self.assertEqual({line[4] for line in self.lines(log, 2)}, {"second", "-"})
        self.assertEqual([line[4] for line in self.lines(old, 1)], ["first"])

    def test_messages_never_block(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        with tempfile.TemporaryDirectory(prefix="ferry-e2e-") as directory:
            root = pathlib.Path(directory)
            proxy = harness.Child(root, "ferry-proxy", "--root", root, "--workers", "1",
                                  "--listen", "127.0.0.1:0 proxy-protocol from=192.0.2.1", stderr=writer)
            self.addCleanup(proxy.kill)
            os.close(writer)
            harness.wait_until(lambda: proxy.text().count("listening ") >= 1, "the proxy listens")
            strange = int(re.findall(r"(?m)^listening .*:(\d+)$", proxy.text())[0])
            for _ in range(1000):  # each is worth a line
                with harness.Client(strange) as client, contextlib.suppress(ConnectionError):
                    client.send("x")
                    client.at_end()
            proxy.process.send_signal(signal.SIGTERM)
            self.assertEqual(proxy.process.wait(harness.DEADLINE), 0)

    def test_repeated_messages_are_counted(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0 proxy-protocol from=192.0.2.1
            service www root={root} workers=1
        """)
        strange = "not an address that may send"
        for _ in range(2000):
            with proxy.client() as client, contextlib.suppress(ConnectionError):
                client.send("x")
                client.at_end()
        def counted():
            with proxy.client() as client, contextlib.suppress(ConnectionError):
                client.send("x")
                client.at_end()
            left = sum(map(int, re.findall(r"(\d+) lines like '.*?' were left out", proxy.text())))
            return proxy.count(f"(?m)^ferry-proxy: 127.*{strange}") + left >= 2000
        harness.wait_until(counted, "all lines are counted")


class User(unittest.TestCase):
    def another(self):
        """Another user, if this one is root and others reach the programs; or this one."""
        folders = pathlib.Path(os.environ["FERRY_BIN"]).resolve().parents
        if os.geteuid() == 0 and all(folder.stat().st_mode & stat.S_IXOTH for folder in folders):
            return pwd.getpwnam("nobody")
        return pwd.getpwuid(os.geteuid())

    def test_the_workers_of_another_user_write_the_log(self):
        user = self.another()
        with tempfile.TemporaryDirectory(prefix="ferry-e2e-") as directory:
            root = pathlib.Path(directory)
            root.chmod(0o755)
            (root / "index.html").write_text("hello")
            proxy = harness.Child(root, "ferry-proxy", "--root", root, "--workers", "1", "--listen", "127.0.0.1:0",
                                  "--user", user.pw_name, "--access-log", root / "access.log")
            self.addCleanup(proxy.kill)
            proxy.wait_for(" is ready")
            port = int(re.findall(r"(?m)^listening .*:(\d+)$", proxy.text())[0])
            with harness.Client(port) as client:
                self.assertEqual(client.ask("/").body, b"hello")
            harness.wait_until(lambda: '" 200 5 ' in (root / "access.log").read_text(), "the worker's line is there")
            self.assertEqual((root / "access.log").stat().st_uid, user.pw_uid)
            uids = re.search(r"(?m)^Uid:(.*)$", pathlib.Path(f"/proc/{proxy.process.pid}/status").read_text())
            self.assertEqual({int(uid) for uid in uids[1].split()}, {user.pw_uid})


class Reload(Case):
    CONFIG = """
        listen 127.0.0.1:0
        service a root={root} workers=1
        service b root={directory}/b workers=1
        route path=/b b
        default %s
        retry-after 3
    """

    def start_two(self):
        proxy = self.start(config=self.CONFIG % "a", prepare=("b",))
        (proxy.directory / "b/index.html").write_text("site b")
        proxy.wait_until_ready(2)
        return proxy

    def test_routes_change(self):
        proxy = self.start_two()
        with proxy.client() as kept:
            self.assertEqual(kept.ask("/").body, b"hello")
            proxy.configure(self.CONFIG % "b")
            proxy.signal(signal.SIGHUP)
            proxy.wait_until_ready(4)
            self.assertEqual(kept.ask("/").body, b"site b")
        self.assertEqual(proxy.ask("/").body, b"site b")

    def test_a_configuration_with_an_error_changes_nothing(self):
        proxy = self.start_two()
        workers = proxy.worker_pids()
        for text, cause in ((self.CONFIG % "none", "there is no service 'none'"),
                            (self.CONFIG % "b" + "nonsense 1", "'nonsense' is not a directive"),
                            (self.CONFIG % "b" + "service c root={root}", "a change of 'service' needs SIGUSR2"),
                            ("\x01" * 4096, "is not a")):
            proxy.configure(text)
            seen = proxy.count("the configuration stays as it was")
            proxy.signal(signal.SIGHUP)
            proxy.wait_for("the configuration stays as it was", seen + 1)
            if cause != "is not a":
                self.assertIn(cause, proxy.text())
            self.assertEqual(proxy.ask("/").body, b"hello")
        self.assertEqual(proxy.worker_pids(), workers)

    def test_an_upgrade_reads_all_of_it(self):
        proxy = self.start_two()
        proxy.configure(self.CONFIG % "c" + "service c root={directory}/b workers=1")
        self.wait_for_end_of(proxy, proxy.upgrade())
        self.assertEqual(proxy.ask("/").body, b"site b")

    def wait_for_end_of(self, proxy, pid):
        self.assertEqual(proxy.wait_for_end(pid), 0)


class Scheduling(Case):
    CONFIG = "listen 127.0.0.1:0\nservice www root={root} workers=1\n"

    def policies(self, proxy):
        found = []
        for pid in (proxy.pid, *proxy.worker_pids()):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                found.append(os.sched_getscheduler(pid))
        return found

    def test_the_workers_have_the_policy_of_the_proxy(self):
        proxy = self.start(config=self.CONFIG)
        proxy.wait_until_ready(1)
        self.assertEqual(self.policies(proxy), [os.SCHED_BATCH] * 2)
        proxy.configure(self.CONFIG + "scheduling other\n")
        proxy.signal(signal.SIGHUP)
        proxy.wait_until_ready(2)
        harness.wait_until(lambda: self.policies(proxy) == [os.SCHED_OTHER] * 2, "the new worker is alone")
        # An upgrade keeps to the configuration, whatever policy the old proxy has.
        os.sched_setscheduler(proxy.pid, os.SCHED_BATCH, os.sched_param(0))
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        harness.wait_until(lambda: len(proxy.worker_pids()) == 1, "the old worker has ended")
        self.assertEqual(self.policies(proxy), [os.SCHED_OTHER] * 2)

    def test_another_policy_stays(self):
        proxy = self.start(config=self.CONFIG, preexec_fn=lambda: os.sched_setscheduler(
            0, os.SCHED_IDLE, os.sched_param(0)))
        proxy.wait_until_ready(1)
        self.assertEqual(self.policies(proxy), [os.SCHED_IDLE] * 2)


class Shortage(Case):
    def test_a_full_disk_stops_no_request(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0
            access-log /dev/full
            service www root={root} workers=1
        """, worker=("--access-log", "/dev/full", "--claim-log", "/dev/full"))
        proxy.wait_until_ready(1)
        for _ in range(300):
            self.assertEqual(proxy.ask("/").status, 200)
        proxy.wait_for("log: No space left on device")

    def test_64_descriptors_are_enough(self):
        """For few clients at once; the others wait."""
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        with tempfile.TemporaryDirectory(prefix="ferry-e2e-") as directory:
            root = pathlib.Path(directory)
            (root / "index.html").write_text("hello")
            proxy = harness.Child(root, "ferry-proxy", "--root", root, "--workers", "1", "--port", "0",
                                  preexec_fn=limit)
            self.addCleanup(proxy.kill)
            proxy.wait_for(") is ready")
            port = int(re.findall(r"(?m)^listening .*:(\d+)$", proxy.text())[0])
            idle = [harness.Client(port) for _ in range(20)]
            for client in idle:
                self.addCleanup(client.socket.close)
            for client in idle[::-1]:
                client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for client in idle[::-1]:
                self.assertEqual(client.read_answer().status, 200)
                client.socket.close()
            proxy.stop()

    def test_noise_is_no_configuration(self):
        with tempfile.TemporaryDirectory(prefix="ferry-e2e-") as directory:
            path = pathlib.Path(directory) / "noise"
            noise = random.Random(1)
            for kind in range(4):
                data = noise.randbytes(1 << 20)
                if kind == 1:
                    data = b"a" * (1 << 20)
                elif kind == 2:
                    data = b"\n" * ((1 << 20) - 1) + b"x"
                elif kind == 3:
                    data = bytes(byte % 96 + 32 if byte % 50 else 10 for byte in data)
                path.write_bytes(data)
                done = subprocess.run([*harness.EMULATOR, harness.BIN / "ferry-proxy", "--check", "--config", path],
                                      capture_output=True, timeout=harness.DEADLINE, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, rb"\Aferry-proxy: [ -~]{1,400}\n\Z")


def points_to(link, path):
    try:
        return os.readlink(link) == str(path)
    except OSError:
        return False


if __name__ == "__main__":
    unittest.main()
