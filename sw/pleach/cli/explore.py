"""`pleach explore`: engines for a model, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach.cli.common import (
    DatasetOption,
    Json,
    ModelFile,
    console,
    dataset_for,
    new_table,
    print_json,
)

Values = Annotated[str, typer.Option(metavar="N,N,…", help="Values to sweep.")]


def command(
    file: ModelFile,
    pes: Values = "1,2,4,8,16,32,64",
    groups: Values = "1,2,4,8",
    lanes: Values = "1,2,4,8,16",
    queue_depth: Values = "8,16,32",
    block: Values = "1,4,8",
    board: Annotated[
        str | None, typer.Option(help="Only engines that fit the chips of these, with commas.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images to run.")] = 10,
    dataset: DatasetOption = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot to write, .png or .svg.", dir_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Sweep the engine's parameters through the cycle model and print the engines worth building.

    An engine is listed where no other one is as good in cycles, memory and LUT4 and better in one,
    with the boards that it fits. What it takes of a chip is an estimate.

    Example: [bold]pleach explore model.pleach --pes 16,64 --plot engines.png[/bold]
    """
    from dataclasses import asdict

    import numpy as np

    from pleach.errors import ConfigError
    from pleach.explore import engines, pareto, sweep
    from pleach.format import load
    from pleach.reference import Reference
    from pleach_hw import boards
    from pleach_hw.estimate import FAMILY, estimate

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
    found = dataset_for(dataset, model.inputs)
    chosen = model.quantise(found.test_images[:images])
    activations = [trace.inputs for trace in Reference(model).trace(chosen)]
    given = {"pes": pes, "groups": groups, "lanes": lanes, "queue_depth": queue_depth}
    swept = {name: _integers(name, text) for name, text in (*given.items(), ("block", block))}
    configs = engines(model, **swept)
    rows = []
    for config, measured in zip(configs, sweep(model, activations, configs), strict=True):
        need = estimate(config)
        fits = [chip.name for chip in chips if chip.holds(**need)]
        if board is not None and not fits:
            continue
        rows.append({"engine": asdict(config), **measured, "estimate": need, "boards": fits})
    if not rows:
        raise ConfigError(f"none of the {len(configs)} engines fits {board}: sweep smaller ones")
    costs = [(r["latency_cycles"], r["memory_bits"], r["estimate"]["lut4"]) for r in rows]
    best = pareto(np.array(costs).reshape(-1, 3))
    for row, listed in zip(rows, best.tolist(), strict=True):
        row["pareto"] = listed
    if plot:
        _plot(rows, plot)
    if json:
        print_json({"images": len(chosen), "engines": rows})
        return
    table = new_table(
        f"{int(best.sum())} of {len(rows)} engines, means of {len(chosen)} images",
        "PEs", "groups", "lanes", "queue", "block", "cycles\nan image", "bits a\nweight", "LUT4",
        "RAMs", "boards",
    )  # fmt: skip
    listed = [row for row in rows if row["pareto"]]
    for row in sorted(listed, key=lambda row: row["latency_cycles"]):
        engine, need = row["engine"], row["estimate"]
        table.add_row(
            *(str(engine[name]) for name in swept), f"{row['latency_cycles']:.0f}",
            f"{row['memory_bits']:.1f}", f"{need['lut4']:,}", str(need["bram"]),
            ", ".join(row["boards"]) or "none",
        )  # fmt: skip
    console().print(table)


def _integers(name: str, text: str) -> list[int]:
    from pleach.errors import ConfigError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        option = name.replace("_", "-")
        raise ConfigError(f"--{option} takes integers with commas, not {text!r}") from None


def _plot(rows: list[dict], path: Path) -> None:
    """Cycles over LUT4, a point an engine."""
    from pleach.errors import ToolError

    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ToolError("plots need matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    for listed, colour in ((False, "0.75"), (True, "C0")):
        chosen = [row for row in rows if row["pareto"] is listed]
        x = [row["estimate"]["lut4"] for row in chosen]
        axes.plot(x, [row["latency_cycles"] for row in chosen], ".", color=colour)
    axes.set_xlabel("LUT4, estimated")
    axes.set_ylabel("cycles an image")
    axes.grid(alpha=0.3, which="both")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
