"""`pleach explore`: engines for a model, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach_cli.common import DatasetOption, Json, ModelFile, Plot, dataset_for, output_option
from pleach_cli.output import print_json, print_table, progress, say


def _values(help: str):
    return typer.Option(metavar="N,N,…", help=f"{help}; values to sweep.")


def command(
    file: ModelFile,
    pes: Annotated[str, _values("Processing elements")] = "1,2,4,8,16,32,64",
    groups: Annotated[str, _values("Groups of PEs, each with a broadcast")] = "1,2,4,8",
    lanes: Annotated[str, _values("Rows drained in a cycle")] = "1,2,4,8,16",
    queue_depth: Annotated[str, _values("Activations in a PE's queue")] = "8,16,32",
    block: Annotated[str, _values("Columns that share a pointer")] = "1,4,8",
    board: Annotated[
        str | None, typer.Option(help="Only engines that fit the chips of these, with commas.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images to run.")] = 10,
    dataset: DatasetOption = None,
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

    The best engine is the one of fewest cycles that a board holds, or, where none does, of fewest
    cycles. Simulate, export and synth take it with --engine.

    Example: [bold]pleach explore model.pleach --board ulx3s-85f -o engine.toml[/bold]
    """
    from dataclasses import asdict

    import numpy as np

    from pleach.compile.explore import engines, pareto, sweep
    from pleach.errors import ConfigError
    from pleach.files import write_whole
    from pleach.format import load
    from pleach.reference import Reference
    from pleach_hw import boards
    from pleach_hw.build.estimate import FAMILY, estimate

    chips = [chip for chip in boards.boards() if chip.family == FAMILY]
    if board is not None:
        chips = [boards.board(name) for name in board.split(",")]
        for chip in chips:
            if chip.family != FAMILY:
                raise ConfigError(
                    f"what an engine takes is estimated for ECP5, and {chip.name} has an "
                    f"{chip.device}: use pleach synth --board {chip.name}"
                )
    model = load(file)
    model.check_runs()
    found = dataset_for(dataset, model, labels=False)
    chosen = model.quantise(found.test_images[:images])
    activations = Reference(model).activations(chosen)
    given = {"pes": pes, "groups": groups, "lanes": lanes, "queue_depth": queue_depth}
    swept = {name: _integers(name, text) for name, text in (*given.items(), ("block", block))}
    configs = engines(model, **swept)
    rows = []
    with progress(f"measuring {len(configs)} engines") as update:
        measured = sweep(
            model,
            activations,
            configs,
            progress=lambda done: update("measuring engines", done, len(configs)),
        )
    for config, cycles in zip(configs, measured, strict=True):
        need = estimate(config)
        fits = [chip.name for chip in chips if chip.holds(**need)]
        if board is not None and not fits:
            continue
        rows.append({"engine": asdict(config), **cycles, "estimate": need, "boards": fits})
    if not configs:
        raise ConfigError("there is no such engine: more groups than PEs or lanes, or more than 8")
    if not rows:
        raise ConfigError(f"none of the {len(configs)} engines fits {board}: sweep smaller ones")
    costs = [(r["latency_cycles"], r["memory_bits"], r["estimate"]["lut4"]) for r in rows]
    best = pareto(np.array(costs).reshape(-1, 3))
    for row, listed in zip(rows, best.tolist(), strict=True):
        row["pareto"] = listed
    if plot:
        _plot(rows, plot)
    listed = sorted((row for row in rows if row["pareto"]), key=lambda row: row["latency_cycles"])
    fastest = min(
        rows,
        key=lambda row: (not row["boards"], row["latency_cycles"], row["estimate"]["lut4"]),
    )
    if output:
        write_whole(output, engine_toml(fastest["engine"], file))
    if json:
        print_json(
            {
                "network": model.line,
                "data": found.as_json(),
                "images": len(chosen),
                "engines": rows,
                "best": fastest,
                "file": None if output is None else str(output),
            }
        )
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    print_table(
        f"{len(listed)} of {len(rows)} engines, means of {len(chosen)} images",
        (
            "board", "PEs", "groups", "lanes", "queue", "block", "cycles\nan image",
            "bits a\nweight", "LUT4", "RAMs",
        ),
        [
            (
                next(iter(row["boards"]), "none"), *(str(row["engine"][name]) for name in swept),
                f"{row['latency_cycles']:.0f}", f"{row['memory_bits']:.1f}",
                f"{row['estimate']['lut4']:,}", str(row["estimate"]["bram"]),
            )
            for row in listed
        ],
    )  # fmt: skip

    where = f"the smallest board that holds it is {', '.join(fastest['boards'][:1]) or 'none'}"
    best = " ".join(f"{name}={fastest['engine'][name]}" for name in swept)
    say(f"best: {best}; {where}")
    if output:
        say((output, "bold"), f": for simulate, export and synth, --engine {output}")


def engine_toml(engine: dict[str, int | bool], model: Path) -> str:
    """An engine's parameters as a file that --engine takes."""
    from pleach.text import printable

    lines = [f"# an engine for {printable(model.name)}, by pleach explore"]
    return "\n".join([*lines, *(f"{name} = {str(v).lower()}" for name, v in engine.items()), ""])


def _integers(name: str, text: str) -> list[int]:
    from pleach.engine import EngineConfig
    from pleach.errors import ConfigError

    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        option = name.replace("_", "-")
        raise ConfigError(f"--{option} takes integers with commas, not {text!r}") from None
    for value in values:  # refused where no engine can have it
        EngineConfig(**{"pes": 64, "lanes": 64, name: value})
    return values


def _plot(rows: list[dict], path: Path) -> None:
    """Cycles over LUT4, a point an engine."""
    from pleach.files import new_figure, write_figure

    figure = new_figure(figsize=(7, 5))
    axes = figure.add_subplot(xscale="log", yscale="log")
    for listed, colour in ((False, "0.75"), (True, "C0")):
        chosen = [row for row in rows if row["pareto"] is listed]
        x = [row["estimate"]["lut4"] for row in chosen]
        axes.plot(x, [row["latency_cycles"] for row in chosen], ".", color=colour)
    axes.set_xlabel("LUT4, estimated")
    axes.set_ylabel("cycles an image")
    axes.grid(alpha=0.3, which="both")
    write_figure(figure, path)
