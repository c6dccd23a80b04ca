"""The packets between a host and the engine; docs/engine.md has the tables."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from pleach.engine.words import Word
from pleach.model import InputType

GATEWARE_VERSION = 1

COMMAND_WORD = Word(command=8, magic=24)
MAGIC = 0x504C45

RESPONSE_WORD = Word(command=8, error=8, detail=16)


class Command(IntEnum):
    """Bits 7:0 of a command word."""

    LOAD = 1
    RUN = 2
    STATUS = 3


class EngineError(IntEnum):
    """Why the engine refused; bits 15:8 of an answer's first word."""

    OK = 0
    NO_MODEL = 1
    BAD_COMMAND = 2
    BAD_HEADER = 3
    HEADER_CRC = 4
    LENGTH = 5
    SECTION_TYPE = 6
    SECTION_CRC = 7
    BAD_FIELD = 8
    SHAPE = 9
    BAD_TABLE = 10
    DATA = 11
    POSITION = 12
    CAPACITY = 13
    INPUT_LENGTH = 14
    UNSUPPORTED = 15


class Resource(IntEnum):
    """What a CAPACITY error is short of: bits 2:0 of the answer's detail."""

    LAYERS = 0
    COLUMNS = 1
    ROWS = 2
    ENTRIES = 3
    CODEBOOK = 4
    ACCUMULATOR_BITS = 5


STATUS_WORDS = (
    Word(version=16, model_held=1, _=7, load_error=8),
    Word(pes=8, lanes=8, layers=8, accumulator_bits=8),
    Word(columns=32),
    Word(entries=32),
    Word(codebook=16, accumulators=16),
    Word(queue_depth=16, groups=8, block=8),
    Word(load_cycles=32),
    Word(latency_cycles=32),
)


@dataclass(frozen=True)
class Status:
    """The status words, unpacked; ``compute_cycles`` has one value a layer of the engine."""

    version: int
    model_held: int
    load_error: EngineError
    pes: int
    lanes: int
    layers: int
    accumulator_bits: int
    columns: int
    entries: int
    codebook: int
    accumulators: int
    queue_depth: int
    groups: int
    block: int
    load_cycles: int
    latency_cycles: int
    compute_cycles: tuple[int, ...]

    @classmethod
    def unpack(cls, words) -> Status:
        """From the words after the answer's first."""
        words = [int(word) for word in words]
        values = {}
        for layout, word in zip(STATUS_WORDS, words, strict=False):
            values |= layout.unpack(word)
        names = {field.name for field in fields(cls)}
        values = {name: value for name, value in values.items() if name in names}
        values["load_error"] = EngineError(values["load_error"])
        return cls(**values, compute_cycles=tuple(words[len(STATUS_WORDS) :]))


def command_word(command: Command) -> int:
    """The first word of a packet.

    >>> hex(command_word(Command.RUN))
    '0x504c4502'
    """
    return COMMAND_WORD.pack(command=command, magic=MAGIC)


def pack_inputs(inputs: np.ndarray, input_type: InputType) -> np.ndarray:
    """One network input, ``[inputs]``, as the uint32 data words of a RUN packet.

    >>> [hex(word) for word in pack_inputs(np.array([1, 2, 3, 4, 5]), InputType.UINT8)]
    ['0x4030201', '0x5']
    """
    padded = np.zeros(
        -(-len(inputs) // input_type.per_word) * input_type.per_word, input_type.dtype
    )
    padded[: len(inputs)] = inputs
    return padded.view("<u4")


def unpack_outputs(words: np.ndarray, outputs: int) -> np.ndarray:
    """The outputs, int16 ``[outputs]``, from the data words of an answer to RUN."""
    return np.asarray(words, "<u4").view("<i2")[:outputs]
