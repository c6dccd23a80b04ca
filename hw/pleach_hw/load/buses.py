"""Bundles and layouts that only the loader's parts know."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Member, Out

from pleach.engine.words import MAX_CODE_LENGTH, MAX_GAP_LENGTH
from pleach.format import gaps

#: One gap symbol: positions to pass over, and the code of the entry there unless it is a skip.
ENTRY = data.StructLayout({"gap": 17, "skip": 1, "code": 8})


class TableWrite(wiring.Signature):
    """Sets the table of a canonical code for one length.

    Members:
        write: strobe.
        length: the lengths come from 1 upwards, up to the longest.
        upper: first number of this length that no code has, nor a prefix of one.
        offset: what a code of this length is to be increased by, to be its number in the table.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "write": Out(1),
                "length": Out(range(MAX_CODE_LENGTH + 1)),
                "upper": Out(MAX_CODE_LENGTH + 1),
                "offset": Out(8),
            }
        )


class ClassWrite(wiring.Signature):
    """Sets a place in the list of gap classes.

    Members:
        write: strobe.
        number: of the gap code.
        gap_class: the class that it stands for.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "write": Out(1),
                "number": Out(range(gaps.CLASSES)),
                "gap_class": Out(range(gaps.CLASSES)),
            }
        )


def decoder_ports(most_entries: int) -> dict[str, Member]:
    """What any decoder of entries has for ports; `EntryDecoder` says what they are."""
    return {
        "start": In(1),
        "entries": In(range(most_entries + 1)),
        "i": In(stream.Signature(32)),
        "o": Out(stream.Signature(ENTRY)),
        "starved": Out(1),
        "done": Out(1),
        "gap_length": In(range(MAX_GAP_LENGTH + 1)),
        "code_length": In(range(MAX_CODE_LENGTH + 1)),
        "clear": In(1),
        "gap_table": In(TableWrite()),
        "code_table": In(TableWrite()),
        "classes": In(ClassWrite()),
    }
