"""`pleach info`: what is in a bitstream and which engines hold it."""

from __future__ import annotations

from pleach.cli.common import Json, ModelFile, console, layer_table, new_table, print_json


def command(file: ModelFile, json: Json = False) -> None:
    """Show what is in a bitstream, layer by layer, and which engines it fits.

    Example: [bold]pleach info model.pleach[/bold]
    """
    from dataclasses import asdict
    from hashlib import sha256

    from pleach.format import parse
    from pleach.report import layer_reports

    data = file.read_bytes()
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
    out.print(engine_table(engines))


def engines_for(model) -> list[dict]:
    """What engines of every size need to hold the model, and the boards that have it."""
    from pleach.reference import EngineConfig
    from pleach_hw.boards import boards
    from pleach_hw.estimate import estimate

    rows = []
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


def engine_table(rows: list[dict]):
    table = new_table(
        "Engines that hold it; chip figures are estimates",
        "PEs", "weights\na PE", "columns", "rows\na PE", "LUT4", "RAMs", "multi-\npliers", "boards",
    )  # fmt: skip
    for row in rows:
        needs, need = row["needs"], row["estimate"]
        table.add_row(
            str(row["pes"]), f"{needs['entries']:,}", f"{needs['columns']:,}",
            str(needs["accumulators"]), f"{need['lut4']:,}", str(need["bram"]), str(need["mult"]),
            ", ".join(row["boards"]) or "none",
        )  # fmt: skip
    return table
