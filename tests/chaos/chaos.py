"""Many clients, while workers are killed, stopped and starved; or while proxy and workers are released, and workers
are killed or not.

FERRY_BIN is the directory of the proxy and the worker, FERRY_CHAOS_LOAD the program of the clients. The
script prints `name value` lines. It exits with 1 if a request failed, or a connection ended, that no killed worker had claimed;
judge.py has the rules. All sockets are on the loopback, all files in a temporary directory, and all
processes descend from this one.
"""

import argparse
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import daemons
import judge
import processes

LOAD = os.environ["FERRY_CHAOS_LOAD"]
CLIENTS = 64
KILL_EVERY = 0.2  # seconds
# The number of the first connection, of the main run and of the clients before it: other addresses.
MAIN_FIRST, WARM_FIRST, KEEPERS_FIRST = 0, 100_000_000, 200_000_000
# Clients that keep one connection through everything, and ask now and then.
KEEPERS = 500
KEEPERS_PAUSE_MS = 1000
FAULTS_SHOWN = 20


class Violence:
    """Kills one worker at each step. Stops some for a while, and then continues or kills them. Now and then it
    leaves a worker almost no free descriptors. The seed determines the choices."""

    def __init__(self, seed, server):
        self.random = random.Random(seed)
        self.server = server
        self.workers = {}  # pid: Process
        self.killed = {}  # pid: when
        self.stopped = self.starved = None
        self.until = {"stopped": 0, "starved": 0}
        self.counts = {"killed": 0, "killed_while_stopped": 0, "stopped": 0, "starved": 0}

    def look(self):
        """Opens a pidfd on each new worker."""
        for pid in self.server.worker_pids():
            known = self.workers.get(pid)
            if known is None:
                with contextlib.suppress(ProcessLookupError):
                    self.workers[pid] = processes.Process(pid)
            elif known.is_another():
                raise AssertionError(f"two workers had the pid {pid}: the run is void")
        for worker in (self.stopped, self.starved):
            if worker is not None and not worker.is_alive():
                self.forget(worker)

    def forget(self, worker):
        if self.stopped is worker:
            self.stopped = None
        if self.starved is worker:
            self.starved = None

    def living(self):
        return [worker for pid, worker in sorted(self.workers.items())
                if pid not in self.killed and worker.is_alive()]

    def choose(self, workers):
        """Takes one out of the list."""
        return workers.pop(self.random.randrange(len(workers)))

    def kill(self, worker):
        self.killed[worker.pid] = time.monotonic_ns()
        worker.send(signal.SIGKILL)
        self.counts["killed"] += 1
        self.forget(worker)

    def end_stop(self):
        if self.random.randrange(4) == 0:
            self.counts["killed_while_stopped"] += 1
            self.kill(self.stopped)
        else:
            self.stopped.send(signal.SIGCONT)
            self.stopped = None

    def begin_stop(self, now, worker):
        self.stopped = worker
        self.until["stopped"] = now + self.random.uniform(0.05, 1.5)
        worker.send(signal.SIGSTOP)
        self.counts["stopped"] += 1

    def begin_starving(self, now, worker):
        self.starved = worker
        self.until["starved"] = now + self.random.uniform(0.1, 0.8)
        worker.squeeze(self.random.randrange(4))
        self.counts["starved"] += 1

    def kill_one(self):
        """Kills one that runs; returns those that are left."""
        running = [worker for worker in self.living() if worker is not self.stopped]
        if running:
            self.kill(self.choose(running))
        return running

    def step(self):
        self.look()
        now = time.monotonic()
        if self.stopped is not None and now >= self.until["stopped"]:
            self.end_stop()
        if self.starved is not None and now >= self.until["starved"]:
            self.starved.unsqueeze()
            self.starved = None
        running = self.kill_one()
        # Two workers stay running, to take over.
        if self.stopped is None and len(running) > 1 and self.random.randrange(3) == 0:
            self.begin_stop(now, self.choose(running))
        if self.starved is None and running and self.random.randrange(3) == 0:
            self.begin_starving(now, self.random.choice(running))

    def end(self):
        self.look()
        if self.stopped is not None:
            self.stopped.send(signal.SIGCONT)
        if self.starved is not None:
            self.starved.unsqueeze()

    def close(self):
        for worker in self.workers.values():
            worker.close()


