"""The host's side of the engine's link: packets, and a `Driver` over whatever carries them."""

from pleach.host.driver import Driver, Link
from pleach.host.packets import (
    Answer,
    answer_words,
    hex_lines,
    load_packet,
    plan_packet,
    run_packet,
    status_packet,
    write_vectors,
)

__all__ = [
    "Answer",
    "Driver",
    "Link",
    "answer_words",
    "hex_lines",
    "load_packet",
    "plan_packet",
    "run_packet",
    "status_packet",
    "write_vectors",
]
