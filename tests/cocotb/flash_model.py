"""A SPI flash for a cocotb test: what its data sheet says of commands 0xAB and 0x0B, and nothing
else. It sleeps until it is woken, and answers 30 µs after that."""

import cocotb
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer
from cocotb.utils import get_sim_time

from pleach.engine.flash import READ, WAKE

WAKING_NS = 30_000


class Flash:
    """At the pins ``cs_n``, ``sck``, ``copi`` and ``cipo`` of `dut`.

    Args:
        contents: from `address` on; all else is erased, 0xFF.

    Attributes:
        commands: bytes that began a transfer.
        read: bytes given out.
    """

    def __init__(self, dut, contents=b"", address=0):
        self.dut, self.contents, self.address = dut, contents, address
        self.commands, self.read, self._awake = [], 0, None
        dut.cipo.value = 1
        cocotb.start_soon(self._run())

    def _byte(self, address):
        at = address - self.address
        return self.contents[at] if 0 <= at < len(self.contents) else 0xFF

    async def _run(self):
        dut = self.dut
        await Timer(1, "ns")  # the pins have no value before
        while True:
            if dut.cs_n.value:
                await FallingEdge(dut.cs_n)
            assert not dut.sck.value, "mode 0: the clock is low when the flash is selected"
            await self._transfer()
            dut.cipo.value = 1

    async def _transfer(self):
        dut, up = self.dut, RisingEdge(self.dut.cs_n)
        bits = count = 0
        while True:
            await First(RisingEdge(dut.sck), up)
            if dut.cs_n.value:
                break
            bits, count = bits << 1 | int(dut.copi.value), count + 1
            if count == 8:
                self.commands.append(bits)
            if count == 40 and bits >> 32 == READ:
                assert self._awake and get_sim_time("ns") >= self._awake, "it sleeps"
                return await self._give(bits >> 8 & 0xFFFFFF)
        if count == 8 and bits == WAKE:
            self._awake = get_sim_time("ns") + WAKING_NS

    async def _give(self, address):
        dut, up, down = self.dut, RisingEdge(self.dut.cs_n), FallingEdge(self.dut.sck)
        while True:
            byte = self._byte(address)
            for bit in range(7, -1, -1):
                await First(down, up)
                if dut.cs_n.value:  # whether or not the clock falls with it
                    return
                dut.cipo.value = byte >> bit & 1
            address, self.read = address + 1, self.read + 1
