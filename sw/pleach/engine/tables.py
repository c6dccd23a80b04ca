"""The tables of docs/engine.md, made from what the engine is made of.

python -m pleach.engine.tables docs/engine.md    # fill them in
python -m pleach.engine.tables                   # print them
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path

from pleach.engine import pipeline
from pleach.engine.config import PARAMETERS, EngineConfig
from pleach.engine.protocol import (
    COMPUTE_CYCLES,
    STATUS_MEANINGS,
    STATUS_WORDS,
    Boot,
    Command,
    EngineError,
    Resource,
)
from pleach.engine.registers import REGISTERS


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown.

    >>> print(table(["a", "b"], [[1, "x"]]))
    | a | b |
    |---|---|
    | 1 | x |
    """
    heads = list(heads)
    lines = [heads, *rows]
    text = [f"| {' | '.join(map(str, line))} |" for line in lines]
    return "\n".join([text[0], "|---" * len(heads) + "|", *text[1:]])


def parameters() -> str:
    """The fields of `EngineConfig`."""
    rows = []
    for each in fields(EngineConfig):
        low, high, meaning, power = PARAMETERS[each.name]
        values = f"{low}, {2 * low or 1}, … {high}" if power else f"{low} to {high}"
        if isinstance(each.default, bool):
            values = "true or false"
        rows.append((f"`{each.name}`", values, str(each.default).lower(), meaning))
    return table(("field", "values", "default", "meaning"), rows)


def commands() -> str:
    """What a packet holds and what its answer does."""
    rows = ((f"{each.value} {each.name}", each.sends, each.answers) for each in Command)
    return table(("command", "data in", "data out, when the error is 0"), rows)


def errors() -> str:
    """Why the engine refuses a packet."""
    return table(
        ("error", "name", "when"), ((each.value, each.name, each.meaning) for each in EngineError)
    )


def resources() -> str:
    """What a CAPACITY error is short of."""
    rows = ((each.value, each.meaning, f"`{each.parameter}`") for each in Resource)
    return table(("resource", "of", "parameter"), rows)


def status() -> str:
    """The words of an answer to STATUS."""
    rows: list[tuple[object, ...]] = []
    for number, word in enumerate(STATUS_WORDS):
        low = 0
        for name, width in word.fields.items():
            if not name.startswith("_"):
                bits = f"{low + width - 1}:{low}" if width > 1 else low
                meaning = STATUS_MEANINGS.get(name, "the engine's parameter")
                rows.append((number, bits, f"`{name}`", meaning))
            low += width
    rows.append((f"{len(STATUS_WORDS)} …", "31:0", "`compute_cycles`", COMPUTE_CYCLES))
    return table(("word", "bits", "field", "contents"), rows)


def boot() -> str:
    """What became of a network in flash."""
    return table(
        ("boot", "name", "meaning"), ((each.value, each.name, each.meaning) for each in Boot)
    )


def registers() -> str:
    """The registers on AXI4-Lite, in lines: offset, name, access, then its fields."""
    rows: list[tuple[object, ...]] = []
    for register in REGISTERS:
        offset = f"0x{register.offset:03x}"
        if register.count > 1:
            offset += f" … 0x{register.offset + 4 * (register.count - 1):03x}"
        rows.append((offset, f"`{register.name}`", register.access, "", "", register.meaning))
        if register.name.startswith("status_"):
            continue  # its fields have a table of their own
        for name, low, width in register.fields():
            bits = f"{low + width - 1}:{low}" if width > 1 else low
            rows.append(("", "", "", bits, f"`{name}`", register.meanings[name]))
    return table(("offset", "register", "access", "bits", "field", "meaning"), rows)


#: what takes how long, in words
LATENCIES: dict[str, Callable[[EngineConfig], int]] = {
    "a column's broadcast to its first MAC, in a PE with nothing else to do": (
        pipeline.issue_latency
    ),
    "an operation of the arithmetic unit to its row's accumulator": pipeline.accumulator_latency,
    "the start of a drain to its first vector of activations": pipeline.drain_latency,
}


def latencies() -> str:
    """Cycles that the engine's stages take."""
    engine = EngineConfig()
    rows = []
    for what, latency in LATENCIES.items():
        cycles = latency(engine)
        early = latency(replace(engine, ram_latency=1))
        blocks, groups = replace(engine, block=2), replace(engine, groups=2)
        rows.append((what, cycles, early, latency(blocks) - cycles, latency(groups) - cycles))
    heads = ("from", "`ram_latency` 2", "`ram_latency` 1", "`block` > 1 adds")
    return table((*heads, "each doubling of `groups` adds"), rows)


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each
    for each in (
        parameters,
        commands,
        errors,
        resources,
        status,
        latencies,
        boot,
        registers,
    )
}


def filled(page: str) -> str:
    """A page with each table that its marks name, as it is now.

    >>> print(filled("<!-- generated: resources -->\\nold\\n<!-- end -->").splitlines()[1])
    | resource | of | parameter |

    Raises:
        KeyError: a mark names no table.
    """
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}",
        page,
        flags=re.DOTALL,
    )


def main(paths: list[str]) -> None:
    """Fill the tables of pages in, or print all of them."""
    for path in map(Path, paths):
        path.write_text(filled(path.read_text("utf-8")), "utf-8")
    if not paths:
        print("\n\n".join(make() for make in TABLES.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
