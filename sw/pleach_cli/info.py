"""`pleach info`: what is in a bitstream and which engines hold it."""

from __future__ import annotations

from contextlib import suppress

from pleach_cli.common import Json, ModelFile, layer_table
from pleach_cli.output import print_json, print_table, say

#: outputs whose fractions are shown one by one
SHOWN = 16
#: PEs of the engines that are looked at
SIZES = tuple(1 << power for power in range(7))


def command(file: ModelFile, json: Json = False) -> None:
    """Show what is in a bitstream, layer by layer, and which engines it fits.

    A host scales by the fraction bits: an input of x is the integer x · 2^bits, an output of y
    stands for y / 2^bits. CompressedModel.quantise and .dequantise do so in Python.

    Example: [bold]pleach info model.pleach[/bold]
    """
    from dataclasses import asdict
    from hashlib import sha256

    from pleach.format import naming, parse
    from pleach.report import layer_reports

    data = file.read_bytes()
    with naming(file):
        model, sizes = parse(data)
    reports = layer_reports(model, sizes)
    engines = engines_for(model)
    summary = {
        "file": str(file),
        "sha256": sha256(data).hexdigest(),
        "file_bytes": len(data),
        "dense_bytes": model.dense_bytes,
        "ratio": model.dense_bytes / len(data),
        "network": model.line,
        "inputs": model.inputs,
        "outputs": model.outputs,
        "input_type": model.input_type.name.lower(),
        "input_fraction": model.input_fraction,
        "weight_fractions": model.weight_fractions(),
        "layer_fractions": [layer.output_fraction for layer in model.layers],
        "output_fractions": model.output_fractions,
        "accumulator_bits": max(model.accumulator_bits()),
        "layers": [asdict(report) for report in reports],
        "engines": engines,
        "boards": own_engines(model),
    }
    if json:
        print_json(summary)
        return
    say(
        (file, "bold"),
        f": {len(data):,} bytes for {model.dense_bytes:,} of float32, ",
        (f"{summary['ratio']:.1f}×", "bold"),
    )
    say(f"sha256 {summary['sha256']}")
    say(
        f"{model.inputs} {summary['input_type']} inputs, {model.outputs} outputs, accumulators of "
        f"{summary['accumulator_bits']} bits"
    )
    say(f"network: {model.line}")
    say(fractions_line(model))
    layer_table(reports)
    if any(layer.convolution for layer in model.layers):
        say("The engine runs no convolutions; the reference does (pleach evaluate).")
        return
    if engines:
        engine_table(engines)
    if len(engines) < len(SIZES):
        missing = sorted(set(SIZES) - {row["pes"] for row in engines})
        say(f"No engine of {', '.join(map(str, missing))} PEs can hold it.")
    fitting = ", ".join(summary["boards"]) or "none"
    say(f"Boards whose own engine, that of pleach synth --board, holds it: {fitting}")


def fractions_line(model) -> str:
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


def engines_for(model) -> list[dict]:
    """What engines of every size need to hold the model, and the boards that have it; without the
    sizes at which none can hold it, and none where the model has a convolution."""
    from pleach.engine import EngineConfig
    from pleach.errors import CapacityError
    from pleach_hw.boards import boards
    from pleach_hw.build.estimate import estimate

    rows = []
    if any(layer.convolution for layer in model.layers):
        return rows
    for pes in SIZES:
        config = EngineConfig(pes=pes)
        needs = config.needs(model)
        try:
            grown = config.grown(model)
        except CapacityError:  # larger than an engine's parameters can be
            continue
        need = estimate(grown)
        rows.append(
            {
                "pes": config.pes,
                "needs": needs,
                "default_engine": grown == config,
                "estimate": need,
                "boards": [board.name for board in boards() if board.holds(**need)],
            }
        )
    return rows


def own_engines(model) -> list[str]:
    """The boards whose own engine holds the model."""
    from pleach.errors import CapacityError
    from pleach_hw.boards import boards

    found = []
    if any(layer.convolution for layer in model.layers):
        return found
    for board in boards():
        with suppress(CapacityError):
            board.engine.check(model)
            found.append(board.name)
    return found


def engine_table(rows: list[dict]) -> None:
    """What `engines_for` found, on the terminal."""
    print_table(
        "Default engines, grown to hold it; for chips an estimate",
        (
            "board", "PEs", "weights\na PE", "columns", "rows\na PE", "LUT4", "RAMs",
            "multi-\npliers",
        ),
        [
            (
                next(iter(row["boards"]), "none"), str(row["pes"]),
                f"{row['needs']['entries']:,}", f"{row['needs']['columns']:,}",
                f"{row['needs']['accumulators']:,}", f"{row['estimate']['lut4']:,}",
                f"{row['estimate']['bram']:,}", str(row["estimate"]["mult"]),
            )
            for row in rows
        ],
    )  # fmt: skip
