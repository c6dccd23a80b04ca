"""The host's side of the engine's link."""

from pleach.host.packets import (
    Answer,
    answer_words,
    hex_lines,
    load_packet,
    run_packet,
    status_packet,
    write_vectors,
)

__all__ = [
    "Answer",
    "answer_words",
    "hex_lines",
    "load_packet",
    "run_packet",
    "status_packet",
    "write_vectors",
]
