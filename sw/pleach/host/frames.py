"""What goes over the wire between a host and the gateware's link; docs/protocol.md specifies it.

Three layers, from the wire inwards: bytes in frames with a CRC; two streams of bytes, one each way,
whose every byte has a position; packets of words in these streams, with runs of zeros made short.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pleach.engine.words import Word

LINK_VERSION = 1
#: a whole number of cycles at most oscillators' frequencies
DEFAULT_BAUD = 1_000_000

FLAG, ESCAPE = 0x7E, 0x7D
#: what an escaped byte is changed by
FLIPPED = 0x20

FLAGS = Word(hello=1, again=1, session=6)
#: of the byte streams' positions, modulo twice the buffer's depth
POSITION_BITS = 12
ACCEPTED = Word(position=POSITION_BITS, version=4)
TAKEN = Word(position=POSITION_BITS, depth_bits=4)
OFFSET = Word(position=POSITION_BITS, _=4)
ACKNOWLEDGED = Word(position=POSITION_BITS, _=4)
#: bytes of a buffer that the gateware may have, as powers of two
DEPTH_BITS = range(9, POSITION_BITS)

CRC_BYTES = 4
#: what the CRC's register holds behind a frame and its CRC
CRC_RESIDUE = 0xDEBB20E3

RUN = Word(count=6, last=1, zeros=1)
_LONGEST = 1 << RUN.fields["count"]
# Two zeros between other bytes would take as many bytes for themselves as they save.
_ZEROS = re.compile(rb"\0{3,}")


def frame(content: bytes) -> bytes:
    """Content on its way: a flag, what is escaped of it and of its CRC, a flag.

    >>> frame(b"123456789").hex(" ")
    '7e 31 32 33 34 35 36 37 38 39 26 39 f4 cb 7e'
    >>> frame(bytes([FLAG, 0, ESCAPE])).hex(" ")
    '7e 7d 5e 00 7d 5d c9 91 9a 8f 7e'
    """
    content += zlib.crc32(content).to_bytes(CRC_BYTES, "little")
    escaped = content.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    return b"\x7e" + escaped + b"\x7e"


class Deframer:
    """Finds frames among bytes, whatever else is among them."""

    def __init__(self):
        self._part = b""

    def feed(self, received: bytes) -> Iterator[bytes | None]:
        """The contents of the frames that end in what was received, `None` for each bad one.

        >>> list(Deframer().feed(frame(b"one") + frame(b"two").replace(b"w", b"v")))
        [b'one', None]
        """
        *ended, self._part = (self._part + received).split(b"\x7e")
        for part in ended:
            if part:
                yield _content(part)


_NO_ESCAPE = re.compile(rb"\x7d(?![\x5d\x5e])")


def _content(escaped: bytes) -> bytes | None:
    if _NO_ESCAPE.search(escaped):
        return None
    content = escaped.replace(b"\x7d\x5e", b"\x7e").replace(b"\x7d\x5d", b"\x7d")
    body, crc = content[:-CRC_BYTES], content[-CRC_BYTES:]
    good = len(crc) == CRC_BYTES and zlib.crc32(body) == int.from_bytes(crc, "little")
    return body if good else None


@dataclass(frozen=True, kw_only=True)
class HostFrame:
    """What a host sends.

    Args:
        session: number of the connection; of a `hello`, the new one.
        hello: begin a connection: forget all bytes and end the packet that was under way.
        again: send what was not acknowledged once more.
        offset: position of the first byte of `data` in the stream to the engine.
        acknowledged: position of the next byte that the host expects from the engine.
        data: a piece of the stream to the engine, or nothing.
    """

    session: int
    hello: bool = False
    again: bool = False
    offset: int = 0
    acknowledged: int = 0
    data: bytes = b""

    HEADER_BYTES = 5

    def pack(self) -> bytes:
        """The frame's content.

        >>> HostFrame(session=5, offset=0x123, acknowledged=7, data=b"x").pack().hex(" ")
        '14 23 01 07 00 78'
        """
        flags = FLAGS.pack(hello=self.hello, again=self.again, session=self.session)
        offset = OFFSET.pack(position=self.offset)
        acknowledged = ACKNOWLEDGED.pack(position=self.acknowledged)
        return struct.pack("<BHH", flags, offset, acknowledged) + self.data

    @classmethod
    def unpack(cls, content: bytes) -> Self | None:
        """From a frame's content; `None` where it is too short to be one."""
        if len(content) < cls.HEADER_BYTES:
            return None
        flags, offset, acknowledged = struct.unpack_from("<BHH", content)
        named = FLAGS.unpack(flags)
        return cls(
            session=named["session"],
            hello=bool(named["hello"]),
            again=bool(named["again"]),
            offset=OFFSET.unpack(offset)["position"],
            acknowledged=ACKNOWLEDGED.unpack(acknowledged)["position"],
            data=content[cls.HEADER_BYTES :],
        )


