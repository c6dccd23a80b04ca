"""`pleach plan`: how an engine with a map memory runs each layer of a network."""

from __future__ import annotations

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
    inputs_line,
    some_inputs,
)
from pleach_cli.output import print_json, print_table, progress, say


def command(
    file: ModelFile,
    pes: Pes = None,
    images: Annotated[
        int,
        typer.Option(
            "--inputs",
            "--images",
            min=1,
            help="Test inputs, as many as the command has that is to run them: the first two of "
            "them are counted.",
        ),
    ] = 10,
    dataset: DatasetOption = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    json: Json = False,
) -> None:
    """Count every way to run each layer on an engine with a map memory, and choose the fastest.

    Simulate, report, diff and vectors run and count the same plan, that of the same inputs.

    A layer's windows of output pixels are shared out to teams of processing elements; each team
    holds a copy of the layer's weights. More teams are faster and hold more weights.

    Example: [bold]pleach plan lenet_5.pleach --pes 16[/bold]
    """
    from pleach.compile.plan import PLANNED_BY, chosen, counted
    from pleach.errors import ConfigError
    from pleach.format import load

    model = load(file)
    picked = engine_for(pes, engine, set_, model, file)
    config = picked.config
    if not config.maps:
        raise ConfigError(
            "this engine has no map memory, and its layers run in one way only: give --set maps=…"
        )
    found = dataset_for(dataset, model, labels=False)
    numbers = some_inputs(found, images)[:PLANNED_BY]
    inputs = model.quantise(found.test_images[numbers])
    with progress("counting every way to run each layer"):
        ways = counted(model, config, inputs)
    plans = chosen(model, config, ways)
    rows = [
        {
            "layer": node.name,
            "teams": choice.plan.teams,
            "side": choice.plan.side,
            "cycles": choice.cycles,
            "entries": int(choice.entries.max()),
            "chosen": choice.plan == plan,
        }
        for node, plan, options in zip(model.graph.nodes, plans, ways, strict=True)
        for choice in options
    ]
    if json:
        about = {"network": model.line, "data": found.as_json(), "inputs": len(inputs)}
        about["numbers"] = numbers.tolist()
        print_json(about | picked.as_json() | {"ways": rows})
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    say(inputs_line(numbers))
    say(picked.describe())
    print_table(
        f"{config.pes} PEs, means of {len(inputs)} inputs",
        ("layer", "teams", "window", "cycles", "weights\na PE", ""),
        [
            (
                row["layer"], str(row["teams"]), f"{row['side']}×{row['side']}",
                f"{row['cycles']:.0f}", f"{row['entries']:,}", "chosen" if row["chosen"] else "",
            )
            for row in rows
        ],
    )  # fmt: skip
