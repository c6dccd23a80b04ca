"""What is there without the extras, and what is said of what is not."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest

from pleach import save
from pleach.errors import PleachError
from pleach.extras import EXTRAS, need
from tests.strategies import random_model
from tests.unit.test_structure import imports, modules, outside, tree

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
BASE = {"numpy", "scipy", "numba"}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", text)[0] for text in requirements} - {PROJECT["name"]}


def test_the_extras_are_those_of_pyproject():
    assert names(PROJECT["dependencies"]) == BASE
    of_module = packages_distributions()
    for extra, brought in EXTRAS.items():
        listed = names(PROJECT["optional-dependencies"][extra])
        found = {name for module in brought for name in of_module[module]}
        assert found & listed == listed and all(set(of_module[m]) & listed for m in brought)


def test_what_an_extra_brings_is_asked_for_before_it_is_imported():
    """In the module, what it imports or their packages: who lacks it reads what to install."""
    asked = {}
    for name, path in modules().items():
        calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        asked[name] = {
            argument.value
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id == "need"
            for argument in call.args
            if isinstance(argument, ast.Constant)
        }
    known = {module for brought in EXTRAS.values() for module in brought}
    for name, path in modules().items():
        parts = [each.split(".") for each in (name, *imports()[name])]
        around = {".".join(each[:count]) for each in parts for count in range(1, len(each) + 1)}
        there = BASE.union(*(asked[each] for each in around))
        for module in {line.split(".")[0] for line in outside(tree(path))}:
            if module in sys.stdlib_module_names or module.startswith(("pleach", "__future__")):
                continue
            assert module in known | BASE, f"{name} imports {module}, which no extra brings"
            assert module in there, f"{name} imports {module} without need({module!r})"


def test_need_names_the_extra():
    need("numpy", "torch")
    with pytest.raises(ModuleNotFoundError, match="wishful is not installed") as error:
        need("wishful")
    assert isinstance(error.value, PleachError) and error.value.name == "wishful"


WITHOUT = """
import importlib, sys
import numpy as np
blocked = {module for brought in EXTRAS.values() for module in brought}
for name in blocked:
    sys.modules[name] = None
import pleach, pleach.compile.explore, pleach.cycles, pleach.host, pleach.report, pleach.data
model = pleach.load("bench/models/lenet_300_100_small.pleach")
pleach.Reference(model).run(np.zeros((1, 784), np.uint8))
pleach.format.dumps(model)
calls = {
    "compress": lambda: pleach.compress,
    "models": lambda: pleach.models,
    "gateware": lambda: importlib.import_module("pleach_hw.engine"),
    "simulation": lambda: importlib.import_module("pleach_sim.runner"),
    "digits": lambda: pleach.data.load("digits"),
    "mnist": lambda: pleach.data.load("mnist"),
    "plot": lambda: pleach.files.check_figure(__import__("pathlib").Path("plot.svg")),
    "board": lambda: pleach.Engine.open("/dev/ttyUSB0"),
    "command": lambda: importlib.import_module("pleach_cli").main(),
}
for what, call in calls.items():
    try:
        call()
    except (pleach.errors.NotInstalledError, SystemExit) as error:
        print(f"{what}: {error}")
"""

SAID = """\
compress: torch is not installed: pip install "pleach[train]"
models: torch is not installed: pip install "pleach[train]"
gateware: amaranth is not installed: pip install "pleach[sim]" or "pleach[synth]"
simulation: amaranth is not installed: pip install "pleach[sim]" or "pleach[synth]"
digits: sklearn is not installed: pip install "pleach[train]"
mnist: platformdirs is not installed: pip install "pleach[cli]"
plot: matplotlib is not installed: pip install "pleach[plot]"
board: serial is not installed: pip install "pleach[link]"
command: pleach: typer is not installed: pip install "pleach[cli]"
"""


def test_without_any_extra():
    """The golden model runs on numpy, scipy and numba; the rest says what it wants."""
    code = f"EXTRAS = {EXTRAS}\n{WITHOUT}"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.stderr, done.stdout) == ("", SAID)


WITHOUT_TORCH = """
import sys
from pleach_cli import main
engine = "--pes 2 --groups 1 --lanes 1 --queue-depth 16 --block 1".split()
for command in (["info"], ["explore", *engine, *data], ["balance", "--pes", "2", "-o", out, *data]):
    sys.argv = ["pleach", command[0], file, *command[1:]]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
assert not {"torch", "sklearn"} & set(sys.modules)
"""


def test_the_compiler_and_its_commands_load_no_torch(tmp_path):
    model, data, out = (str(tmp_path / name) for name in ("m.pleach", "d.npz", "even.pleach"))
    save(random_model(np.random.default_rng(0), [64, 10]), model)
    np.savez(data, train_images=np.ones((2, 64), np.uint8), test_images=np.ones((2, 64), np.uint8))
    given = f"file, data, out = {model!r}, ['--images', '2', '--dataset', {data!r}], {out!r}"
    code = given + WITHOUT_TORCH
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
