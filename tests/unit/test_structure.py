"""The order of the packages, as the imports in the source have it: each builds on those before it,
and no two modules on each other."""

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("sw/pleach", "hw/pleach_hw", "sim/pleach_sim", "sw/pleach_cli")

#: What stands on what: a module imports its own line and those above it. A package stands for all
#: of its modules.
ORDER = (
    "pleach.errors pleach.text pleach.numbers",
    "pleach.extras",
    "pleach.arrays pleach.compiled pleach.files pleach.processes pleach.settings",
    "pleach.spread",
    "pleach.model",
    "pleach.engine",
    "pleach.format",
    "pleach.reference",
    "pleach.cycles",
    "pleach.compile",
    "pleach.data pleach.host pleach.metrics pleach.report pleach.difference",
    "pleach.page pleach.vectors",
    "pleach.models",
    "pleach.compression",
    "pleach.search",
    "pleach",
    "pleach_hw pleach_hw.primitives pleach_hw.layouts",
    "pleach_hw.queue pleach_hw.buses pleach_hw.crossing",
    "pleach_hw.compute pleach_hw.io pleach_hw.link pleach_hw.load pleach_hw.maps",
    "pleach_hw.engine",
    "pleach_hw.system",
    "pleach_hw.boards",
    "pleach_hw.build",
    "pleach_sim",
    "pleach_cli",
)
RANK = {name: rank for rank, line in enumerate(ORDER) for name in line.split()}

#: What needs torch: the compiler, the golden model and the gateware do without.
TORCH = ("pleach.models", "pleach.compression", "pleach.search", "pleach_cli")

LONGEST = 120
#: Functions that are longer, and why.
LONG: dict[str, str] = {}


def modules() -> dict[str, Path]:
    found = {}
    for folder in map(ROOT.joinpath, SOURCES):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports() -> dict[str, dict[str, int]]:
    """The modules of ours that each module imports, wherever in it, and the line."""
    known = modules()
    return {name: dict(_imported(tree(path), known)) for name, path in known.items()}


def _imported(module: ast.Module, known: dict[str, Path]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "imports give the whole name"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in inside]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name in known)


def place(module: str) -> int | None:
    """The line of `ORDER` that a module is in: that of the longest name that holds it.

    A name in ``pleach`` or ``pleach_hw`` itself needs a place of its own.
    """
    name = module
    while name not in RANK:
        name = name.rpartition(".")[0]
    return None if name in ("pleach", "pleach_hw") and name != module else RANK[name]


def in_package(module: str, *packages: str) -> bool:
    return module.startswith(tuple(f"{package}." for package in packages)) or module in packages


def test_every_module_has_a_place():
    assert [name for name in modules() if place(name) is None] == []


def test_no_import_goes_up():
    up = [
        f"{modules()[name].relative_to(ROOT)}:{line} imports {other}"
        for name, found in imports().items()
        for other, line in found.items()
        if (place(other) or 0) > (place(name) or 0)
    ]
    assert not up, "\n".join(up)


def test_no_circle():
    """Nor one through an import inside a function, or for types alone."""
    sorter = graphlib.TopologicalSorter(
        {name: {other for other in found if other != name} for name, found in imports().items()}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_torch_is_imported_where_it_is_needed_only():
    for name, path in modules().items():
        if not in_package(name, *TORCH):
            found = {line.split(".")[0] for line in outside(tree(path))}
            assert "torch" not in found, name
        if not in_package(name, *TORCH, "pleach"):
            assert not [other for other in imports()[name] if in_package(other, *TORCH)], name


def outside(module: ast.Module) -> Iterator[str]:
    """What a module imports, whosever it is, when it is run."""
    for_types = {
        inner
        for node in ast.walk(module)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(module):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_no_function_is_long():
    long = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in modules().values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST
    }
    assert long == set(LONG)


def test_commands_import_no_other_command():
    commands = {
        name
        for name, path in modules().items()
        if in_package(name, "pleach_cli")
        and any(isinstance(n, ast.FunctionDef) and n.name == "command" for n in tree(path).body)
    }
    assert len(commands) >= 12
    for name in commands:
        assert not commands & set(imports()[name]), name
