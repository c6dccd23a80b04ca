"""`pleach export`: the engine as Verilog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pleach.cli.common import EngineFile, EngineSet, Json, Pes, engine_config, output_option
from pleach.cli.output import print_json, say


def command(
    output: Annotated[Path, output_option("Verilog to write.")] = Path("engine.v"),
    pes: Pes = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    json: Json = False,
) -> None:
    """Write the engine as Verilog for tools that know nothing of Amaranth.

    Module `engine`: clk, rst, s_axis_* and m_axis_* (docs/engine.md).

    Example: [bold]pleach export --pes 16 -o engine.v[/bold]
    """
    from dataclasses import asdict

    from pleach_hw.engine import Engine
    from pleach_hw.export import write_verilog

    config = engine_config(pes, engine, set_)
    write_verilog(Engine(config), output, "engine")
    if json:
        print_json({"file": str(output), "module": "engine", "engine": asdict(config)})
    else:
        say((output, "bold"), f": module engine, {config.pes} PEs")
