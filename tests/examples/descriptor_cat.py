"""descriptor_cat: files of all kinds through two processes. tests/unit/descriptor has peers that lie."""

import os
import pathlib
import random
import resource
import signal
import subprocess
import unittest

import harness
from example import ExampleCase


class DescriptorCat(ExampleCase):

    def cat(self, *files, **options):
        return self.run_to_end("descriptor_cat", *files, **options)

    def test_files_arrive_in_order(self):
        contents = [random.Random(i).randbytes(size)
                    for i, size in enumerate((10, 0, 1, 100_000, 1_000_000))]
        files = [self.file(f"file {i} \u20ac", content) for i, content in enumerate(contents)]
        self.assertEqual(self.cat(*files), (0, b"".join(contents), ""))

    def test_many_files_need_few_descriptors(self):
        files = [self.file(f"{i}", b"%d\n" % i) for i in range(2000)]
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        options = {} if harness.INSTRUMENTED else {"preexec_fn": limit}
        self.assertEqual(self.cat(*files, **options),
                         (0, b"".join(b"%d\n" % i for i in range(2000)), ""))

    def test_the_standard_input_is_a_file_at_its_position(self):
        with open(self.file("file", b"0123456789"), "rb", buffering=0) as file:
            file.seek(4)
            self.assertEqual(self.cat("-", stdin=file), (0, b"456789", ""))

    def test_the_standard_input_is_a_pipe(self):
        with subprocess.Popen([*harness.EMULATOR, harness.BIN / "descriptor_cat", "-"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
            cat.stdin.write(b"first, ")
            cat.stdin.flush()
            output, _ = cat.communicate(b"second", harness.DEADLINE)
        self.assertEqual((cat.returncode, output), (0, b"first, second"))

    def test_a_file_without_a_name_is_read_all_the_same(self):
        path = self.file("unlinked", b"content")
        with open(path, "rb") as file:
            os.unlink(path)
            self.assertEqual(self.cat("-", stdin=file), (0, b"content", ""))

    def test_a_missing_file_and_a_broken_name_are_reported_and_the_others_arrive(self):
        good = self.file("good", b"content")
        broken = os.fsencode(self.directory) + b"/broken \xff"
        with open(broken, "wb") as file:
            file.write(b"x")
        done = subprocess.run(
            [*harness.EMULATOR, harness.BIN / "descriptor_cat", self.directory / "missing", broken, good],
            capture_output=True, timeout=harness.DEADLINE, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, b"content"))
        self.assertIn(b"missing: No such file or directory", done.stderr)
        self.assertIn(b": Invalid argument", done.stderr)

    def test_a_directory_is_no_file_to_the_child(self):
        status, output, error = self.cat(self.directory, self.file("good", b"content"))
        self.assertEqual((status, output), (1, b"content"))
        self.assertIn(f"{self.directory}: Is a directory", error)

    def test_an_output_that_is_full(self):
        with open("/dev/full", "wb") as full:
            status, _, error = self.cat(self.file("good", b"content"), stdout=full)
        self.assertEqual(status, 1)
        self.assertIn("good: Input/output error", error)

    def test_a_reader_that_ends_early_ends_it(self):
        large = self.file("large", b"x" * 1_000_000)
        with subprocess.Popen([*harness.EMULATOR, harness.BIN / "descriptor_cat", large, large],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as cat:
            cat.stdout.close()
            self.assertEqual(cat.wait(harness.DEADLINE), 1)  # SIGPIPE ends the child, as any cat

    def test_a_signal_in_the_middle_leaves_no_child(self):
        read_end, write_end = os.pipe()
        with os.fdopen(read_end), os.fdopen(write_end):
            child = self.child("descriptor_cat", "-", stdin=read_end)
            tasks = pathlib.Path(f"/proc/{child.pid}/task/{child.pid}/children")
            [pid] = harness.wait_until(lambda: tasks.read_text().split(), "the child")
            child.process.send_signal(signal.SIGTERM)
            child.process.wait(harness.DEADLINE)
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the child ends")

    def test_usage(self):
        self.check_usage("descriptor_cat", ())


if __name__ == "__main__":
    unittest.main()
