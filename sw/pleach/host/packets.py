"""The host's side of the link: packets to send and the answers to them, as 32-bit words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pleach.engine.config import EngineConfig
from pleach.engine.maps import MapProgram
from pleach.engine.protocol import (
    RESPONSE_WORD,
    Command,
    EngineError,
    Status,
    command_word,
    pack_inputs,
    unpack_outputs,
)
from pleach.model import InputType


def load_packet(data: bytes) -> list[int]:
    """LOAD of a file's bytes.

    >>> [hex(word) for word in load_packet(b"PLCH")]
    ['0x504c4501', '0x48434c50']
    """
    return [command_word(Command.LOAD), *np.frombuffer(data, "<u4").tolist()]


def plan_packet(program: MapProgram, config: EngineConfig) -> list[int]:
    """PLAN of a program, for an engine with a map memory."""
    return [command_word(Command.PLAN), *program.packet(config).tolist()]


def run_packet(inputs: np.ndarray, input_type: InputType) -> list[int]:
    """RUN with one network input, ``[inputs]``.

    >>> [hex(word) for word in run_packet(np.array([1, 2, 3]), InputType.INT16)]
    ['0x504c4502', '0x20001', '0x3']
    """
    return [command_word(Command.RUN), *pack_inputs(inputs, input_type).tolist()]


def status_packet() -> list[int]:
    """STATUS, one word."""
    return [command_word(Command.STATUS)]


def answer_words(
    command: int, error: EngineError = EngineError.OK, outputs: Sequence[int] = ()
) -> list[int]:
    """The engine's answer, where it has no detail, with the int16 `outputs` of a RUN.

    >>> [hex(word) for word in answer_words(Command.RUN, outputs=[1, -1, 5])]
    ['0x2', '0xffff0001', '0x5']
    """
    padded = np.zeros(len(outputs) + len(outputs) % 2, "<i2")
    padded[: len(outputs)] = outputs
    return [
        RESPONSE_WORD.pack(command=command, error=error, detail=0),
        *padded.view("<u4").tolist(),
    ]


def hex_lines(packets: Iterable[Sequence[int]]) -> str:
    """Packets for Verilog's $readmemh: a word a line, in 33 bits, the upper one is tlast.

    >>> hex_lines([[1, 2], [3]]).split()
    ['000000001', '100000002', '100000003']
    """
    lines = []
    for packet in packets:
        lines += [f"{word:09x}\n" for word in packet[:-1]] + [f"{packet[-1] | 1 << 32:09x}\n"]
    return "".join(lines)


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
