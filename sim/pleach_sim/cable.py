"""A serial cable to a simulated board that damages what goes over it, and can be pulled."""

from __future__ import annotations

import os
import select
import socket
import tempfile
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Self

from pleach.engine import EngineConfig
from pleach_sim.board import CYCLES, SimulatedBoard


class Noise:
    """Drops, doubles and flips bits of bytes, each kind as often, at random.

    Args:
        rate: bytes of which something happens to one; 0 for none.
        seed: of the random numbers.
    """

    def __init__(self, rate: float, seed: int = 1):
        self.rate = rate
        self.faults = 0
        self._random = Random(seed)

    def __call__(self, data: bytes) -> bytes:
        random, damaged = self._random, bytearray()
        for byte in data:
            if random.random() * self.rate >= 1 or not self.rate:
                damaged.append(byte)
                continue
            self.faults += 1
            match random.randrange(3):
                case 0:
                    pass
                case 1:
                    damaged += bytes([byte, byte])
                case _:
                    damaged.append(byte ^ 1 << random.randrange(8))
        return bytes(damaged)


class Cable:
    """A cable with a simulated board at its end; `name` is the port's path, whenever it is there.

    Args:
        config: the board's engine.
        to_board, from_board: what becomes of the bytes each way.
        cycles: of a bit on the wire; the board expects `pleach_sim.board.CYCLES`.
    """

    def __init__(
        self,
        config: EngineConfig,
        to_board: Callable[[bytes], bytes] = bytes,
        from_board: Callable[[bytes], bytes] = bytes,
        *,
        cycles: int = CYCLES,
    ):
        self.to_board, self.from_board = to_board, from_board
        self._folder = tempfile.TemporaryDirectory(prefix="pleach-cable-")
        self.name = str(Path(self._folder.name, "board"))
        self._ours, theirs = socket.socketpair()
        self._board = SimulatedBoard(config, theirs.fileno(), cycles=cycles)
        theirs.close()
        self._thread: threading.Thread | None = None
        self.plug()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def plug(self) -> None:
        """Put it in: there is a port, of whatever name, to which `name` leads."""
        master, slave = os.openpty()
        tty.setraw(slave)
        Path(self.name).symlink_to(os.ttyname(slave))
        self._pulled = threading.Event()
        # It holds the slave's end too: without anybody there, reading the master is an error.
        self._thread = threading.Thread(target=self._carry, args=(master, slave, self._pulled))
        self._thread.start()

    def pull(self) -> None:
        """Pull it out: the port is gone, and what the board says is lost."""
        if self._thread is not None:
            self._pulled.set()
            self._thread.join()
            self._thread = None
            Path(self.name).unlink()

    def close(self) -> None:
        """Pull it out for ever."""
        self.pull()
        self._board.close()
        self._ours.close()
        self._folder.cleanup()

    def _carry(self, master: int, slave: int, pulled: threading.Event) -> None:
        try:
            while not pulled.is_set():
                ready, _, _ = select.select([master, self._ours], [], [], 0.005)
                if master in ready:
                    self._ours.sendall(self.to_board(os.read(master, 4096)))
                if self._ours in ready:
                    os.write(master, self.from_board(self._ours.recv(4096)))
        finally:
            os.close(slave)
            os.close(master)
