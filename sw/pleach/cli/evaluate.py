"""`pleach evaluate`: the error of a bitstream on a test set."""

from __future__ import annotations

from pleach.cli.common import DatasetOption, Json, ModelFile, dataset_for
from pleach.cli.output import print_json, say


def command(file: ModelFile, dataset: DatasetOption = None, json: Json = False) -> None:
    """Run the fixed-point reference over a whole test set.

    The reference equals the engine on every bit, so this is the engine's error too.

    Example: [bold]pleach evaluate model.pleach --dataset mnist[/bold]
    """
    from pleach.format import load
    from pleach.metrics import wrong_percent
    from pleach.reference import Reference

    model = load(file)
    found = dataset_for(dataset, model.inputs, model.outputs)
    outputs = Reference(model).run(model.quantise(found.test_images))
    error = wrong_percent(outputs, found.test_labels)
    if json:
        print_json(
            {
                "file": str(file),
                "dataset": found.name,
                "error_pct": error,
                "images": len(outputs),
                "file_bytes": file.stat().st_size,
            }
        )
    else:
        say(
            (file, "bold"),
            f": {error:.2f} % error on {len(outputs):,} test images of {found.name}, fixed point",
        )
