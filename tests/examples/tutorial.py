"""Builds the programs of a tutorial, docs/tutorials/NAME.md, as the page does, for a test that is their peer.

A block of C with a main() is a whole program; its first line has the file's name. Each other block of C is a part of one
of these programs. The lines `cc …` of the page compile them, against the installed library.
"""

import os
import pathlib
import re
import shutil
import subprocess

import example
import harness

SOURCE = pathlib.Path(os.environ["FERRY_SOURCE"])


class Page:
    def __init__(self, name):
        self.text = (SOURCE / f"docs/tutorials/{name}.md").read_text()
        blocks = self.blocks("c")
        self.programs = {re.match(r"/\* (\w+\.c): ", block).group(1): block
                         for block in blocks if re.search(r"^int main\(", block, re.M)}
        self.fragments = [block for block in blocks if block not in self.programs.values()]

    def blocks(self, language):
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.S | re.M)

    def commands(self):
        return [line for block in self.blocks("sh") for line in block.splitlines() if line.startswith("cc ")]

    def strangers(self):
        """The functions and declarations in the page that are in no program."""
        pieces = [piece for block in self.fragments for piece in re.split(r"(?<=^})\n\n", block, flags=re.M)]
        return [piece for piece in pieces if not any(piece in program for program in self.programs.values())]

    def build(self, directory):
        for name, program in self.programs.items():
            (directory / name).write_text(program)
        prefix = pathlib.Path(os.environ["FERRY_PREFIX"])
        found = next(prefix.rglob("ferry.pc")).parent
        os.environ["LD_LIBRARY_PATH"] = str(found.parent)
        environment = {**os.environ, "PKG_CONFIG_PATH": str(found)}
        for command in self.commands():
            # Twice: pkg-config quotes a path that has a space for the shell.
            script = f'cc() {{ "$FERRY_CC" $FERRY_FLAGS -g -Werror "$@"; }}\neval "{command}"\n'
            subprocess.run(["sh", "-euc", script], cwd=directory, env=environment, check=True)


class TutorialCase(example.ExampleCase):
    """A test of the programs of the page `name`, which are made in FERRY_BIN."""

    name = ""

    @classmethod
    def setUpClass(cls):
        shutil.rmtree(harness.BIN, ignore_errors=True)
        harness.BIN.mkdir(parents=True)
        cls.page = Page(cls.name)
        cls.page.build(harness.BIN)

    def check_page(self):
        self.assertEqual(self.page.strangers(), [], "parts that are in no program of the page")
        self.assertGreater(len(self.page.fragments), 5)
        self.assertEqual(sorted(f"{command.split()[3]}" for command in self.page.commands()),
                         sorted(self.page.programs))

    def try_it(self, **replaced):
        """The output of the page's commands, with other words in place of some of theirs. Each block is one step;
        those that compile are done already."""
        script = "".join(block for block in self.page.blocks("sh") if not block.startswith("cc "))
        for old, new in replaced.items():
            script = script.replace(old.strip("_"), new)
        for program in self.page.programs:
            name = program[:-len(".c")]
            (self.directory / name).symlink_to(harness.BIN / name)
        done = subprocess.run(["bash", "-euc", script + "wait $!\n"], cwd=self.directory, check=True,
                              capture_output=True, timeout=harness.DEADLINE)
        return done.stdout
