"""Packets to an engine over a serial cable; docs/protocol.md specifies what goes over it."""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pleach.engine.protocol import GATEWARE_VERSION
from pleach.errors import ConfigError, LinkError
from pleach.extras import need
from pleach.host.frames import (
    CRC_BYTES,
    DEFAULT_BAUD,
    DEPTH_BITS,
    FLAGS,
    LINK_VERSION,
    Deframer,
    DeviceFrame,
    HostFrame,
    Unpacker,
    frame,
    pack_packet,
)
from pleach.host.packets import Answer, status_packet

#: bytes of data in a frame: a fault costs so much, a frame's other bytes are a twentieth of it;
#: and the fewest, to which it goes down on a line where hardly a frame comes through
DATA_BYTES, FEWEST_BYTES = 240, 15
#: seconds on top of the time of the bytes themselves until what is not answered is sent again:
#: adapters keep bytes for 16 ms
PATIENCE = 0.05
#: and at most, as it doubles each time
LONGEST_PATIENCE = 1.0
#: times in a row that nothing came back until the board is taken for gone
TRIES = 10
#: seconds until the engine tells its version: what was under way when it lost its host ends first
FIRST_ANSWER = 30.0
#: answers that may be under way; beyond that no line is busier
PIPELINED = 64

_SESSIONS = (1 << FLAGS.fields["session"]) - 1


def wire_bytes(packets: Iterable[Sequence[int]]) -> int:
    """Bytes that packets take on the wire, one behind the other, as `SerialLink` sends them.

    >>> wire_bytes([[0] * 60]), wire_bytes([[0x01020304] * 60])
    (15, 266)
    """
    stream = b"".join(map(pack_packet, packets))
    pieces = range(0, len(stream), DATA_BYTES)
    return sum(
        len(frame(HostFrame(session=1, data=stream[n : n + DATA_BYTES]).pack())) for n in pieces
    )


