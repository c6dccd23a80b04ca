"""The AXI4-Lite registers of an engine in a system; docs/registers.md has the tables.

Gateware, page, C header and SystemRDL are made from `REGISTERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pleach.engine.config import PARAMETERS
from pleach.engine.protocol import (
    COMPUTE_CYCLES,
    GATEWARE_VERSION,
    RESPONSE_WORD,
    STATUS_MEANINGS,
    STATUS_WORDS,
)
from pleach.engine.words import Word

#: "PLEA", most significant byte first
IDENTITY = 0x504C4541
#: of this page: registers that move or change their meaning make another one
BANK_VERSION = 1
#: bits of a byte's address in the bank
ADDRESS_BITS = 10


class Access(StrEnum):
    """What a bus may do with a register. All else is answered with SLVERR."""

    READ = "read"
    WRITE = "write"
    BOTH = "read, write"
    CLEAR = "read, a written 1 clears"


@dataclass(frozen=True, kw_only=True)
class Register:
    """A register, or `count` of them side by side.

    Args:
        name: in small letters.
        offset: bytes from the bank's start.
        word: its fields.
        meaning: in a line.
        meanings: of its fields, by name.
        access: what a bus may do with it.
        count: registers.
    """

    name: str
    offset: int
    word: Word
    meaning: str
    access: Access = Access.READ
    meanings: Mapping[str, str] = field(default_factory=dict)
    count: int = 1

    def fields(self) -> list[tuple[str, int, int]]:
        """Name, lowest bit and width of each field.

        >>> BY_NAME["version"].fields()
        [('gateware', 0, 16), ('bank', 16, 16)]
        """
        found, low = [], 0
        for name, width in self.word.fields.items():
            if not name.startswith("_"):
                found.append((name, low, width))
            low += width
        return found


_STATUS = 0x100
_EVENTS = {
    "answer": "the last word of an answer is in the queue of `answer_word`",
    "error": "an answer had an error, to whomever it went",
    "boot": "the engine ended its attempt to load itself",
}
REGISTERS = (
    Register(
        name="identity",
        offset=0x00,
        word=Word(identity=32),
        meaning="what this is",
        meanings={"identity": f"{IDENTITY:#010x}"},
    ),
    Register(
        name="version",
        offset=0x04,
        word=Word(gateware=16, bank=16),
        meaning="versions",
        meanings={
            "gateware": f"of the gateware, {GATEWARE_VERSION}",
            "bank": f"of these registers, {BANK_VERSION}",
        },
    ),
    Register(
        name="control",
        offset=0x08,
        access=Access.WRITE,
        word=Word(reset=1),
        meaning="strobes",
        meanings={
            "reset": "1 resets the engine, its streams and the queues of this bank; it holds no "
            "network then"
        },
    ),
    Register(
        name="state",
        offset=0x0C,
        word=Word(packet_ready=1, answer_valid=1, answer_last=1, busy=1),
        meaning="what may be done now",
        meanings={
            "packet_ready": "there is room for a word in the queue of `packet_word`",
            "answer_valid": "there is a word in the queue of `answer_word`",
            "answer_last": "that word is the last of its answer",
            "busy": "a packet or its answer is on its way through the engine",
        },
    ),
    Register(
        name="interrupt",
        offset=0x10,
        access=Access.CLEAR,
        word=Word(answer=1, error=1, boot=1),
        meaning="what happened; the interrupt line is 1 while one of them is enabled",
        meanings=_EVENTS,
    ),
    Register(
        name="interrupt_enable",
        offset=0x14,
        access=Access.BOTH,
        word=Word(answer=1, error=1, boot=1),
        meaning="which of them interrupt",
        meanings={name: f"`interrupt.{name}` does" for name in _EVENTS},
    ),
    Register(
        name="last_answer",
        offset=0x18,
        word=RESPONSE_WORD,
        meaning="first word of the last answer, to whomever it went",
        meanings={
            "command": "command that was answered",
            "error": "why it was refused",
            "detail": "of the error",
        },
    ),
    Register(
        name="answers",
        offset=0x1C,
        word=Word(count=32),
        meaning="counter",
        meanings={"count": "answers since the reset of all"},
    ),
    Register(
        name="errors",
        offset=0x20,
        word=Word(count=32),
        meaning="counter",
        meanings={"count": "of them with an error"},
    ),
    Register(
        name="busy_cycles",
        offset=0x24,
        word=Word(count=32),
        meaning="counter",
        meanings={"count": "cycles with `state.busy`, modulo 2³²"},
    ),
    Register(
        name="packet_word",
        offset=0x40,
        access=Access.WRITE,
        word=Word(data=32),
        meaning="a word of a packet; SLVERR, and nothing taken, where the queue is full",
        meanings={"data": "any word but the packet's last"},
    ),
    Register(
        name="packet_last",
        offset=0x44,
        access=Access.WRITE,
        word=Word(data=32),
        meaning="the same, and the packet ends with it",
        meanings={"data": "the packet's last word"},
    ),
    Register(
        name="answer_word",
        offset=0x48,
        word=Word(data=32),
        meaning="takes a word of an answer; SLVERR where the queue is empty",
        meanings={"data": "the oldest word in the queue"},
    ),
    *(
        Register(
            name=f"status_{number}",
            offset=_STATUS + 4 * number,
            word=word,
            meaning=f"status word {number}, as STATUS has it",
            meanings={
                name: STATUS_MEANINGS.get(name, "the engine's parameter") for name in word.fields
            },
        )
        for number, word in enumerate(STATUS_WORDS)
    ),
    Register(
        name="compute_cycles",
        offset=_STATUS + 4 * len(STATUS_WORDS),
        word=Word(cycles=32),
        meaning="one for each layer that the engine can hold; DECERR behind those",
        meanings={"cycles": COMPUTE_CYCLES},
        count=PARAMETERS["layers"].high,
    ),
)
BY_NAME = {register.name: register for register in REGISTERS}
