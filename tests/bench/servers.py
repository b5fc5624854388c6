"""HTTP servers that are compared: each with two workers, the same files, and no log unless asked for.

A server has `pids`, the first processes of its side; `port`; and stop(). Its constructor raises Missing if the program
is not installed.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import processes

WORKERS = 2


class Missing(Exception):
    """What is compared is not installed; the text says what."""


def need_program(name, package):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not found:
        raise Missing(f"{package} is not installed")
    return found


class Server:
    """Starts in the constructor of its class; the directory for its files goes with stop()."""

    workers = WORKERS

    def __init__(self, context, log=None, wrapper=()):
        self.context, self.root, self.log = context, context.root, log
        self.wrapper = wrapper
        self.scratch = tempfile.TemporaryDirectory(prefix="ferry-bench-")
        self.directory = pathlib.Path(self.scratch.name)
        self.output = self.directory / "output"
        self.started = []
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self):
        return [process.pid for process in self.started]

    def spawn(self, *arguments, **options):
        with open(self.output, "ab") as output:
            process = subprocess.Popen([*self.wrapper, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=output, cwd=self.directory, **options)
        self.started.append(process)
        return process

    def text(self):
        return self.output.read_text(errors="replace")

    def wait_for_word(self, word="listening", count=1):
        """The port that the server prints behind the word."""
        def printed():
            if self.started[0].poll() is not None:
                raise RuntimeError(f"{type(self).__name__} has ended:\n{self.text()}")
            found = re.findall(rf"^{word} (?:\S+:)?(\d+)$", self.text(), re.MULTILINE)
            return found[-1] if len(found) >= count else None
        return int(processes.wait_until(printed, f"{type(self).__name__} listens"))

    def wait_for_port(self, port):
        processes.wait_until(lambda: processes.can_connect(port), f"{type(self).__name__} listens")
        return port

    def stop(self):
        for process in self.started:
            processes.stop(process)
        self.started = []
        self.scratch.cleanup()


class Ferry(Server):
    options = ()

    def start(self):
        log = ["--", "--access-log", self.log] if self.log else []
        self.spawn(self.context.programs / "ferry-proxy", "--port", 0, "--root", self.root, "--workers", self.workers,
                   "--control", self.directory / "control", *self.options, *log)
        self.port = self.wait_for_word()
        self.wait_for_workers()

    def worker_pids(self):
        return [pid for each in self.pids for pid in processes.tree(each)
                if processes.name_of(pid) == "ferry-worker"]

    def wait_for_workers(self):
        processes.wait_until(lambda: len(self.worker_pids()) == self.workers, "the workers are there")


class Floor(Server):
    mode = None

    def start(self):
        self.spawn(self.context.bench / "http_floor", self.mode, self.root)
        self.port = self.wait_for_word()


class BareAccept(Floor):
    """The limit of a server whose workers accept."""
    mode = "accept"


class BareHandoff(Floor):
    """The limit of a server with handoffs and ferry's guarantees."""
    mode = "handoff"


class WholeHandoff(Floor):
    """The same with every system call by which ferry's programs keep a promise."""
    mode = "whole"


class Nginx(Server):
    def start(self):
        self.port = processes.free_port()
        self.start_nginx(self.port)

    def start_nginx(self, port):
        program = need_program("nginx", "nginx-light")
        log = f'log_format uri "$request_uri"; access_log {self.log} uri;' if self.log else "access_log off;"
        temporary = "".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        configuration = self.directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(
            f"daemon off; {user} worker_processes {self.workers}; pid {self.directory}/nginx.pid;\n"
            f"error_log {self.directory}/error.log; events {{ worker_connections 8192; }}\n"
            f"http {{ sendfile on; tcp_nopush on; {log} {temporary} keepalive_requests 1000000000;\n"
            f"server {{ listen 127.0.0.1:{port} backlog=4096; root {self.root}; }} }}\n")
        self.nginx = self.spawn(program, "-c", configuration, "-p", self.directory)
        self.wait_for_port(port)
        processes.wait_until(lambda: len(self.worker_pids()) == self.workers, "the workers are there")

    def worker_pids(self):
        return processes.children_of(self.nginx.pid)


class HaproxyNginx(Nginx):
    """HAProxy with two threads, nginx behind it."""

    def start(self):
        program = need_program("haproxy", "haproxy")
        backend = processes.free_port()
        self.start_nginx(backend)
        self.port = processes.free_port()
        configuration = self.directory / "haproxy.cfg"
        configuration.write_text(
            f"global\n nbthread {self.workers}\n maxconn 8192\n"
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
            f" http-reuse always\nlisten in\n bind 127.0.0.1:{self.port} backlog 4096\n"
            f" server files 127.0.0.1:{backend}\n")
        self.haproxy = self.spawn(program, "-W", "-db", "-f", configuration, "-p", self.directory / "haproxy.pid")
        self.wait_for_port(self.port)


class NodeCluster(Server):
    def start(self):
        program = need_program("node", "nodejs")
        script = pathlib.Path(__file__).with_name("node_cluster.js")
        self.spawn(program, script, self.root, self.workers, *([self.log] if self.log else []))
        self.port = self.wait_for_word()
        processes.wait_until(lambda: len(self.worker_pids()) == self.workers, "the workers are there")

    def worker_pids(self):
        return processes.children_of(self.started[0].pid)