class Kills(Violence):
    """Kills one worker at each step at which no worker is missing, and nothing else: a machine that starts workers more
    slowly than the steps follow would never complete a release."""

    def step(self):
        self.look()
        if len(self.living()) >= daemons.WORKERS:
            self.kill_one()


class Run:
    def __init__(self, directory, options):
        self.directory = directory
        self.options = options
        patient = options.releases > 0 or options.upgrades > 0  # nobody stops a worker
        self.server = daemons.Daemons(directory, patient=patient, keep=not options.kill_every)
        self.logs = []
        self.killed = {}
        self.counts = {}
        self.upgrades = 0
        self.releases = 0

    # ---- the clients ----

    def start_load(self, seconds, first, *options, clients=CLIENTS):
        log = self.directory / f"load-{first}"
        self.logs.append(log)
        return processes.spawn(LOAD, "--port", self.server.port, "--log", log, "--clients", clients,
                               "--seconds", seconds, "--seed", self.options.seed, "--first", first, *options)

    def start_keepers(self):
        return self.start_load(86400, KEEPERS_FIRST, "--one-connection", "--pause", KEEPERS_PAUSE_MS,
                               clients=KEEPERS)

    def finish_load(self, load):
        def ended():
            self.server.tend()
            return load.poll() is not None
        processes.wait_until(ended, "the clients have their answers")
        if load.returncode != 0:
            raise AssertionError(f"the clients ended with {load.returncode}")

    # ---- what is open ----

    def connections(self):
        """The number of TCP connections of the proxy's port that a process has."""
        count = 0
        port = f"{self.server.port:04X}"
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            listens = fields[3] == "0A"
            count += (not listens and fields[9] != "0" and
                      port in (fields[1].split(":")[1], fields[2].split(":")[1]))
        return count

    def open_fds(self):
        """The numbers of descriptors: (of the proxy, [of each worker])."""
        def count(pids):
            found = []
            for pid in pids:
                with contextlib.suppress(OSError):
                    found.append(len(os.listdir(f"/proc/{pid}/fd")))
            return found
        return sum(count(self.server.proxy_pids())), count(self.server.worker_pids())

    def measure_idle(self):
        processes.wait_until(lambda: self.connections() == 0, "all connections are closed")
        # The other descriptors of a connection are closed in the same turn of the loop, or in the next one.
        counts = []
        for _ in range(10):
            counts.append(self.open_fds())
            time.sleep(0.02)
        self.idle_proxy = min(proxy for proxy, _ in counts)
        self.idle_worker = max(min(workers) for _, workers in counts)

    def leaked(self):
        proxy, workers = self.open_fds()
        return max(0, proxy - self.idle_proxy) + sum(max(0, fds - self.idle_worker)
                                                    for fds in workers) + self.connections()

    def settle(self):
        """Waits for the last descriptors and zombies; returns the numbers of those that stay."""
        def zombies():
            found = [pid for proxy in self.server.proxy_pids()
                     for pid in processes.children_of(proxy)]
            return sum((processes.stat_of(pid) or ("", ""))[1] == "Z" for pid in found)
        self.server.wait_for_workers()
        with contextlib.suppress(AssertionError):
            # An upgrade waits for 30 seconds for the other side: longer than that, or nothing will close them.
            processes.wait_until(lambda: self.leaked() == 0 and zombies() == 0, "")
        return self.leaked(), zombies()

    # ---- the run ----

    @contextlib.contextmanager
    def violence(self, kind, interval):
        """Has a step of violence made at each interval, whatever the harness waits for meanwhile."""
        violence = kind(self.options.seed, self.server)
        due = time.monotonic()

        def step_if_due():
            nonlocal due
            if time.monotonic() >= due:
                # After a pause of this process, no two steps follow each other at once.
                due = time.monotonic() + interval
                violence.step()
        self.server.on_tend = step_if_due
        yield
        self.server.on_tend = None
        violence.end()
        self.killed = violence.killed
        self.counts = violence.counts
        violence.close()

    def pause(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.server.tend()
            time.sleep(0.01)

    def be_violent(self, load):
        end = time.monotonic() + self.options.seconds
        with self.violence(Violence, KILL_EVERY):
            while time.monotonic() < end and load.poll() is None:
                self.pause(0.05)

    def upgrade(self, load):
        for _ in range(self.options.upgrades):
            time.sleep(0.3)  # each proxy gets clients of its own
            self.server.upgrade()
            self.upgrades += 1
        load.terminate()

    def release(self, load):
        for _ in range(self.options.releases):
            for release in (self.server.upgrade, self.server.replace_workers):
                self.pause(0.3)
                release()
                self.releases += 1
        load.terminate()

    def release_and_kill(self, load):
        with self.violence(Kills, self.options.kill_every):
            self.release(load)

    def run(self):
        server = self.server
        server.root.mkdir()
        subprocess.run([LOAD, "--make-files", server.root], check=True)
        server.start()
        self.finish_load(self.start_load(1, WARM_FIRST))
        self.measure_idle()
        keepers = self.start_keepers()
        if self.options.releases:
            load = self.start_load(86400, MAIN_FIRST, "--one-connection")
            (self.release_and_kill if self.options.kill_every else self.release)(load)
        elif self.options.upgrades:
            load = self.start_load(86400, MAIN_FIRST)
            self.upgrade(load)
        else:
            load = self.start_load(self.options.seconds, MAIN_FIRST)
            self.be_violent(load)
        keepers.terminate()
        self.finish_load(load)
        self.finish_load(keepers)
        self.leaked_fds, self.zombies = self.settle()
        self.retried = server.retried()
        server.stop()
        self.left = processes.descendants()

    def judge(self):
        claims = judge.read_claims(self.server.claim_log.open())
        outcomes = judge.read_outcomes(self.server.outcome_log.open())
        verdict = judge.Judge(claims, outcomes, self.killed)
        for log in self.logs:
            for connection in judge.read_connections(log.open()):
                verdict.add(connection)
        verdict.finish()
        return verdict

    def report(self):
        """Prints the lines; returns whether the run is without a fault."""
        verdict = self.judge()
        numbers = {**verdict.totals, **self.counts,
                   "retried": self.retried, "upgrades": self.upgrades, "releases": self.releases,
                   "leaked_fds": self.leaked_fds, "zombies": self.zombies,
                   "processes_left": len(self.left)}
        for name, value in numbers.items():
            print(name, value)
        for fault in verdict.faults[:FAULTS_SHOWN]:
            print("#", fault)
        if len(verdict.faults) > FAULTS_SHOWN:
            print(f"# and {len(verdict.faults) - FAULTS_SHOWN} more")
        # A worker that was stopped for too long ends its connections with a notice: nobody takes them back.
        cut = verdict.totals["connections_cut"] if not self.counts.get("stopped") else 0
        return not (verdict.faults or cut or self.leaked_fds or self.zombies or self.left)


def end_all():
    """Kills all processes of this run."""
    for _ in range(100):
        for pid in processes.descendants():
            with contextlib.suppress(OSError):
                process = processes.Process(pid)
                process.send(signal.SIGKILL)
                process.close()
        processes.reap()
        if not processes.descendants():
            return
        time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2 ** 32))
    parser.add_argument("--upgrades", type=int, default=0,
                        help="upgrade the proxy this number of times, and kill no worker")
    parser.add_argument("--releases", type=int, default=0,
                        help="release the proxy and the workers this number of times, in turn, under clients with "
                             "one connection each; kill no worker without --kill-every")
    parser.add_argument("--kill-every", type=float, default=0, metavar="SECONDS",
                        help="with --releases: kill one worker in each such time")
    options = parser.parse_args()
    if options.kill_every < 0 or (options.kill_every and not options.releases):
        parser.error("--kill-every is a positive time, and wants --releases")
    print("seed", options.seed, flush=True)
    processes.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="ferry-chaos-") as directory:
        run = Run(pathlib.Path(directory), options)
        try:
            run.run()
            good = run.report()
        except BaseException:
            print(run.server.text()[-4000:], file=sys.stderr)
            raise
        finally:
            end_all()
        if not good:
            print(run.server.text()[-2000:], file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
