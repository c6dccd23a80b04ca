"""`pleach balance`: a network's neurons dealt out to the processing elements by their work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach_cli.common import (
    DatasetOption,
    EngineFile,
    EngineSet,
    Json,
    ModelFile,
    Pes,
    dataset_for,
    engine_for,
    output_option,
)
from pleach_cli.output import print_json, progress, say


def command(
    file: ModelFile,
    output: Annotated[Path, output_option("Bitstream to write.")],
    pes: Pes = None,
    images: Annotated[
        int,
        typer.Option(
            "--inputs", "--images", min=1, help="Training inputs on which the work is counted."
        ),
    ] = 100,
    dataset: DatasetOption = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    json: Json = False,
) -> None:
    """Reorder hidden neurons and channels so that an engine's PEs have as much to do as each other.

    The function stays the same, to the bit, and the file runs on every engine. Layers that give or
    take the same channels move together.

    Example: [bold]pleach balance model.pleach --pes 16 --set groups=4 -o even.pleach[/bold]
    """
    from pleach.compile.balance import balanced
    from pleach.compile.explore import latency
    from pleach.format import load, save
    from pleach.reference import Reference

    model = load(file)
    chosen = engine_for(pes, engine, set_, model, file)
    config = chosen.config
    found = dataset_for(dataset, model, labels=False)
    with progress("dealing out rows"):
        even = balanced(model, model.quantise(found.train_images[:images]), config)
        tests = model.quantise(found.test_images[found.few(images)])
        before, after = (
            latency(each, Reference(each).taken(tests), config) for each in (model, even)
        )
    bytes_before = file.stat().st_size
    save(even, output)
    summary = {
        "file": str(output),
        "file_bytes": output.stat().st_size,
        "bytes_before": bytes_before,
        "latency_cycles": after,
        "latency_cycles_before": before,
        "inputs": len(tests),
    }
    if json:
        about = {"network": model.line, "data": found.as_json()}
        print_json(summary | about | chosen.as_json())
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    say(chosen.describe())
    say(
        f"{output}: {after:.0f} cycles an input on {config.pes} PEs, {before:.0f} before; "
        f"{summary['file_bytes']:,} bytes, {summary['bytes_before']:,} before"
    )
