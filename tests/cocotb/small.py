"""A component small enough to build in seconds, with the engine's ports."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Inverter(wiring.Component):
    """AXI4-Stream register that inverts its words."""

    def __init__(self):
        stream = {"tdata": 32, "tvalid": 1, "tlast": 1}
        ports = {f"s_axis_{name}": In(width) for name, width in stream.items()}
        ports |= {f"m_axis_{name}": Out(width) for name, width in stream.items()}
        super().__init__({**ports, "s_axis_tready": Out(1), "m_axis_tready": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.s_axis_tready.eq(~self.m_axis_tvalid | self.m_axis_tready)
        with m.If(self.s_axis_tready):
            m.d.sync += [
                self.m_axis_tvalid.eq(self.s_axis_tvalid),
                self.m_axis_tdata.eq(~self.s_axis_tdata),
                self.m_axis_tlast.eq(self.s_axis_tlast),
            ]
        return m
