"""`pleach vectors`: what each layer of a network takes and gives, for hardware of one's own."""

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
    inputs_line,
    output_option,
    some_inputs,
)
from pleach_cli.output import print_json, progress, say


def command(
    file: ModelFile,
    output: Annotated[
        Path, output_option("Folder to write to; it is made where there is none.")
    ] = Path("vectors"),
    images: Annotated[
        int, typer.Option("--inputs", "--images", min=1, help="Test inputs to run.")
    ] = 10,
    dataset: DatasetOption = None,
    pes: Pes = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    memories: Annotated[
        bool,
        typer.Option("--memories", help="Write what LOAD leaves in each PE's memories as well."),
    ] = False,
    verilog: Annotated[
        bool,
        typer.Option(
            "--verilog",
            help="Write the engine in Verilog as well, for the testbench that is always there.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Write vectors of a network: inputs, every layer's sums and outputs, the engine's packets, and
    the network as a model in C, with a testbench in plain Verilog.

    Each array is there as .npy and as .hex for $readmemh. The C model needs no library; c/ has a
    program that compares it with the vectors. manifest.json says what each file is.

    Example: [bold]pleach vectors model.pleach --images 20 -o vectors[/bold]
    """
    from dataclasses import asdict

    from pleach.compile.plan import planned
    from pleach.format import load
    from pleach.vectors import write_all

    model = load(file)
    found = dataset_for(dataset, model, labels=False)
    chosen = engine_for(pes, engine, set_, model, file)
    numbers = some_inputs(found, images)
    inputs = model.quantise(found.test_images[numbers])
    with progress("running the reference"):
        plan = planned(model, chosen.config, inputs)
        files = write_all(file, inputs, output, engine=chosen.config, plan=plan)
    if memories:
        from pleach_sim.bulk import write_contents

        folder = output / "memories"
        folder.mkdir(exist_ok=True)
        write_contents(model, chosen.config, folder, plan)
        files += sorted(folder.iterdir())
    if verilog:
        from pleach_hw.build.export import write_engine

        files.append(write_engine(chosen.config, output / "engine.v", notes=chosen.reasons))
    if json:
        print_json(
            {"folder": str(output), "files": [str(each.relative_to(output)) for each in files]}
            | {"inputs": len(inputs), "engine": asdict(chosen.config), "data": found.as_json()}
            | {"numbers": numbers.tolist()}
        )
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    say(inputs_line(numbers))
    say(chosen.describe())
    say((str(output), "bold"), f": {len(files)} files of {len(inputs)} inputs; manifest.json")
