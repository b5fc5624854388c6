"""HAProxy in front of three machines with ferry, by the configuration that docs/fleet.md prints: machines are upgraded,
restarted, drained and lost while clients go on."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import unittest

import clients
import machines
import verdict
from machines import harness

PAGE = pathlib.Path(os.environ["FERRY_SOURCE"]) / "docs/fleet.md"


def seconds(pattern, text):
    """A time in a configuration."""
    number, unit = re.search(pattern + r" (\d+)(ms|s|)\b", text).groups()
    return int(number) / (1000 if unit == "ms" else 1)


class Configuration(unittest.TestCase):
    def test_the_programs_accept_it(self):
        for command in (("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"),
                        (harness.BIN / "ferry-proxy", "--check", "--config", "/etc/ferry/ferry-proxy.conf")):
            checked = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stderr)
            self.assertNotRegex(checked.stdout + checked.stderr, "(?i)warning|alert")

    def test_the_times_fit(self):
        haproxy = FILES["/etc/haproxy/haproxy.cfg"]
        ferry = FILES["/etc/ferry/ferry-proxy.conf"]
        server = seconds("timeout server(?=.*\n\nfrontend)", haproxy)
        client = seconds("timeout client", haproxy)
        worker = int(COMMAND[COMMAND.index("--idle-timeout") + 1])
        self.assertLess(seconds("timeout http-keep-alive", haproxy), seconds("\nidle-timeout", ferry))
        self.assertLess(seconds("timeout http-keep-alive", haproxy), worker)
        self.assertLess(client, worker)
        self.assertLess(worker, seconds("\ndrain-timeout", ferry))
        checks = seconds(" inter", haproxy) + 2 * seconds("fastinter", haproxy)  # fall 3
        self.assertLess(2 * checks, seconds("\nlame-duck", ferry))  # each may take as long as the pause before it
        self.assertLess(seconds("queue-timeout", ferry) / 1000 + seconds("answer-timeout", ferry) / 1000, server)


class Fleet(unittest.TestCase):
    def setUp(self):
        self.numbers = clients.Numbers()
        self.fleet = machines.Fleet()
        self.addCleanup(self.fleet.end)
        self.addCleanup(self.show)
        self.fleet.start(COMMAND)
        self.balancer = self.fleet.balancer
        self.load = clients.Load(self.numbers)
        self.addCleanup(self.load.stop)
        self.load.wait_for_more()

    def show(self):
        if self._outcome.result.failures or self._outcome.result.errors:
            print(self.fleet.describe())

    def read_logs(self):
        everything = self.fleet.machines.items()
        return verdict.Judge(self.numbers.requests, self.balancer.requests(),
                             {name: machine.lines("claim.log") for name, machine in everything},
                             {name: machine.lines("access.log") for name, machine in everything})

    def judge(self, dead=None):
        """Ends the load, and waits until all logs are complete. `dead`: the machine whose workers were killed."""
        self.load.stop()
        for name, machine in self.fleet.machines.items():
            self.assertEqual(machine.reports(), [])
            harness.wait_until(lambda machine=machine: not machine.connections(), f"{name} has no connection left")
        with contextlib.suppress(AssertionError):
            harness.wait_until(lambda: not self.read_logs().mislogged(dead), "each answer is logged")
        judge = self.read_logs()
        self.assertEqual(judge.mislogged(dead), [])
        return judge

    def assert_nothing_failed(self, judge, retries=False):
        """Without `retries`, no request had to be repeated, so that a POST would have succeeded, too."""
        print(f"{self.id()}: {judge.figures()}")
        self.assertEqual(judge.unproven(), [])
        self.assertTrue(retries or not judge.retried(), judge.retried())
        for name in machines.NAMES:
            self.assertGreater(judge.served_by(name), 0, name)

    def downloads(self):
        """Slow clients: each machine has begun the answer of at least one."""
        downloads = []
        while not all(self.on(name, downloads) for name in machines.NAMES):
            downloads.append(clients.Download(self.numbers))
            self.addCleanup(downloads[-1].hurry.set)
            harness.wait_until(lambda: downloads[-1].received or downloads[-1].request.error, "a download begins")
            self.assertLess(len(downloads), 60)
        return downloads

    def finish(self, downloads):
        for download in downloads:
            download.hurry.set()
        for download in downloads:
            download.join()

    def on(self, name, downloads):
        claims = verdict.read_claims(self.fleet.machines[name].lines("claim.log"))
        return [download for download in downloads if claims[download.request.address]]

    def test_rolling_upgrade(self):
        downloads = self.downloads()
        old = {}
        for name, machine in self.fleet.machines.items():
            old[name] = machine.upgrade()
            self.load.wait_for_more()
        self.finish(downloads)
        for name, machine in self.fleet.machines.items():
            machine.wait_for_end_of(old[name])
        since = self.numbers.requests[-1].number
        self.load.wait_for_more()
        judge = self.judge()
        self.assert_nothing_failed(judge)
        for name in machines.NAMES:
            self.assertGreater(judge.served_by(name, since), 0, name)

    def test_rolling_restart(self):
        downloads = self.downloads()
        in_time = True
        for name, machine in self.fleet.machines.items():
            child = machine.begin_end()
            self.balancer.wait_for(name, "DOWN")
            in_time = in_time and child.poll() is None
            for download in self.on(name, downloads):
                download.hurry.set()
            self.assertEqual(child.wait(harness.DEADLINE), 0)
            machine.start_ferry()
            self.balancer.wait_for(name, "UP")
            self.load.wait_for_more()
        # HAProxy repeats nothing, unless this computer is so busy that the checks have taken longer than lame-duck.
        self.assert_nothing_failed(self.judge(), retries=not in_time)

    def test_rolling_restart_by_draining(self):
        for name, machine in self.fleet.machines.items():
            self.balancer.ask(f"set server ferry/{name} state drain")
            self.balancer.wait_for(name, "0", "scur")
            self.assertEqual(machine.restart_at_once(), 0)
            self.balancer.ask(f"set server ferry/{name} state ready")
            self.balancer.wait_for(name, "UP")
            self.load.wait_for_more()
        self.assert_nothing_failed(self.judge())

    def test_restart_without_draining(self):
        for name, machine in self.fleet.machines.items():
            self.assertEqual(machine.restart_at_once(), 0)
            self.balancer.wait_for(name, "UP")
            self.load.wait_for_more()
        self.assert_nothing_failed(self.judge(), retries=True)

    def doom(self, name):
        """Slow downloads on each machine. Returns those whose worker is about to go, and the others."""
        downloads = self.downloads()
        doomed = self.on(name, downloads)
        self.assertTrue(all(download.is_alive() for download in downloads))
        return doomed, [download for download in downloads if download not in doomed]

    def assert_excused(self, name, doomed, others):
        """All failures are of requests that the machine had claimed; the doomed downloads are among them."""
        since = self.numbers.requests[-1].number
        machine = self.fleet.machines[name]
        claims = len(machine.lines("claim.log"))
        harness.wait_until(lambda: len(machine.lines("claim.log")) > claims, f"{name} serves again")
        self.load.wait_for_more()
        judge = self.judge(name)
        print(f"{self.id()}: {judge.figures(name)}")
        self.assertEqual(judge.unproven(name), [])
        self.assertTrue(all(download.request.error for download in doomed))
        self.assertEqual([download.request for download in others if download.request.error], [])
        self.assertGreater(judge.served_by(name, since), 0)

    def lose(self, name, lost, back):
        """A machine goes, and comes back."""
        doomed, others = self.doom(name)
        lost()
        self.balancer.wait_for(name, "DOWN")
        self.load.wait_for_more()
        self.finish([*doomed, *others])
        back()
        self.balancer.wait_for(name, "UP")
        self.assert_excused(name, doomed, others)

    def test_workers_die(self):
        machine = self.fleet.machines["m2"]
        doomed, others = self.doom("m2")
        for kills in range(1, 6):
            for pid in machine.pids("ferry-worker").values():
                os.kill(pid, signal.SIGKILL)
            machine.wait_for_workers((kills + 1) * machines.WORKERS)
            self.load.wait_for_more()
        self.finish([*doomed, *others])
        self.assert_excused("m2", doomed, others)

    def test_no_worker_starts(self):
        machine = self.fleet.machines["m3"]
        worker = harness.BIN / "ferry-worker"
        machine.run(f"mount --bind /bin/false '{worker}'")
        for pid in machine.pids("ferry-worker").values():
            os.kill(pid, signal.SIGKILL)
        self.balancer.wait_for("m3", "DOWN")
        self.load.wait_for_more()
        machine.run(f"umount --lazy '{worker}'")  # the last one may not have ended yet
        self.balancer.wait_for("m3", "UP")
        self.assert_excused("m3", [], [])

    def test_processes_die(self):
        machine = self.fleet.machines["m1"]
        self.lose("m1", machine.kill_processes, machine.start_ferry)

    def test_power_fails(self):
        machine = self.fleet.machines["m2"]

        def back():
            machine.boot()
            machine.start_ferry()
        self.lose("m2", machine.kill, back)

    def test_link_goes_down(self):
        machine = self.fleet.machines["m3"]
        self.lose("m3", lambda: machine.set_link("down"), lambda: machine.set_link("up"))


if __name__ == "__main__":
    machines.enter_own_namespaces(__file__)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    FILES, COMMAND = machines.read_page(PAGE)
    machines.become_site(FILES, clients.contents())
    unittest.main()