@dataclass(frozen=True, kw_only=True)
class DeviceFrame:
    """What the gateware sends.

    Args:
        session: number of the connection.
        hello: the first frame of a connection.
        bad: a frame that came was damaged.
        accepted: position of the next byte that it expects from the host.
        version: `LINK_VERSION` of the gateware.
        taken: position of the next byte that goes on to the engine: all before it have left their
            buffer.
        depth_bits: each of its two buffers has ``2**depth_bits`` bytes.
        offset: position of the first byte of `data` in the stream from the engine.
        data: a piece of the stream from the engine, or nothing.
    """

    session: int
    hello: bool = False
    bad: bool = False
    accepted: int = 0
    version: int = LINK_VERSION
    taken: int = 0
    depth_bits: int = DEPTH_BITS[-1]
    offset: int = 0
    data: bytes = b""

    HEADER_BYTES = 7

    def pack(self) -> bytes:
        """The frame's content."""
        flags = FLAGS.pack(hello=self.hello, again=self.bad, session=self.session)
        accepted = ACCEPTED.pack(position=self.accepted, version=self.version)
        taken = TAKEN.pack(position=self.taken, depth_bits=self.depth_bits)
        return (
            struct.pack("<BHHH", flags, accepted, taken, OFFSET.pack(position=self.offset))
            + self.data
        )

    @classmethod
    def unpack(cls, content: bytes) -> Self | None:
        """From a frame's content; `None` where it is too short to be one.

        >>> frame = DeviceFrame(session=9, accepted=3, taken=2, data=b"x")
        >>> DeviceFrame.unpack(frame.pack()) == frame
        True
        """
        if len(content) < cls.HEADER_BYTES:
            return None
        flags, accepted, taken, offset = struct.unpack_from("<BHHH", content)
        named = FLAGS.unpack(flags)
        buffers = TAKEN.unpack(taken)
        return cls(
            session=named["session"],
            hello=bool(named["hello"]),
            bad=bool(named["again"]),
            accepted=ACCEPTED.unpack(accepted)["position"],
            version=ACCEPTED.unpack(accepted)["version"],
            taken=buffers["position"],
            depth_bits=buffers["depth_bits"],
            offset=OFFSET.unpack(offset)["position"],
            data=content[cls.HEADER_BYTES :],
        )


def pack_packet(words: Sequence[int] | np.ndarray) -> bytes:
    """A packet as bytes of a stream: runs of up to 64 bytes, or of up to 64 zeros that one byte
    stands for.

    >>> pack_packet([0x504C4502, 0, 0, 9 << 16]).hex(" ")
    '03 02 45 4c 50 89 41 09 00'
    """
    data = np.asarray(words, "<u4").tobytes()
    packed, last, place = bytearray(), 0, 0
    for start, end, zeros in _runs(data):
        for place in range(start, end, _LONGEST):
            count = min(_LONGEST, end - place)
            last = len(packed)
            packed.append(RUN.pack(count=count - 1, last=0, zeros=zeros))
            if not zeros:
                packed += data[place : place + count]
    packed[last] |= RUN.pack(count=0, last=1, zeros=0)
    return bytes(packed)


def _runs(data: bytes) -> Iterator[tuple[int, int, bool]]:
    """From where to where, and whether all of it is zero."""
    place = 0
    for zeros in _ZEROS.finditer(data):
        if place < zeros.start():
            yield place, zeros.start(), False
        yield zeros.start(), zeros.end(), True
        place = zeros.end()
    if place < len(data):
        yield place, len(data), False


class Unpacker:
    """Packets from the bytes of a stream, which may come in any pieces."""

    def __init__(self):
        self._data = bytearray()
        self._count, self._last = 0, False

    def feed(self, stream: Iterable[int]) -> Iterator[list[int]]:
        """The packets that end in these bytes.

        >>> unpacker = Unpacker()
        >>> [list(unpacker.feed(part)) for part in (b"\\x83\\x43a", b"bcd\\xc7")]
        [[], [[0, 1684234849], [0, 0]]]

        Raises:
            ValueError: a packet that is no whole number of words.
        """
        for byte in stream:
            if self._count:
                self._data.append(byte)
                self._count -= 1
            else:
                run = RUN.unpack(byte)
                self._count, self._last = run["count"] + 1, bool(run["last"])
                if run["zeros"]:
                    self._data += bytes(self._count)
                    self._count = 0
            if self._last and not self._count:
                data, self._data, self._last = bytes(self._data), bytearray(), False
                yield np.frombuffer(data, "<u4").tolist()
