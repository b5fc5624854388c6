"""Mutation testing of the library: run.sh has the usage. Works in build/mutation, never in the checkout."""

import argparse
import concurrent.futures
import fnmatch
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import mutants

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "mutation"
TREE = WORK / "tree"
REACHED = WORK / "reached"
PASSED = (0, 77)  # 77: some of its cases were skipped
FUNCTIONS_MAX = 1 << 14  # as in reach.h
SECONDS_MIN = 60         # no program gets less
BATCH = 6                # programs that are linked at once


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh")
    parser.add_argument("--mutants", type=int, default=300, help="how many that compile (300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--path", action="append", metavar="GLOB",
                        help="only files, or FILE:LINE, that match: 'src/file/*', 'src/stream/marks.c:60'")
    parser.add_argument("--wanted", type=float, default=95, metavar="PERCENT", help="the score that is success (95)")
    parser.add_argument("--labels", default="unit|battery|fault", metavar="REGEX", help="the tests, by ctest's label")
    parser.add_argument("--tests", default=".", metavar="REGEX", help="the tests, by name")
    parser.add_argument("--preset", default="asan", help="how to build: asan notices most, dev is faster (asan)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="of the compiler, and half of the tests'")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    return parser.parse_args()


class Sources:
    """The sources of the library, and their copy, in which each function marks that it was reached."""

    def __init__(self):
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                                stdout=subprocess.PIPE, text=True, check=True)
        self.files = sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())
        self.texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in self.files
                      if name.startswith("src/") and name.endswith(".c") and not name.startswith("src/programs/")}
        self.first = {}  # the number of the first function of a file
        count = 0
        for name, text in self.texts.items():
            self.first[name] = count
            count += len(list(mutants.bodies(text)))
        assert count <= FUNCTIONS_MAX

    def marked(self, name, text):
        parts, end = [f'#include "{HERE}/reach.h"\n#line 1\n'], 0
        for number, (start, _, _) in enumerate(mutants.bodies(text), self.first[name]):
            parts += [text[end:start + 1], f" FERRY_MUTATION_REACH({number})"]
            end = start + 1
        return "".join([*parts, text[end:]])

    def write(self, name, text):
        """Leaves a file alone that is as it should be: make compares times."""
        copy = TREE / name
        data = self.marked(name, text).encode() if name in self.texts else (ROOT / name).read_bytes()
        if not copy.is_file() or copy.read_bytes() != data:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
        copy.chmod((ROOT / name).stat().st_mode)

    def copy(self):
        for name in self.files:
            self.write(name, self.texts.get(name))
        for copy in [*TREE.glob("src/**/*"), *TREE.glob("tests/**/*")]:
            if copy.is_file() and not (ROOT / copy.relative_to(TREE)).is_file():
                copy.unlink()


