"""`pleach ports`: serial ports with boards behind them."""

from __future__ import annotations

from dataclasses import asdict

from pleach_cli.common import Json
from pleach_cli.output import print_json, print_table, say


def command(json: Json = False) -> None:
    """List the serial ports that are plugged in, those that may be boards first.

    Example: [bold]pleach ports[/bold]
    """
    from pleach.host import ports

    found = ports()
    if json:
        print_json({"ports": [asdict(port) for port in found]})
    elif found:
        print_table(
            "serial ports",
            ("port", "may be", "says"),
            [(port.name, port.adapter, port.description) for port in found],
        )
    else:
        say("no serial port is plugged in; on Linux, may you read it? (group dialout)")
