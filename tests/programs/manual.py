"""The manual pages and the files for service managers: every option and directive is in its page and the reverse, the
formatters have no complaint, and systemd and logrotate accept their files.

If a tool is missing, the rest runs, and the whole counts as skipped; tests/install-packages.sh installs them all.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import harness

SOURCE = pathlib.Path(os.environ["FERRY_SOURCE"]) / "src/programs"
PAGES = {"ferry-proxy": SOURCE / "ferry-proxy/ferry-proxy.8", "ferry-worker": SOURCE / "ferry-worker/ferry-worker.8",
         "ferry-copy": SOURCE / "ferry-copy/ferry-copy.1"}
CONF_PAGE = SOURCE / "ferry-proxy/ferry-proxy.conf.5"
COMMANDS = {"ferry-proxy": [()], "ferry-worker": [()], "ferry-copy": [(), ("send",), ("receive",)]}


def needs(tool):
    return unittest.skipIf(shutil.which(tool) is None, f"no {tool}")


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.DEADLINE,
                          check=False, **options)


class Completeness(unittest.TestCase):
    def test_each_option_is_in_its_page_and_the_reverse(self):
        for program, page in PAGES.items():
            with self.subTest(program):
                text = page.read_text()
                described = set(re.findall(r"^\.It Fl -([a-z-]+)", text, re.M))
                usage = "".join(run(*harness.EMULATOR, harness.BIN / program, *command, "--help").stdout
                                for command in COMMANDS[program])
                self.assertEqual(described, set(re.findall(r"^  --([a-z-]+)", usage, re.M)) | {"version"})
                # An option in a sentence or in the synopsis is one of them.
                used = set(re.findall(r"\bFl -([a-z-]+)", text))
                known = described | ({"idle-timeout"} if program == "ferry-proxy" else set())
                self.assertEqual(used - known, set())

    def test_each_directive_is_in_its_page_and_the_reverse(self):
        with tempfile.NamedTemporaryFile("w", prefix="ferry-e2e-") as conf:
            conf.write("unknown\n")
            conf.flush()
            refusal = run(*harness.EMULATOR, harness.BIN / "ferry-proxy", "--config", conf.name).stderr
        names = re.search("is not a directive; expected is (.*)", refusal).group(1).split(", ")
        self.assertGreater(len(names), 10)
        described = re.findall(r"^\.It Ic ([a-z-]+)", CONF_PAGE.read_text(), re.M)
        self.assertEqual(sorted(set(described)), sorted(names))

    def test_the_defaults_are_those_of_the_usage(self):
        usage = run(*harness.EMULATOR, harness.BIN / "ferry-proxy", "--help").stdout
        usage = re.sub(r"\n {20,}", " ", usage)
        for page in (PAGES["ferry-proxy"], CONF_PAGE):
            text = page.read_text()
            for name, default in re.findall(r"^  --([a-z-]+) (?:N|MS|SECONDS)\s.*\((\d+)\)", usage, re.M):
                entry = re.search(rf"^\.It (?:Fl -|Ic ){name} .*?(?=^\.It |^\.El)", text, re.M | re.S)
                if entry:
                    with self.subTest(page.name, option=name):
                        self.assertIn(f"default is {default}.", entry.group())


class Formatters(unittest.TestCase):
    @needs("mandoc")
    def test_mandoc_has_no_complaint(self):
        for page in (*PAGES.values(), CONF_PAGE):
            with self.subTest(page.name):
                done = run("mandoc", "-T", "lint", "-W", "warning", page)
                self.assertEqual((done.stdout, done.returncode), ("", 0))

    @needs("man")
    def test_man_shows_the_pages(self):
        for page in (*PAGES.values(), CONF_PAGE):
            with self.subTest(page.name):
                done = run("man", "--warnings", "-l", page, env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C"})
                self.assertEqual((done.stderr, done.returncode), ("", 0))
                for heading in ("NAME", "DESCRIPTION", "SEE ALSO"):
                    self.assertIn(f"\n{heading}\n", done.stdout)
                self.assertEqual([line for line in done.stdout.splitlines() if len(line) > 80], [])


class ServiceFiles(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)

    def unit(self):
        """The unit as the build has written it, with a program that exists here, and without pages to look for."""
        built = harness.BIN / "ferry-proxy.service"
        text = re.sub(r"^(Exec\w+)=\S+/ferry-proxy", rf'\1="{harness.BIN}/ferry-proxy"', built.read_text(), flags=re.M)
        text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)
        unit = self.directory / "ferry-proxy.service"
        unit.write_text(text)
        return unit

    @needs("systemd-analyze")
    def test_systemd_accepts_the_unit(self):
        done = run("systemd-analyze", "verify", self.unit())
        self.assertEqual((done.stdout + done.stderr, done.returncode), ("", 0))

    @needs("systemd-analyze")
    def test_systemd_accepts_the_sockets(self):
        self.unit()  # which systemd looks for
        text = (SOURCE / "systemd/ferry-proxy.socket").read_text()
        unit = self.directory / "ferry-proxy.socket"
        unit.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.M))
        done = run("systemd-analyze", "verify", unit)
        self.assertEqual((done.stdout + done.stderr, done.returncode), ("", 0))
        # The example of the manual page listens on them.
        name = re.search("^FileDescriptorName=(.*)$", text, re.M).group(1)
        lines = re.findall(f"^listen systemd:{name}$", CONF_PAGE.read_text(), re.M)
        self.assertEqual(len(lines), len(re.findall("^ListenStream=", text, re.M)))

    @needs("systemd-analyze")
    def test_the_unit_is_hardened(self):
        done = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", self.unit())  # 2.0 of 10
        self.assertEqual(done.returncode, 0, done.stdout[-200:] + done.stderr)

    def test_the_unit_names_a_page_and_a_file_of_ferry(self):
        text = (harness.BIN / "ferry-proxy.service").read_text()
        self.assertNotIn("@CMAKE", text)
        for page in re.search("Documentation=(.*)", text).group(1).split():
            name, section = re.fullmatch(r"man:(.*)\((\d)\)", page).groups()
            self.assertTrue((SOURCE / f"ferry-proxy/{name}.{section}").exists())

    @needs("systemd-tmpfiles")
    def test_systemd_tmpfiles_makes_the_directory(self):
        (self.directory / "etc").mkdir()
        (self.directory / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        (self.directory / "etc/group").write_text("root:x:0:\n")
        done = run("systemd-tmpfiles", "--create", f"--root={self.directory}", SOURCE / "systemd/ferry.tmpfiles")
        if os.getuid() == 0:
            self.assertEqual((done.stderr, done.returncode), ("", 0))
            self.assertEqual((self.directory / "run/ferry").stat().st_mode & 0o777, 0o750)

    @needs("logrotate")
    def test_logrotate_accepts_its_file(self):
        file = self.directory / "ferry"
        shutil.copyfile(SOURCE / "systemd/ferry.logrotate", file)
        file.chmod(0o644)
        done = run("logrotate", "--debug", "--state", self.directory / "state", file)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("error", done.stderr)
        self.assertIn("/var/log/ferry/*.log", done.stderr)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    missing = any(reason.startswith("no ") for _, reason in result.skipped)
    sys.exit(1 if not result.wasSuccessful() else 77 if missing else 0)
