"""The host's side of the link: packets to send and the answers to them, as 32-bit words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pleach.model import InputType
from pleach.reference.protocol import (
    RESPONSE_WORD,
    Command,
    EngineError,
    Status,
    command_word,
    pack_inputs,
    unpack_outputs,
)


def load_packet(data: bytes) -> list[int]:
    """LOAD of a file's bytes.

    >>> [hex(word) for word in load_packet(b"PLCH")]
    ['0x504c4501', '0x48434c50']
    """
    return [command_word(Command.LOAD), *np.frombuffer(data, "<u4").tolist()]


def run_packet(inputs: np.ndarray, input_type: InputType) -> list[int]:
    """RUN with one network input, ``[inputs]``.

    >>> [hex(word) for word in run_packet(np.array([1, 2, 3]), InputType.INT16)]
    ['0x504c4502', '0x20001', '0x3']
    """
    return [command_word(Command.RUN), *pack_inputs(inputs, input_type).tolist()]


def status_packet() -> list[int]:
    """STATUS, one word."""
    return [command_word(Command.STATUS)]


@dataclass(frozen=True)
class Answer:
    """What the engine answered to a packet: its first word's fields and the words after it.

    >>> Answer.unpack([0x00060D01])
    Answer(command=1, error=<EngineError.CAPACITY: 13>, detail=6, words=())
    """

    command: int
    error: EngineError
    detail: int
    words: tuple[int, ...]

    @classmethod
    def unpack(cls, words: Sequence[int]) -> Answer:
        """From the words of an answer; an error number that does not exist raises ValueError."""
        first = RESPONSE_WORD.unpack(words[0])
        error = EngineError(first["error"])
        return cls(first["command"], error, first["detail"], tuple(words[1:]))

    def outputs(self, count: int) -> np.ndarray:
        """Of RUN: the network's outputs, int16 ``[count]``."""
        return unpack_outputs(np.array(self.words, np.uint32), count)

    def status(self) -> Status:
        """Of STATUS."""
        return Status.unpack(self.words)