class SerialLink:
    """A `pleach.host.Link` over a serial port; several packets are under way at once.

    It connects when it is first used, and anew when it is used after an error. Meanwhile no other
    process can open the port.

    Args:
        port: its name, such as ``/dev/ttyUSB0`` or ``COM3``.
        baud: bits a second, those of the bitstream.

    Raises:
        NotInstalledError: pyserial is not installed.
        ConfigError: no such baud rate.
    """

    def __init__(self, port: str, baud: int = DEFAULT_BAUD):
        need("serial")
        if baud <= 0:
            raise ConfigError(f"baud must be positive, not {baud}")
        self.port, self.baud = port, baud
        self._serial: Any = None
        self._session = secrets.randbelow(_SESSIONS)

    @property
    def connected(self) -> bool:
        """Whether there is a connection; after an error there is none."""
        return self._serial is not None

    def connect(self) -> None:
        """Open the port and begin a connection, where there is none.

        Raises:
            LinkError: the port cannot be opened or is in use, no board answers, or its gateware is
                of another version.
        """
        if self._serial is not None:
            return
        self._serial = _open(self.port, self.baud)
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the port. The board keeps its network."""
        serial, self._serial = self._serial, None
        if serial is not None:
            try:
                serial.close()
            except OSError:  # unplugged
                pass

    def exchange(self, packet: Sequence[int], timeout: float) -> list[int]:
        """Send a packet and return the answer's words.

        Args:
            packet: its words, one at least.
            timeout: seconds that nothing goes on: no byte of it is taken, and no answer comes.

        Raises:
            LinkError: as `connect`; or the board went away or does not answer.
        """
        (answer,) = self.stream([packet], timeout)
        return answer

    def stream(self, packets: Iterable[Sequence[int]], timeout: float) -> Iterator[list[int]]:
        """The answers to packets, in order; later ones are sent before the first is answered.

        Args and errors are those of `exchange`. Whoever stops before the last answer ends the
        connection.
        """
        self.connect()
        try:
            yield from self._stream(iter(packets), timeout)
        except GeneratorExit:  # nobody wants the other answers
            if self._asked:
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    def _stream(self, packets: Iterator[Sequence[int]], timeout: float) -> Iterator[list[int]]:
        more = True
        while True:
            while more and len(self._unsent) < self._room and self._asked < PIPELINED:
                packet = next(packets, None)
                if packet is None:
                    more = False
                else:
                    if not self._asked:
                        self._moved = time.monotonic()
                    self._unsent += pack_packet(packet)
                    self._asked += 1
            if self._answers:
                self._asked -= 1
                yield self._answers.popleft()
            elif self._asked:
                self._wait(timeout)
            elif not more:
                return

    # One connection: positions are absolute here, and modulo twice the buffers' depth on the wire.

    def _greet(self) -> None:
        """Begin a connection, and see that both ends are of one version."""
        self._session = self._session % _SESSIONS + 1  # 0 is a board's that heard of none
        self._deframer, self._unpacker = Deframer(), Unpacker()
        self._answers: deque[list[int]] = deque()
        self._asked = 0
        #: what was not accepted by the board yet: from position `accepted` on
        self._unsent = bytearray()
        self._accepted = self._sent = self._taken = self._expected = 0
        #: behind the last byte that was ever sent: `sent` goes back to repeat
        self._end = 0
        self._room = self._modulus = 0
        self._size = DATA_BYTES
        self._moved = time.monotonic()
        #: a repetition is under way: what was damaged before it began asks for no other
        self._back = self._again = False
        self._silent, self._patience = 0, 0.0
        heard = 0
        patience = 2 * PATIENCE + 400 / self.baud
        for _ in range(TRIES):
            self._send(HostFrame(session=self._session, hello=True))
            end = time.monotonic() + patience
            patience = min(2 * patience, LONGEST_PATIENCE)
            while (left := end - time.monotonic()) > 0:
                received = self._receive(left)
                heard += len(received)
                for content in self._deframer.feed(received):
                    came = None if content is None else DeviceFrame.unpack(content)
                    if came is not None and came.hello and came.session == self._session:
                        self._begin(came)
                        return
        raise LinkError(
            f"{self.port}: "
            + (
                f"bytes come at {self.baud} baud, but no frame of Pleach's: is that the baud rate "
                "that the bitstream was built for?"
                if heard
                else f"no answer at {self.baud} baud: is the board on, its bitstream Pleach's "
                "(pleach program) and built for that baud rate?"
            )
        )

    def _begin(self, came: DeviceFrame) -> None:
        """Take what the gateware says of itself, and ask the engine for its version."""
        if came.version != LINK_VERSION or came.depth_bits not in DEPTH_BITS:
            raise LinkError(
                f"{self.port}: the bitstream speaks version {came.version} of the link's protocol, "
                f"this Pleach version {LINK_VERSION}: build and program it again (pleach build)"
            )
        depth = 1 << came.depth_bits
        self._modulus = 2 * depth
        # The CRC behind the data needs room too.
        self._room = depth - CRC_BYTES
        self._patience = self._least_patience
        (words,) = self._stream(iter([status_packet()]), FIRST_ANSWER)
        version = Answer.unpack(words).status().version
        if version != GATEWARE_VERSION:
            raise LinkError(
                f"{self.port}: the engine in the bitstream is of version {version}, this Pleach "
                f"speaks with version {GATEWARE_VERSION}: build and program it again (pleach build)"
            )

    @property
    def _least_patience(self) -> float:
        """Both buffers on the wire, ten bits a byte, and what adapters add."""
        return PATIENCE + 10 * self._modulus / self.baud

    def _wait(self, timeout: float) -> None:
        """Send what there is room for, and go on when something came or had to be repeated."""
        self._send_data()
        before = self._accepted, self._taken, self._expected
        now = time.monotonic()
        until, heard = now + self._patience, False
        while (left := until - time.monotonic()) > 0:
            received = self._receive(left)
            heard |= bool(received)
            frames = list(self._deframer.feed(received))
            for content in frames:
                self._take(None if content is None else DeviceFrame.unpack(content))
            if frames:
                break
        else:
            # Nothing came: what was sent is lost, or what came of it.
            self._silent = 0 if heard else self._silent + 1
            if self._silent > TRIES:
                raise LinkError(
                    f"{self.port}: no answer any more: is the board still on and plugged in?"
                )
            self._patience = min(2 * self._patience, max(LONGEST_PATIENCE, self._least_patience))
            self._go_back()
            self._back = self._again = False
            self._poll(again=True)
        if (self._accepted, self._taken, self._expected) != before:
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > timeout:
            raise LinkError(f"{self.port}: no answer to a packet within {timeout:g} s")

    def _send_data(self) -> None:
        while True:
            begin = self._sent - self._accepted
            room = self._taken + self._room - self._sent
            data = bytes(self._unsent[begin : begin + min(self._size, max(room, 0))])
            if not data:
                return
            self._send(self._frame(data=data))
            self._sent += len(data)
            self._end = max(self._end, self._sent)

    def _poll(self, *, again: bool = False) -> None:
        """A frame without data: it acknowledges what came."""
        self._send(self._frame(again=again))

    def _frame(self, *, data: bytes = b"", again: bool = False) -> HostFrame:
        return HostFrame(
            session=self._session,
            again=again,
            offset=self._sent % self._modulus,
            acknowledged=self._expected % self._modulus,
            data=data,
        )

    def _take(self, came: DeviceFrame | None) -> None:
        """What a frame says; `None` for a damaged one."""
        if came is None:
            self._ask_again()
            return
        if came.session != self._session:
            return
        self._silent, self._patience = 0, self._least_patience
        accepted = (came.accepted - self._accepted) % self._modulus
        taken = (came.taken - self._taken) % self._modulus
        # What was taken is looked at later than what was accepted, and may be beyond.
        if accepted > self._end - self._accepted or taken > self._end - self._taken:
            # Neither was sent: the board is in a connection that is not this one.
            raise LinkError(
                f"{self.port}: the board lost the connection: was it reset or does another "
                "program use it?"
            )
        if accepted:
            del self._unsent[:accepted]
            self._accepted += accepted
            self._sent = max(self._sent, self._accepted)
            self._back = False
            self._size = min(2 * self._size, DATA_BYTES)
        self._taken += taken
        if came.bad and not self._back and self._sent > self._accepted:
            self._go_back()
            self._back = True
        if came.data:
            known = (self._expected - came.offset) % self._modulus
            if known > self._modulus // 2:
                self._ask_again()  # something before it is missing
            elif known < len(came.data):
                self._expected += len(came.data) - known
                self._again = False
                try:
                    self._answers += self._unpacker.feed(came.data[known:])
                except ValueError as error:
                    raise LinkError(f"{self.port}: what came is no packet: {error}") from error
                self._poll()

    def _go_back(self) -> None:
        """Send from the first byte that was not accepted; less in a frame than before."""
        if self._sent > self._accepted:
            self._size = max(self._size // 2, FEWEST_BYTES)
        self._sent = self._accepted

    def _ask_again(self) -> None:
        if not self._again:
            self._again = True
            self._poll(again=True)

    # The port.

    def _send(self, content: HostFrame) -> None:
        with _unplugged(self.port):
            self._serial.write(frame(content.pack()))

    def _receive(self, seconds: float) -> bytes:
        """What came, as soon as there is something."""
        with _unplugged(self.port):
            self._serial.timeout = seconds
            return self._serial.read(1) + self._serial.read(self._serial.in_waiting)


def _open(port: str, baud: int):
    """The port, for this process alone, with nothing in it."""
    import serial

    try:
        # Two openers at once are an error of the second; on Windows they always are.
        opened = serial.Serial(port, baud, exclusive=True, write_timeout=LONGEST_PATIENCE * TRIES)
    except (OSError, ValueError) as error:  # SerialException is an OSError
        if isinstance(error, OSError) and "exclusive" in str(error):
            raise LinkError(f"{port} is in use by another program") from error
        raise LinkError(f"{port} cannot be opened: {_reason(error)}; {_PORTS}") from error
    try:
        opened.set_low_latency_mode(True)  # adapters keep bytes for 16 ms otherwise
    except (AttributeError, OSError, ValueError, NotImplementedError):
        pass  # not this port's driver
    opened.reset_input_buffer()
    return opened


_PORTS = "pleach ports lists what there is"


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


@contextmanager
def _unplugged(port: str) -> Iterator[None]:
    """What the port raises, as a `LinkError`."""
    try:
        yield
    except (OSError, TypeError) as error:  # TypeError: closed meanwhile
        raise LinkError(f"{port} went away: {_reason(error)}; {_PORTS}") from error
