"""The host's side of the engine's link: packets, and a `Driver` over whatever carries them."""

from pleach.host.driver import Driver, Link, PipelinedLink
from pleach.host.engine import Engine, Port, ports
from pleach.host.packets import (
    Answer,
    answer_words,
    hex_lines,
    load_packet,
    plan_packet,
    run_packet,
    status_packet,
)
from pleach.host.serial import SerialLink, wire_bytes

__all__ = [
    "Answer",
    "Driver",
    "Engine",
    "Link",
    "PipelinedLink",
    "Port",
    "SerialLink",
    "answer_words",
    "hex_lines",
    "load_packet",
    "plan_packet",
    "ports",
    "run_packet",
    "status_packet",
    "wire_bytes",
]
