"""`pleach info`: what is in a bitstream and which engines hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from pleach_cli.common import Json, ModelFile
from pleach_cli.output import print_json, print_table, say
from pleach_cli.views import layer_table, say_size

if TYPE_CHECKING:
    from pleach.compile.explore import Sized
    from pleach.model import CompressedModel
    from pleach_hw.build.candidates import Fit

#: outputs whose fractions are shown one by one
SHOWN = 16


def command(file: ModelFile, json: Json = False) -> None:
    """Show what is in a bitstream, layer by layer, and which engines it fits.

    A host scales by the fraction bits: an input of x is the integer x · 2^bits, an output of y
    stands for y / 2^bits. CompressedModel.quantise and .dequantise do so in Python.

    Example: [bold]pleach info model.pleach[/bold]
    """
    from dataclasses import asdict

    from pleach.compile.explore import SIZES, catalogue
    from pleach.report import FileReport, NumbersReport
    from pleach_hw.build.candidates import Fit, own_engines

    model, report = FileReport.of(file.read_bytes(), file)
    numbers = NumbersReport.of(model)
    engines = catalogue(model)
    fits = [Fit.of(each.engine) for each in engines]
    boards = own_engines(model)
    if json:
        rows = [
            {
                "pes": each.engine.pes,
                "needs": each.needs,
                "default_engine": each.default,
                "estimate": fit.estimate,
                "boards": list(fit.boards),
            }
            for each, fit in zip(engines, fits, strict=True)
        ]
        print_json(report.as_json() | asdict(numbers) | {"engines": rows, "boards": boards})
        return
    say_size(report)
    say(
        f"{model.inputs} {numbers.input_type} inputs, {model.outputs} outputs, accumulators of "
        f"{numbers.accumulator_bits} bits"
    )
    say(f"network: {model.line}")
    say(fractions_line(model))
    layer_table(report.layers)
    if model.needs_maps is not None:
        say(f"It runs on engines with a map memory: {model.needs_maps}.")
    if engines:
        engine_table(engines, fits)
    if len(engines) < len(SIZES):
        missing = sorted(set(SIZES) - {each.engine.pes for each in engines})
        say(f"No engine of {', '.join(map(str, missing))} PEs can hold it.")
    say(
        f"Boards whose own engine, that of pleach synth --board, holds it: {', '.join(boards)}"
        if boards
        else _for_itself(file, model, fits)
    )


def _for_itself(file: Path, model: CompressedModel, fits: Sequence[Fit]) -> str:
    """Why no board's own engine runs it, and how one is built that does."""
    lacks = "too small" if model.needs_maps is None else "without a map memory, or too small"
    none = f"The boards' own engines, those of pleach synth --board, are {lacks} for it"
    board = next((each.boards[0] for each in fits if each.boards), None)
    if board is None:
        return f"{none}, and the engines above for every chip here."
    return f"{none}; one made for it is built by: pleach build --board {board} {quote(str(file))}"


def fractions_line(model: CompressedModel) -> str:
    """The scales of a bitstream's integers, on one line."""
    weights = ", ".join(map(str, model.weight_fractions()))
    between = "".join(f", {layer.output_fraction}" for layer in model.layers[:-1])
    outputs = model.output_fractions
    if len(set(outputs)) == 1:
        ends = str(outputs[0])
    elif len(outputs) <= SHOWN:
        ends = f"each its own, {', '.join(map(str, outputs))}"
    else:
        ends = f"each its own, --json has them: {min(outputs)} to {max(outputs)}"
    between = f"between layers {between[2:]}; " if between else ""
    return (
        f"fraction bits, real value = integer / 2^bits: inputs {model.input_fraction}; weights "
        f"{weights}; {between}outputs {ends}"
    )


def engine_table(engines: Sequence[Sized], fits: Sequence[Fit]) -> None:
    """Engines by size, with what they take of a chip."""
    print_table(
        "Default engines, grown to hold it; for chips an estimate",
        (
            "board", "PEs", "weights\na PE", "columns", "rows\na PE", "LUT4", "RAMs",
            "multi-\npliers",
        ),
        [
            (
                next(iter(fit.boards), "none"), str(each.engine.pes),
                f"{each.needs['entries']:,}", f"{each.needs['columns']:,}",
                f"{each.needs['accumulators']:,}", f"{fit.estimate['lut4']:,}",
                f"{fit.estimate['bram']:,}", str(fit.estimate["mult"]),
            )
            for each, fit in zip(engines, fits, strict=True)
        ],
    )  # fmt: skip
