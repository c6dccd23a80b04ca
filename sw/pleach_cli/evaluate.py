"""`pleach evaluate`: the error of a bitstream on a test set."""

from __future__ import annotations

from pleach_cli.common import DatasetOption, Json, Loss, ModelFile, dataset_for, labels_as
from pleach_cli.output import print_json, progress, say


def command(
    file: ModelFile, dataset: DatasetOption = None, loss: Loss = None, json: Json = False
) -> None:
    """Run the fixed-point reference over a whole test set.

    The reference equals the engine on every bit, so this is the engine's error too: inputs that it
    puts in the wrong class; of a regression rmse, of several outputs nrmse, in which each counts
    in its own targets' deviation.

    Example: [bold]pleach evaluate model.pleach --dataset mnist[/bold]
    """
    from pleach.format import load
    from pleach.metrics import for_targets
    from pleach.reference import Reference

    model = load(file)
    found = labels_as(dataset_for(dataset, model), model.outputs, loss)
    with progress("running the reference"):
        outputs = Reference(model).run(model.quantise(found.test_images))
    labels = found.tests[1]
    metric = for_targets(labels, model.outputs, loss)
    error = metric(model.dequantise(outputs), labels)
    if json:
        print_json(
            {
                "file": str(file),
                "network": model.line,
                "dataset": found.name,
                "data": found.as_json(),
                metric.name: error,
                "metric": metric.name,
                "inputs": len(outputs),
                "file_bytes": file.stat().st_size,
            }
        )
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    say(
        (file, "bold"),
        f": {metric.said(error)} on {len(outputs):,} test inputs of {found.name}, fixed point",
    )
