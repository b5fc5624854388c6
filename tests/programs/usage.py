"""The usage of the three programs: --help, --version, wrong arguments, and the exit status of each."""

import os
import re
import subprocess
import unittest

import harness

COMMANDS = (("ferry-proxy",), ("ferry-worker",), ("ferry-copy",), ("ferry-copy", "send"),
            ("ferry-copy", "receive"))
PROGRAMS = ("ferry-proxy", "ferry-worker", "ferry-copy")


def version():
    header = os.path.join(os.environ["FERRY_SOURCE"], "include/ferry/version.h")
    with open(header, encoding="utf-8") as file:
        return re.search(r'define FERRY_VERSION "(.*)"', file.read())[1]


class Usage(unittest.TestCase):
    def run_command(self, *command):
        program, *arguments = command
        return subprocess.run([*harness.EMULATOR, harness.BIN / program, *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=harness.DEADLINE, check=False)

    def test_help_goes_to_the_standard_output(self):
        for command in COMMANDS:
            with self.subTest(command):
                done = self.run_command(*command, "--help")
                self.assertEqual(done.returncode, 0)
                self.assertTrue(done.stdout.startswith(f"usage: {' '.join(command)} "))
                self.assertIn("Exit status: 0 ", done.stdout)
                if not harness.EMULATOR:  # valgrind writes to the standard error output
                    self.assertEqual(done.stderr, "")

    def test_help_fits_a_terminal(self):
        for command in COMMANDS:
            lines = self.run_command(*command, "--help").stdout.splitlines()
            self.assertEqual([line for line in lines if len(line) > 99], [])

    def test_the_version_is_that_of_the_library(self):
        for program in PROGRAMS:
            with self.subTest(program):
                done = self.run_command(program, "--version")
                self.assertEqual((done.returncode, done.stdout), (0, f"{program} {version()}\n"))

    def test_wrong_usage_is_status_2_with_a_message(self):
        for command in COMMANDS:
            for arguments in (("--nothing",), ()):
                with self.subTest(command + arguments):
                    done = self.run_command(*command, *arguments)
                    self.assertEqual((done.returncode, done.stdout), (2, ""))
                    self.assertNotEqual(done.stderr, "")

    def test_an_unknown_command_of_ferry_copy_is_wrong_usage(self):
        done = self.run_command("ferry-copy", "move")
        self.assertEqual((done.returncode, done.stdout), (2, ""))


if __name__ == "__main__":
    unittest.main()
