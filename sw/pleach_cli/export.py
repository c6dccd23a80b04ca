"""`pleach export`: the engine as Verilog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pleach_cli.common import (
    EngineFile,
    EngineSet,
    Json,
    ModelOption,
    Pes,
    engine_for,
    output_option,
)
from pleach_cli.output import print_json, progress, say


def command(
    output: Annotated[Path, output_option("Verilog to write.")] = Path("engine.v"),
    pes: Pes = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    model: ModelOption = None,
    json: Json = False,
) -> None:
    """Write the engine as Verilog for tools that know nothing of Amaranth.

    Module `engine`: clk, rst, s_axis_* and m_axis_* (docs/engine.md).

    With --model the engine holds that network, as that of pleach simulate with the same options;
    otherwise capacities that are not given are the defaults.

    Example: [bold]pleach export --pes 16 --model net.pleach -o engine.v[/bold]
    """
    from pleach.format import load
    from pleach_hw.build.export import write_engine

    network = load(model) if model else None
    chosen = engine_for(pes, engine, set_, network, model)
    with progress(f"writing an engine of {chosen.config.pes} PEs"):
        write_engine(chosen.config, output, notes=chosen.reasons)
    if json:
        about = {"network": network.line} if network else {}
        print_json({"file": str(output), "module": "engine"} | about | chosen.as_json())
        return
    if network:
        say(f"network: {network.line}")
    say(chosen.describe())
    say((output, "bold"), f": module engine, {chosen.config.pes} PEs")