class Build:
    def __init__(self, preset, jobs):
        self.directory = TREE / "build" / preset
        self.preset = preset
        self.jobs = jobs

    def configure(self):
        subprocess.run(["cmake", "--preset", self.preset, "-DFERRY_BUILD_EXAMPLES=OFF", "-DFERRY_BUILD_PROGRAMS=OFF",
                        "-DCMAKE_LINK_DEPENDS_NO_SHARED=ON"], cwd=TREE, stdout=subprocess.DEVNULL, check=True)

    def make(self, *targets):
        """None, or the compiler's output."""
        done = subprocess.run(["ninja", "-C", self.directory, f"-j{self.jobs}", *targets], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        return None if done.returncode == 0 else done.stdout

    def sources(self):
        commands = json.loads((self.directory / "compile_commands.json").read_text(encoding="utf-8"))
        return {os.path.relpath(command["file"], TREE) for command in commands}


def contained():
    """The command before a test's own: a mutant that signals the wrong processes reaches only those of its test."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    command = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        allowed = subprocess.run([*command, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        print("no process namespaces here: a mutant may signal other processes of this user", flush=True)
    return command if allowed else []


def wait(child, end, stop):
    """The exit status, or None."""
    while time.monotonic() < end and not (stop and stop.is_set()):
        try:
            return child.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    return None


class Program:
    """A test of ctest: what it runs, how long that takes without a mutant, the functions that it reaches."""

    def __init__(self, listed, directory, container):
        properties = {each["name"]: each["value"] for each in listed.get("properties", [])}
        self.name = listed["name"]
        self.command = listed["command"]
        self.container = container
        self.directory = properties.get("WORKING_DIRECTORY", directory)
        self.settings = dict(each.split("=", 1) for each in properties.get("ENVIRONMENT", []))
        self.target = os.path.relpath(self.command[0], directory)
        self.seconds = 0.0
        self.reached = set()

    def run(self, most, stop=None):
        """The exit status, or None after `most` seconds, or soon after `stop` is set."""
        environment = {**os.environ, **self.settings, "FERRY_MUTATION_REACHED": str(REACHED), "FERRY_TEST_SEED": "1"}
        nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([*self.container, *self.command], cwd=self.directory, env=environment,
                              start_new_session=True, **nowhere) as child:
            try:
                return wait(child, time.monotonic() + most, stop)
            finally:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def measure(self):
        """False if the test fails without a mutant."""
        REACHED.write_bytes(bytes(FUNCTIONS_MAX))
        start = time.monotonic()
        passed = self.run(1800) in PASSED
        self.seconds = time.monotonic() - start
        self.reached = {number for number, byte in enumerate(REACHED.read_bytes()) if byte}
        return passed

    def passes(self, stop):
        return self.run(max(SECONDS_MIN, 10 * self.seconds), stop) in PASSED

    def identity(self, library):
        return self.name + hashlib.sha256(pathlib.Path(self.command[0]).read_bytes() + library).hexdigest()


def listed_tests(build, options):
    """What ctest knows of the tests. One that has not been built yet has no command."""
    shown = subprocess.run(["ctest", "--test-dir", build.directory, "--show-only=json-v1", "-L", options.labels,
                            "-R", options.tests], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(shown.stdout)["tests"]


def programs_of(build, options):
    """The tests that pass. What they reach is remembered as long as their program stays the same."""
    if any("command" not in test for test in listed_tests(build, options)):
        output = build.make()
        if output is not None:
            sys.exit(output)

    container = contained()
    listed = [Program(each, build.directory, container) for each in listed_tests(build, options)]
    listed = [program for program in listed if not program.target.startswith("..")]  # a script
    output = build.make("ferry", *{program.target for program in listed})
    if output is not None:
        sys.exit(output)

    memory_file = WORK / "measured.json"
    memory = json.loads(memory_file.read_text()) if memory_file.exists() else {}
    library = (build.directory / "src" / "libferry.so").read_bytes()
    programs = []
    for program in listed:
        identity = program.identity(library)
        if identity not in memory:
            passed = program.measure()
            memory[identity] = [passed, program.seconds, sorted(program.reached)]
            memory_file.write_text(json.dumps(memory))
        passed, program.seconds, reached = memory[identity]
        program.reached = set(reached)
        if passed:
            programs.append(program)
        else:
            print(f"left out, fails without a mutant: {program.name}", flush=True)
    return programs


class Run:
    def __init__(self, build, sources, programs):
        self.build = build
        self.sources = sources
        self.programs = programs

    def relevant(self, mutant):
        """The programs that reach the function: those of its folder first, then the fast ones."""
        number = self.sources.first[mutant.path] + mutant.function
        folder = mutant.path.split("/")[1]
        found = [program for program in self.programs if number in program.reached]
        return sorted(found, key=lambda program: (f".{folder}." not in program.name, program.seconds))

    def first_killer(self, batch):
        """A program that fails, or None. The others end with it: most of their time they wait, not compute."""
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(2 * self.build.jobs) as pool:
            waiting = {pool.submit(program.passes, stop): program for program in batch}
            for done in concurrent.futures.as_completed(waiting):
                if not done.result():
                    stop.set()
                    return waiting[done]
        return None

    def try_one(self, mutant):
        """'killed by …', 'survived', or None if it does not compile."""
        text = self.sources.texts[mutant.path]
        self.sources.write(mutant.path, text[:mutant.start] + mutant.new + text[mutant.end:])
        try:
            if self.build.make("ferry") is not None:
                return None
            relevant = self.relevant(mutant)
            for first in range(0, len(relevant), BATCH):
                batch = relevant[first:first + BATCH]
                if self.build.make(*{program.target for program in batch}) is not None:
                    return None
                killer = self.first_killer(batch)
                if killer:
                    return f"killed by {killer.name}"
            return f"survived {len(relevant)} programs"
        finally:
            self.sources.write(mutant.path, text)


def equivalent_names():
    """The names in the file `equivalent`: a line each, the reason behind it on lines that begin with a tab."""
    lines = (HERE / "equivalent").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and line[0] not in "\t#"}


def chosen(sources, options):
    """All mutants that the options allow, in the order of the seed."""
    every = [mutant for name, text in sources.texts.items() for mutant in mutants.mutants_of(name, text)]
    if options.path:
        every = [mutant for mutant in every for glob in options.path
                 if fnmatch.fnmatch(mutant.path, glob) or fnmatch.fnmatch(f"{mutant.path}:{mutant.line}", glob)]
    random.Random(options.seed).shuffle(every)
    return every


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the test that runs, too
    options = arguments()
    sources = Sources()
    waiting = chosen(sources, options)
    if options.list:
        for mutant in waiting[:options.mutants]:
            print(f"{mutant.line}: {mutant.name}")
        return 0

    sources.copy()
    build = Build(options.preset, options.jobs)
    build.configure()
    run = Run(build, sources, programs_of(build, options))
    equivalent = equivalent_names()
    compiled = build.sources()
    waiting = [mutant for mutant in waiting if mutant.path in compiled]

    survivors, killed, same = [], 0, 0
    for mutant in waiting:
        if killed + len(survivors) == options.mutants:
            break
        if mutant.name in equivalent:
            same += 1
            continue
        verdict = run.try_one(mutant)
        if verdict is None:
            continue
        if verdict.startswith("killed"):
            killed += 1
        else:
            survivors.append(mutant)
        print(f"{killed + len(survivors)} {verdict}: line {mutant.line}: {mutant.name}", flush=True)

    print(f"\nequivalent: {same}; survivors:")
    for mutant in survivors:
        print(f"{mutant.path}:{mutant.line}: {mutant.name.partition(': ')[2]}")
    count = killed + len(survivors)
    score = 100 * killed / count if count > 0 else 0
    print(f"mutation: {count} mutants, {killed} killed, {len(survivors)} survived, score {score:.1f} %")
    return 0 if score >= options.wanted else 1


sys.exit(main())
