"""What a host must know of a bitstream, from its headers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.engine import words
from pleach.errors import FormatError, ModelError
from pleach.format.bitstream import _read_header, _read_section, loads
from pleach.model import Convolution, InputType


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
    offset, shapes = 4 * words.HEADER_WORDS, []
    while offset < len(data):
        kind, payload = _read_section(data, offset)
        if kind == words.SECTION_GRAPH:  # which no engine runs
            model = loads(data)
            return Interface(model.inputs, model.outputs, model.input_type)
        if kind in (words.SECTION_LAYER, words.SECTION_CONV):
            shapes.append(_values(kind, payload, offset + 4))
        elif kind < 128:
            raise FormatError(f"unknown section type {kind}", offset)
        offset += len(payload) + 8
    if not shapes:
        raise FormatError("no layer is in the file", offset)
    return Interface(shapes[0][0], shapes[-1][1], InputType(header["input_type"]))


def _values(kind: int, payload: bytes, offset: int) -> tuple[int, int]:
    """Values that a layer takes and gives."""
    layout = words.LAYER_WORDS + (words.CONV_WORDS if kind == words.SECTION_CONV else ())
    if len(payload) < 4 * len(layout):
        raise FormatError(f"a layer in a section of {len(payload)} bytes", offset)
    fields: dict[str, int] = {}
    for word, value in zip(
        layout, np.frombuffer(payload, "<u4", len(layout)).tolist(), strict=True
    ):
        fields |= word.unpack(value)
    if kind == words.SECTION_LAYER:
        return fields["inputs"], fields["outputs"]
    try:
        convolution = Convolution(
            **{name: fields[name] for name in Convolution.__dataclass_fields__}
        )
    except ModelError as error:
        raise FormatError(str(error), offset) from error
    height, width = convolution.pooled
    return convolution.inputs, fields["outputs"] * height * width
