"""The frames' CRC, a bit a cycle."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.host.frames import CRC_RESIDUE

#: CRC-32/ISO-HDLC, that of `zlib.crc32`
POLYNOMIAL = 0xEDB88320


class SerialCrc(wiring.Component):
    """CRC-32 of bytes, eight cycles each.

    Ports:
        clear: the next byte is the first; comes with no byte.
        take: add `data`; nine cycles or more after the one before.
        low: the register's lowest byte. The CRC to send is the register's complement, lowest byte
            first; whoever adds `low` itself shifts the next byte there.
        good: a message and its CRC were taken, ten cycles ago or more.
    """

    def __init__(self):
        super().__init__(
            {"clear": In(1), "take": In(1), "data": In(8), "low": Out(8), "good": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        register = Signal(32, init=0xFFFFFFFF)
        left = Signal(4)  # counts up from 8
        m.d.comb += self.low.eq(register)
        m.d.sync += self.good.eq(register == CRC_RESIDUE)
        with m.If(left[3]):
            m.d.sync += [
                left.eq(left + 1),
                register.eq((register >> 1) ^ Mux(register[0], Const(POLYNOMIAL), 0)),
            ]
        with m.Elif(self.take):
            m.d.sync += [left.eq(8), register.eq(register ^ self.data)]
        with m.If(self.clear):
            m.d.sync += register.eq(register.init)
        return m
