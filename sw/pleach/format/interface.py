"""What a host must know of a bitstream, from its headers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pleach.engine import words
from pleach.errors import FormatError
from pleach.format.bitstream import _read_header, _read_section, is_layer
from pleach.format.fields import Layers
from pleach.model import InputType


@dataclass(frozen=True)
class Interface:
    """How many numbers a network takes and gives; its outputs are int16."""

    inputs: int
    outputs: int
    input_type: InputType


def interface(data: bytes) -> Interface:
    """Read the interface of a bitstream without decoding its weights.

    CRCs are checked, tables and entries are not: `loads` does that, and so does the engine.

    Raises:
        FormatError: the header or a section is damaged, a section has an unknown type below 128, or
            there is no layer.
    """
    header = _read_header(data)
    offset, known = 4 * words.HEADER_WORDS, Layers(header["version"])
    while offset < len(data):
        kind, payload = _read_section(data, offset)
        if is_layer(kind, header["version"]):
            known.read(kind, payload, f"layer {len(known.shapes)}", offset + 4)
        elif kind < 128:
            raise FormatError(f"unknown section type {kind}", offset)
        offset += len(payload) + 8
    if len(known.shapes) == 1:
        raise FormatError("no layer is in the file", offset)
    inputs, outputs = (math.prod(known.shapes[place]) for place in (0, -1))
    return Interface(inputs, outputs, InputType(header["input_type"]))
