"""`pleach compress`: from a checkpoint to a bitstream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach.cli.common import (
    Checkpoint,
    DatasetOption,
    Json,
    dataset_for,
    layer_table,
    output_option,
)
from pleach.cli.output import print_json, print_table, progress, say


def command(
    checkpoint: Checkpoint,
    output: Annotated[Path, output_option("Bitstream to write.")] = Path("model.pleach"),
    dataset: DatasetOption = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings, TOML; see docs/compression.md.", exists=True, dir_okay=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the settings' seed.")] = None,
    json: Json = False,
) -> None:
    """Prune, share, fine-tune and code a trained network into one bitstream.

    Linear layers with ReLU between them, or LeNet-5; other convolutions from Python. The training
    images retrain the network, the test images only measure it.

    Example: [bold]pleach compress digits.safetensors --dataset digits -o digits.pleach[/bold]
    """
    from dataclasses import replace

    from pleach.compression import CompressConfig
    from pleach.models import from_state_dict, layers_of, load_checkpoint

    settings = CompressConfig.from_toml(config) if config else CompressConfig()
    if seed is not None:
        settings = replace(settings, seed=seed)
    model = from_state_dict(load_checkpoint(checkpoint))
    layers = layers_of(model)
    found = dataset_for(dataset, layers[0].values_in, layers[-1].values_out)
    with progress("compressing") as update:
        compressed, stages = compress_on(found, model, settings, update)
    summary = describe(compressed, output, stages)
    if json:
        print_json(summary)
    else:
        show(summary)


def compress_on(found, model, settings, update) -> tuple:
    """Compress on a data set, showing progress: the compressed network and its stages."""
    from pleach.compression import compress

    stages = []
    compressed = compress(
        model, found.train_images, found.train_labels, settings,
        validation=(found.test_images, found.test_labels), report=stages.append,
        progress=lambda stage, epoch, epochs, loss: update(
            stage, epoch, epochs, f"loss {loss:.4f}"
        ),
    )  # fmt: skip
    return compressed, stages


def describe(compressed, output: Path, stages) -> dict:
    """Write the bitstream and describe it."""
    from dataclasses import asdict
    from hashlib import sha256

    from pleach.format import parse
    from pleach.report import layer_reports

    compressed.save(output)
    data = output.read_bytes()
    reports = layer_reports(*parse(data))
    return {
        "file": str(output),
        "sha256": sha256(data).hexdigest(),
        "file_bytes": len(data),
        "dense_bytes": compressed.dense_bytes,
        "ratio": compressed.dense_bytes / len(data),
        "stages": [asdict(stage) for stage in stages],
        "layers": [asdict(report) for report in reports],
    }


def show(summary: dict) -> None:
    """What `describe` found, on the terminal."""
    from pleach.report import LayerReport

    print_table(
        "Stages and their test error",
        ("stage", "error", "kept", "time"),
        [
            (
                stage["name"],
                "" if stage["error"] is None else f"{stage['error']:.2f} %",
                f"{100 * stage['kept']:.2f} %",
                f"{stage['seconds']:.0f} s",
            )
            for stage in summary["stages"]
        ],
    )
    layer_table([LayerReport(**layer) for layer in summary["layers"]])
    say(
        (summary["file"], "bold"),
        f": {summary['file_bytes']:,} bytes for {summary['dense_bytes']:,} of float32, ",
        (f"{summary['ratio']:.1f}×", "bold"),
    )
    say(f"sha256 {summary['sha256']}")
