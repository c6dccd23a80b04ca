"""`pleach export`: the engine as Verilog, alone or in a system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    system: Annotated[
        Path | None,
        typer.Option(
            help="Write a system into this folder instead: AXI4-Lite registers, headers, scripts.",
            file_okay=False,
        ),
    ] = None,
    flash: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Byte of the flash from which the system loads itself, such as 0x200000.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the engine as Verilog for tools that know nothing of Amaranth.

    Module `engine`: clk, rst, s_axis_* and m_axis_* (docs/engine.md).

    With --model the engine holds that network, as that of pleach simulate with the same options;
    otherwise capacities that are not given are the defaults.

    With --system: module `pleach_system`, which has registers on AXI4-Lite and an interrupt
    (docs/registers.md), and what other tools read of it (docs/how-to/system.md).

    Example: [bold]pleach export --pes 16 --model net.pleach -o engine.v[/bold]
    """
    from pleach.errors import ConfigError
    from pleach.format import load
    from pleach_hw.build.export import write_engine
    from pleach_hw.build.system import SYSTEM, write_system

    address = None if flash is None else _address(flash)
    if address is not None and system is None:
        raise ConfigError("--flash is of a system: give --system FOLDER too")
    network = load(model) if model else None
    chosen = engine_for(pes, engine, set_, network, model)
    module, files = "engine", []
    with progress(f"writing an engine of {chosen.config.pes} PEs"):
        if system is None:
            write_engine(chosen.config, output, notes=chosen.reasons)
        else:
            files = write_system(chosen.config, system, flash=address, notes=chosen.reasons)
            module, output = SYSTEM, files[0]
    if json:
        about = {"network": network.line} if network else {}
        about |= {"files": [str(file) for file in files]} if files else {}
        print_json({"file": str(output), "module": module} | about | chosen.as_json())
        return
    if network:
        say(f"network: {network.line}")
    say(chosen.describe())
    say((output, "bold"), f": module {module}, {chosen.config.pes} PEs")
    for file in files[1:]:
        say(str(file))


def _address(text: str) -> int:
    from pleach.errors import ConfigError

    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not 0 <= address < 1 << 24:
        raise ConfigError(f"--flash is an address of 24 bits, such as 0x200000, not {text!r}")
    return address
