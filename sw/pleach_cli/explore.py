"""`pleach explore`: engines for a model, compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pleach_cli.common import (
    DatasetOption,
    Json,
    ModelFile,
    Plot,
    Scheduler,
    dataset_for,
    output_option,
)
from pleach_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from pleach.engine import EngineConfig
    from pleach_hw.build.candidates import Candidate


#: what is swept by default, without a map memory and with one
SWEPT = {
    "pes": ("1,2,4,8,16,32,64", "4,8,16,32,64"),
    "groups": ("1,2,4,8", "2,4,8"),
    "lanes": ("1,2,4,8,16", "2"),
    "queue_depth": ("8,16,32", "32"),
    "block": ("1,4,8", "4"),
    "neighbours": ("", "8,16"),
    "accumulators": ("", ""),
    "maps": ("", ""),
}
#: and how many inputs are run: with a map memory every way to run each layer is counted
IMAGES = (10, 2)
#: columns of the table
HEADS = {
    "pes": "PEs", "groups": "groups", "lanes": "lanes", "queue_depth": "queue", "block": "block",
    "neighbours": "neigh-\nbours", "accumulators": "ring", "maps": "map",
}  # fmt: skip


def _values(help: str, name: str):
    plain, maps = SWEPT[name]
    default = " or ".join(dict.fromkeys(each or "as needed" for each in (plain, maps)))
    return typer.Option(metavar="N,N,…", help=f"{help}; values to sweep.", show_default=default)


def command(
    file: ModelFile,
    pes: Annotated[str | None, _values("Processing elements", "pes")] = None,
    groups: Annotated[str | None, _values("Groups of PEs, each with a broadcast", "groups")] = None,
    lanes: Annotated[str | None, _values("Rows drained in a cycle", "lanes")] = None,
    queue_depth: Annotated[
        str | None, _values("Activations in a PE's queue", "queue_depth")
    ] = None,
    block: Annotated[str | None, _values("Columns that share a pointer", "block")] = None,
    neighbours: Annotated[
        str | None, _values("Values of a map read in a cycle", "neighbours")
    ] = None,
    accumulators: Annotated[
        str | None, _values("Rows that a PE can hold, its ring", "accumulators")
    ] = None,
    maps: Annotated[str | None, _values("Values that the map memory can hold", "maps")] = None,
    board: Annotated[
        str | None,
        typer.Option(
            help="Boards, with commas between: only engines that fit their chips are listed."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--inputs",
            "--images",
            min=1,
            help="Test inputs to run.",
            show_default="10, with a map memory 2",
        ),
    ] = None,
    dataset: DatasetOption = None,
    scheduler: Scheduler = None,
    plot: Plot = None,
    output: Annotated[
        Path | None,
        output_option("TOML file to write with the best engine's parameters, for --engine."),
    ] = None,
    json: Json = False,
) -> None:
    """Sweep the engine's parameters through the cycle model and print the engines worth building.

    An engine is listed where no other one is as good in cycles, memory and LUT4 and better in one,
    with the smallest board that it fits. Bits a weight are those of PE memory, pointers included.
    What it takes of a chip is an estimate. Parameters are explained in docs/engine.md.

    A network with convolutions runs on engines with a map memory, each layer in the way that is the
    fastest on that engine: in as many teams of PEs as its groups and its ring allow.

    The best engine is the one of fewest cycles that a board holds, or, where none does, of fewest
    cycles. Simulate, export and synth take it with --engine.

    Example: [bold]pleach explore model.pleach --board ulx3s-85f -o engine.toml[/bold]
    """
    from pleach.compile.explore import engines
    from pleach.engine.plan import base_engine
    from pleach.files import write_whole
    from pleach.format import load
    from pleach.reference import Reference
    from pleach_hw.build import candidates as search

    chips = search.chips_for(None if board is None else board.split(","))
    model = load(file)
    with_maps = base_engine(model).maps > 0
    found = dataset_for(dataset, model, labels=False)
    chosen = model.quantise(found.test_images[found.few(images or IMAGES[with_maps])])
    given = {
        "pes": pes, "groups": groups, "lanes": lanes, "queue_depth": queue_depth, "block": block,
        "neighbours": neighbours, "accumulators": accumulators, "maps": maps,
    }  # fmt: skip
    texts = {name: text or SWEPT[name][with_maps] for name, text in given.items()}
    swept = {name: _integers(name, text, with_maps) for name, text in texts.items() if text}
    configs = engines(model, **swept)
    with progress(f"measuring {len(configs)} engines") as update:
        measured = search.candidates(
            model,
            Reference(model).taken(chosen),
            configs,
            chips,
            fitting=board is not None,
            scheduler=scheduler,
            progress=lambda done: update("measuring engines", done, len(configs)),
        )
    best = search.fastest(measured)
    if plot:
        search.plot(measured, plot)
    if output:
        write_whole(output, engine_toml(best.engine, file))
    if json:
        print_json(
            {
                "network": model.line,
                "data": found.as_json(),
                "inputs": len(chosen),
                "engines": [each.as_json() for each in measured],
                "best": best.as_json(),
                "file": None if output is None else str(output),
            }
        )
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    names = [
        *swept,
        *(name for name in ("accumulators", "maps") if with_maps and name not in swept),
    ]
    _show(measured, names, len(chosen))
    where = f"the smallest board that holds it is {', '.join(best.fit.boards[:1]) or 'none'}"
    say(f"best: {' '.join(f'{name}={getattr(best.engine, name)}' for name in names)}; {where}")
    if output:
        say((output, "bold"), f": for simulate, export and synth, --engine {output}")


def _show(measured: list[Candidate], names: list[str], images: int) -> None:
    """The engines that no other one betters, the fastest first.

    Args:
        names: of the parameters that are shown.
    """
    listed = sorted((each for each in measured if each.pareto), key=lambda e: e.latency_cycles)
    print_table(
        f"{len(listed)} of {len(measured)} engines, means of {images} inputs",
        (
            "board", *(HEADS[name] for name in names), "cycles\nan input", "bits a\nweight",
            "LUT4", "RAMs",
        ),
        [
            (
                next(iter(each.fit.boards), "none"),
                *(f"{getattr(each.engine, name)}" for name in names),
                f"{each.latency_cycles:.0f}", f"{each.memory_bits:.1f}",
                f"{each.fit.estimate['lut4']:,}", str(each.fit.estimate["bram"]),
            )
            for each in listed
        ],
    )  # fmt: skip


def engine_toml(engine: EngineConfig, model: Path) -> str:
    """An engine's parameters as a file that --engine takes."""
    from dataclasses import asdict

    from pleach.text import printable

    lines = [f"# an engine for {printable(model.name)}, by pleach explore"]
    lines += [f"{name} = {str(value).lower()}" for name, value in asdict(engine).items()]
    return "\n".join([*lines, ""])


def _integers(name: str, text: str, with_maps: bool) -> list[int]:
    from pleach.engine import EngineConfig
    from pleach.errors import ConfigError
    from pleach.settings import from_dict

    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        option = name.replace("_", "-")
        raise ConfigError(f"--{option} takes integers with commas, not {text!r}") from None
    for value in values:  # refused where no engine can have it
        from_dict(EngineConfig(pes=64, lanes=64, maps=256 * with_maps), {name: value})
    return values
