"""Break one line at a time and see that a test notices: ``make mutants``.

``mutants.toml`` beside this file has the list. Each entry names a file, a piece of its text, what
to write instead, and the tests that must fail then. Everything happens in copies of the tree. First
all the tests named run unbroken. The exit code is 1 if they fail, if a mutant survives, or if its
text is not found exactly once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Lock

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")
RESULTS = ROOT / "build" / "mutants.json"
LEFT_OUT = (".git", ".venv", "__pycache__", ".hypothesis", ".pytest_cache", ".ruff_cache")
LIMIT = 900  # seconds for the tests of one mutant
SURVIVED = "SURVIVED"
# The same examples each time, and none made smaller: that may take hours where a mutant hangs.
PLUGIN = """
from hypothesis import Phase, settings
settings.register_profile(
    "mutants", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutants")
"""


@dataclass(frozen=True)
class Mutant:
    """A text of a file, found there once, what stands in its place, and the tests that notice it.

    ``equivalent`` says why nothing can notice it, where that is so.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""

    def line(self, root: Path) -> int:
        """Of the first change.

        Raises:
            LookupError: the old text is not there exactly once.
        """
        text = (root / self.file).read_text("utf-8")
        if self.old == self.new or text.count(self.old) != 1:
            raise LookupError(f"{self.file}: found {text.count(self.old)} times: {self.old!r}")
        pairs = zip(self.old, self.new + "\0", strict=False)
        same = next((n for n, (old, new) in enumerate(pairs) if old != new), len(self.old))
        return text.count("\n", 0, text.index(self.old) + same) + 1

    def change(self) -> str:
        """Both texts, each on one line."""
        return " → ".join(" ".join(text.split()) for text in (self.old, self.new))

    def key(self, root: Path) -> str:
        """Changes with the mutant, its file and its tests."""
        files = {self.file, *(test.partition("::")[0] for test in self.tests)}
        parts = [self.old, self.new, *self.tests]
        parts += [(root / file).read_text("utf-8") for file in sorted(files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_list() -> list[Mutant]:
    entries = tomllib.loads(LIST.read_text("utf-8"))["mutant"]
    return [Mutant(**entry | {"tests": tuple(entry.get("tests", ()))}) for entry in entries]


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy does without: `LEFT_OUT`, and what was built, which is at the top only."""
    built = {"build"} if Path(folder) == ROOT else set()
    return shutil.ignore_patterns(*LEFT_OUT)(folder, names) | built


class Tree:
    """A copy of the tree in which tests run; one mutant at a time."""

    def __init__(self, folder: Path):
        self.root = folder
        self._changes = 0
        shutil.copytree(ROOT, folder, ignore=_left_out, symlinks=True)
        path = os.pathsep.join(str(folder / part) for part in ("sw", "hw", "sim"))
        self._env = os.environ | {
            "PYTHONPATH": path,
            "NUMBA_CACHE_DIR": str(folder / "build" / "numba"),
        }
        (folder / "mutants_plugin.py").write_text(PLUGIN)
        found = self._python("-c", "import pleach; print(pleach.__file__)").stdout.strip()
        assert Path(found).is_relative_to(folder), f"tests would import {found}"

    def test(self, tests, *options: str, **env: str) -> subprocess.CompletedProcess:
        return self._python(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
            "-p", "mutants_plugin", "--tb=line", *options, *tests, **env,
        )  # fmt: skip

    def notice(self, mutant: Mutant) -> str:
        """The first test that fails on the mutant, or `SURVIVED`."""
        file = self.root / mutant.file
        text = file.read_text("utf-8")
        self._write(file, text.replace(mutant.old, mutant.new))
        # Code compiled by numba is kept by its own file alone, and has others' constants in it.
        compiled = "njit" in text or mutant.file.endswith("format/gaps.py")
        env = {"NUMBA_CACHE_DIR": tempfile.mkdtemp(dir=self.root.parent)} if compiled else {}
        try:
            done = self.test(mutant.tests, "-x", **env)
        except subprocess.TimeoutExpired:
            return f"no end after {LIMIT} s"
        finally:
            self._write(file, text)
        if done.returncode == 0:
            return SURVIVED
        failed = re.search(r"^FAILED (.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
        if done.returncode != 1 or failed is None:
            raise RuntimeError(f"{mutant.file}: {mutant.change()}\n{done.stdout}{done.stderr}")
        return failed[1]

    def _write(self, file: Path, text: str) -> None:
        """With a time of its own: Python and numba know a changed file by time and size."""
        file.write_text(text, "utf-8")
        self._changes += 2
        os.utime(file, (self._changes, self._changes))

    def _python(self, *args: str, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *args], cwd=self.root, env=self._env | env, timeout=LIMIT,
            capture_output=True, text=True,
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-j", type=int, default=1, help="mutants at a time")
    parser.add_argument("--only", default="", metavar="TEXT", help="in a mutant's file or texts")
    parser.add_argument(
        "--resume", action="store_true", help=f"keep what {RESULTS.name} says was caught"
    )
    given = parser.parse_args()
    mutants = [m for m in read_list() if given.only in f"{m.file}\n{m.old}\n{m.new}"]
    lines = {}
    for mutant in mutants:
        try:
            lines[mutant] = mutant.line(ROOT)
        except LookupError as error:
            print(error)
    if len(lines) < len(mutants):
        return 1

    keys = {mutant: mutant.key(ROOT) for mutant in mutants}
    caught = json.loads(RESULTS.read_text("utf-8")) if given.resume and RESULTS.exists() else {}
    to_do = [m for m in mutants if not m.equivalent and keys[m] not in caught]
    RESULTS.parent.mkdir(exist_ok=True)
    jobs = max(1, given.j)
    with tempfile.TemporaryDirectory(prefix="pleach-mutants-") as folder:
        writing = Lock()
        trees: Queue[Tree] = Queue()
        for number in range(jobs):
            trees.put(Tree(Path(folder, str(number), "tree")))

        def on_a_tree(work):
            tree = trees.get()
            try:
                return work(tree)
            finally:
                trees.put(tree)

        def noticed(mutant: Mutant) -> str:
            by = on_a_tree(lambda tree: tree.notice(mutant))
            with writing:
                if by != SURVIVED:
                    caught[keys[mutant]] = by
                    RESULTS.write_text(json.dumps(caught, indent=1), "utf-8")
                print(f"{mutant.file}:{lines[mutant]}: {by}", file=sys.stderr, flush=True)
            return by

        tests = sorted({test for mutant in to_do for test in mutant.tests})
        parts = [part for n in range(jobs) if (part := tests[n::jobs])]
        print(f"{len(tests)} selections of tests, unbroken", file=sys.stderr, flush=True)
        with ThreadPoolExecutor(jobs) as pool:
            for unbroken in pool.map(lambda part: on_a_tree(lambda tree: tree.test(part)), parts):
                if unbroken.returncode:
                    print(unbroken.stdout, unbroken.stderr)
                    return 1
            found = dict(zip(to_do, pool.map(noticed, to_do), strict=True))

    survived = [mutant for mutant in to_do if found[mutant] == SURVIVED]
    equivalent = [mutant for mutant in mutants if mutant.equivalent]
    for mutant in mutants:
        by = found.get(mutant) or caught.get(keys[mutant]) or f"equivalent: {mutant.equivalent}"
        print(f"{mutant.file}:{lines[mutant]}\n    {mutant.change()}\n    {by}")
    print(
        f"{len(mutants)} mutants: {len(mutants) - len(survived) - len(equivalent)} caught, "
        f"{len(survived)} survived, {len(equivalent)} equivalent"
    )
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
