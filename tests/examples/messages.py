"""messages: a parent that opens files, and a child that asks for them."""

import os
import random
import unittest

from example import ExampleCase


class Messages(ExampleCase):

    def setUp(self):
        super().setUp()
        self.root = self.directory / "root"
        self.root.mkdir()

    def ask(self, *names, **options):
        return self.run_to_end("messages", self.root, *names, **options)

    def test_files_come_in_the_order_of_their_names(self):
        contents = [random.Random(i).randbytes(size) for i, size in enumerate((10, 0, 1, 1_000_000))]
        for i, content in enumerate(contents):
            (self.root / f"{i} \u20ac").write_bytes(content)
        self.assertEqual(self.ask(*[f"{i} \u20ac" for i in (3, 2, 1, 0)]),
                         (0, b"".join(reversed(contents)), ""))

    def test_many_files_need_few_descriptors(self):
        (self.root / "file").write_bytes(b"x")
        self.assertEqual(self.ask(*["file"] * 5000), (0, b"x" * 5000, ""))

    def test_a_missing_file_does_not_end_it(self):
        (self.root / "there").write_bytes(b"content")
        status, output, error = self.ask("missing", "there")
        self.assertEqual((status, output), (1, b"content"))
        self.assertEqual(error, "messages: missing: No such file or directory\n")

    def test_no_name_leads_out_of_the_directory(self):
        self.file("secret", b"secret")
        (self.root / "link").symlink_to("../secret")
        (self.root / ".hidden").write_bytes(b"hidden")
        for name in ("../secret", "..", ".", "", "/etc/passwd", ".hidden", "link", "x" * 256):
            status, output, error = self.ask(name)
            self.assertEqual((status, output), (1, b""), name)
            self.assertIn("Too many levels" if name == "link" else "Permission denied", error)

    def test_a_fifo_is_not_waited_for(self):
        os.mkfifo(self.root / "fifo")
        self.assertEqual(self.ask("fifo"), (0, b"", ""))

    def test_a_directory_is_no_file(self):
        (self.root / "directory").mkdir()
        status, _, error = self.ask("directory")
        self.assertEqual(status, 1)
        self.assertIn("Is a directory", error)

    def test_an_output_that_is_full(self):
        (self.root / "file").write_bytes(b"content")
        with open("/dev/full", "wb") as full:
            status, _, error = self.ask("file", stdout=full)
        self.assertEqual(status, 1)
        self.assertIn("No space left", error)

    def test_no_such_directory(self):
        status, _, error = self.run_to_end("messages", self.directory / "none", "file")
        self.assertEqual(status, 1)
        self.assertIn("none: No such file or directory", error)

    def test_usage(self):
        self.check_usage("messages", (), (self.root,))


if __name__ == "__main__":
    unittest.main()
