"""`pleach info`: what is in a bitstream and which engines hold it."""

from __future__ import annotations

from contextlib import suppress

from pleach.cli.common import Json, ModelFile, console, layer_table, new_table, print_json


def command(file: ModelFile, json: Json = False) -> None:
    """Show what is in a bitstream, layer by layer, and which engines it fits.

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
        "inputs": model.inputs,
        "outputs": model.outputs,
        "input_type": model.input_type.name.lower(),
        "accumulator_bits": max(model.accumulator_bits()),
        "layers": [asdict(report) for report in reports],
        "engines": engines,
        "boards": own_engines(model) if engines else [],
    }
    if json:
        print_json(summary)
        return
    out = console()
    out.print(
        f"[bold]{file}[/bold]: {len(data):,} bytes for {model.dense_bytes:,} of float32, "
        f"[bold]{summary['ratio']:.1f}×[/bold]"
    )
    out.print(f"sha256 {summary['sha256']}")
    out.print(
        f"{model.inputs} {summary['input_type']} inputs, {model.outputs} outputs, accumulators of "
        f"{summary['accumulator_bits']} bits"
    )
    out.print(layer_table(reports))
    if not engines:
        out.print("The engine runs no convolutions; the reference does (pleach evaluate).")
        return
    out.print(engine_table(engines))
    fitting = ", ".join(own_engines(model)) or "none"
    out.print(f"Boards whose own engine, that of pleach synth --board, holds it: {fitting}")


def engines_for(model) -> list[dict]:
    """What engines of every size need to hold the model, and the boards that have it; none where
    the model has a convolution."""
    from pleach.reference import EngineConfig
    from pleach_hw.boards import boards
    from pleach_hw.estimate import estimate

    rows = []
    if any(layer.convolution for layer in model.layers):
        return rows
    for power in range(7):
        config = EngineConfig(pes=1 << power)
        needs = config.needs(model)
        need = estimate(config.grown(model))
        rows.append(
            {
                "pes": config.pes,
                "needs": needs,
                "default_engine": config.grown(model) == config,
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
    for board in boards():
        with suppress(CapacityError):
            board.engine.check(model)
            found.append(board.name)
    return found


def engine_table(rows: list[dict]):
    table = new_table(
        "Default engines, grown to hold it; for chips an estimate",
        "PEs", "weights\na PE", "columns", "rows\na PE", "LUT4", "RAMs", "multi-\npliers", "board",
    )  # fmt: skip
    for row in rows:
        needs, need = row["needs"], row["estimate"]
        table.add_row(
            str(row["pes"]), f"{needs['entries']:,}", f"{needs['columns']:,}",
            str(needs["accumulators"]), f"{need['lut4']:,}", str(need["bram"]), str(need["mult"]),
            next(iter(row["boards"]), "none"),
        )  # fmt: skip
    return table
