"""AXI4-Stream at the edge of a component, streams of packets inside."""

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

#: an engine's ports, and of all that is to a host like one
AXIS = {
    "s_axis_tdata": In(32),
    "s_axis_tvalid": In(1),
    "s_axis_tready": Out(1),
    "s_axis_tlast": In(1),
    "m_axis_tdata": Out(32),
    "m_axis_tvalid": Out(1),
    "m_axis_tready": In(1),
    "m_axis_tlast": Out(1),
}


def host(m: Module, component, packets, answers) -> None:
    """Join the ports `AXIS` of a component with its streams inside."""
    _join(m, component, packets, answers, inside=True)


def through(m: Module, packets, answers, engine) -> None:
    """Join streams with the ports `AXIS` of an engine inside."""
    _join(m, engine, packets, answers, inside=False)


def _join(m, edge, packets, answers, *, inside):
    into = [
        (packets.p.data, edge.s_axis_tdata),
        (packets.p.last, edge.s_axis_tlast),
        (packets.valid, edge.s_axis_tvalid),
        (edge.s_axis_tready, packets.ready),
        (edge.m_axis_tdata, answers.p.data),
        (edge.m_axis_tlast, answers.p.last),
        (edge.m_axis_tvalid, answers.valid),
        (answers.ready, edge.m_axis_tready),
    ]
    m.d.comb += [a.eq(b) if inside else b.eq(a) for a, b in into]


def same(m: Module, outside, inside, members: dict) -> None:
    """Join ports of the same name of a component and of one inside it."""
    for name, member in members.items():
        inner, outer = getattr(inside, name), getattr(outside, name)
        m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
