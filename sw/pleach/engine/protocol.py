"""The packets between a host and the engine; docs/engine.md has the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np

from pleach.engine.config import EngineConfig
from pleach.engine.words import Word
from pleach.model import InputType

GATEWARE_VERSION = 3

COMMAND_WORD = Word(command=8, magic=24)
MAGIC = 0x504C45

RESPONSE_WORD = Word(command=8, error=8, detail=16)


class Command(IntEnum):
    """Bits 7:0 of a command word, each with what its packet and its answer hold."""

    LOAD = 1, "the file", "none"
    RUN = (
        2,
        "inputs: four uint8 or two int16 a word, lowest first; `⌈inputs/4⌉` or `⌈inputs/2⌉` words",
        "outputs, two int16 a word, lowest first; of an odd number the last half is zero",
    )
    STATUS = 3, "none", "the status words"
    PLAN = 4, "how the layers of a file run, to an engine with a map memory", "none"

    sends: str
    answers: str

    def __new__(cls, code: int, sends: str, answers: str) -> Self:
        member = int.__new__(cls, code)
        member._value_, member.sends, member.answers = code, sends, answers
        return member


class EngineError(IntEnum):
    """Why the engine refused, bits 15:8 of an answer's first word, each with its meaning.

    >>> EngineError(1).name, EngineError.NO_MODEL.meaning
    ('NO_MODEL', 'RUN: no model is loaded')
    """

    OK = 0, "nothing was refused"
    NO_MODEL = 1, "RUN: no model is loaded"
    BAD_COMMAND = 2, "the packet's first word is not a command"
    BAD_HEADER = (
        3,
        "LOAD: the file's magic number, its version or another field of its header is wrong",
    )
    HEADER_CRC = 4, "LOAD: the CRC of the file's header does not match"
    LENGTH = (
        5,
        "LOAD: the packet has no data, is shorter or longer than the file says, or a section "
        "reaches past its end; STATUS: the packet has data",
    )
    SECTION_TYPE = (
        6,
        "LOAD: a section has an unknown type below 128, or there are more or fewer layers than the "
        "header says",
    )
    SECTION_CRC = 7, "LOAD: the CRC of a section does not match"
    BAD_FIELD = 8, "LOAD: a field of a layer is out of range"
    SHAPE = 9, "LOAD: a layer takes other inputs than the one before it gives, both fully connected"
    BAD_TABLE = 10, "LOAD: a code table breaks the Kraft equality, or has not the size it claims"
    DATA = 11, "LOAD: a layer's data ends before its last entry"
    POSITION = 12, "LOAD: an entry lies outside its layer"
    CAPACITY = 13, "LOAD: the file needs more of a resource than this engine has"
    INPUT_LENGTH = 14, "RUN: there are too few or too many words of inputs"
    UNSUPPORTED = (
        15,
        "LOAD: a layer is of a kind that this engine does not run, or has what it does not compute",
    )
    PLAN = (
        16,
        "PLAN: it is for another engine, asks for more than this one has, or for what has no end; "
        "LOAD: there is no plan, or it is for another file",
    )

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member


class Resource(IntEnum):
    """What a CAPACITY error is short of, bits 2:0 of the answer's detail, each with the parameter
    of `EngineConfig` that sets it and its meaning."""

    LAYERS = 0, "layers", "layers"
    COLUMNS = 1, "columns", "columns of a group, all layers together"
    ROWS = 2, "accumulators", "rows of a PE, of two neighbouring layers together"
    ENTRIES = 3, "entries", "weights of a PE, all layers together"
    CODEBOOK = 4, "codebook", "codebook values, all layers together"
    ACCUMULATOR_BITS = 5, "accumulator_bits", "bits of an accumulator, as the file claims them"
    CODES = 6, "codes", "values of a layer's codebook, where the engine has a map memory"
    SCALES = 7, "scales", "rows of a PE that have scales, all layers together"

    parameter: str
    meaning: str

    def __new__(cls, code: int, parameter: str, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_, member.parameter, member.meaning = code, parameter, meaning
        return member


class Boot(IntEnum):
    """What became of the network in the flash memory of an engine that loads itself, each with its
    meaning."""

    NONE = 0, "this engine does not load itself"
    BUSY = 1, "the flash is read, and no packet of a host is taken until that ends"
    LOADED = 2, "the engine holds the network of the flash, or one that a host loaded after it"
    EMPTY = 3, "there is no image at its place in the flash"
    DAMAGED = 4, "the image's length or its CRC is wrong; nothing of it was loaded"
    REFUSED = 5, "the engine refused the file in it; `load_error` says why, until the next LOAD"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member


STATUS_WORDS = (
    Word(version=16, model_held=1, boot=3, _=4, load_error=8),
    Word(pes=8, lanes=8, layers=8, accumulator_bits=8),
    Word(columns=32),
    Word(entries=32),
    Word(codebook=16, accumulators=16),
    Word(queue_depth=16, groups=8, block=8),
    Word(maps=24, neighbours=8),
    Word(entry_rows=16, codes=16),
    Word(scales=16),
    Word(load_cycles=32),
    Word(latency_cycles=32),
)

#: what the status words hold besides parameters of `EngineConfig`, and where they differ from one
STATUS_MEANINGS = {
    "version": f"version of the gateware, {GATEWARE_VERSION}",
    "model_held": "1 while a model is loaded",
    "boot": "the network in flash: " + ", ".join(f"{each.value} {each.name}" for each in Boot),
    "load_error": "error of the last LOAD",
    "lanes": "rows drained a cycle, with `maps` by each group: `EngineConfig.drained`",
    "load_cycles": "cycles of the last LOAD: first word of the file accepted to the model held, "
    "both cycles included",
    "latency_cycles": "cycles of the last RUN: first input word accepted to last output word "
    "accepted, both cycles included; of a RUN refused for its length, to the last output dropped",
}
#: of the words behind them, one for each layer that the engine can hold
COMPUTE_CYCLES = (
    "cycles of each layer in the last RUN: first broadcast to last row requantised, both cycles "
    "included"
)


@dataclass(frozen=True)
class Status:
    """The status words, unpacked: each field of `STATUS_WORDS` is an attribute.

    ``compute_cycles`` has one value a layer of the engine.

    >>> Status.unpack([1 << 16 | 1, 16, 0, 0, 0, 0, 0, 0, 0, 0, 99, 5, 7])
    ... # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    Status(fields={'version': 1, 'model_held': 1, 'boot': 0, 'load_error': 0, 'pes': 16, ...,
        'latency_cycles': 99}, compute_cycles=(5, 7))
    """

    fields: Mapping[str, int]
    compute_cycles: tuple[int, ...]

    @classmethod
    def unpack(cls, words: Iterable[int]) -> Self:
        """From the words after the answer's first."""
        words = [int(word) for word in words]
        said: dict[str, int] = {}
        for layout, word in zip(STATUS_WORDS, words, strict=False):
            said |= layout.unpack(word)
        said = {name: value for name, value in said.items() if not name.startswith("_")}
        return cls(said, tuple(words[len(STATUS_WORDS) :]))

    def engine(self) -> EngineConfig:
        """The engine, as far as the status words say what it is."""
        named = {field.name for field in fields(EngineConfig)}
        said: dict[str, Any] = {name: n for name, n in self.fields.items() if name in named}
        return EngineConfig(**said)

    @property
    def load_error(self) -> EngineError:
        return EngineError(self.fields["load_error"])

    def __getattr__(self, name: str) -> int:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(f"the status words have no field {name!r}") from None


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
