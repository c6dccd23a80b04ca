"""Several hosts at one engine."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.layouts import PACKET_WORD


class PacketArbiter(wiring.Component):
    """Lets one host after the other send a packet, and gives it the answer.

    While nothing is on its way it asks one host after the other, a cycle each, so none waits for
    more than one packet of each of the others. Words pass through combinationally.

    Args:
        hosts: how many, from 2.

    Ports:
        i, o: packets of each host and the answers to them.
        packets, answers: the engine's.
        busy: a packet or its answer is on its way.
    """

    def __init__(self, hosts: int):
        self._hosts = hosts
        packet = stream.Signature(PACKET_WORD)
        super().__init__(
            {
                "i": In(packet).array(hosts),
                "o": Out(packet).array(hosts),
                "packets": Out(packet),
                "answers": In(packet),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        chosen = Signal(range(self._hosts))
        following = Signal.like(chosen)
        m.d.comb += following.eq(Mux(chosen == self._hosts - 1, 0, chosen + 1))
        i = Array(self.i)[chosen]
        o = Array(self.o)[chosen]
        for port in self.o:
            m.d.comb += port.payload.eq(self.answers.payload)
        m.d.comb += self.packets.payload.eq(i.payload)
        with m.FSM() as states:
            m.d.comb += self.busy.eq(~states.ongoing("idle"))
            with m.State("idle"):
                with m.If(i.valid):
                    m.next = "packet"
                with m.Else():
                    m.d.sync += chosen.eq(following)
            with m.State("packet"):
                m.d.comb += [self.packets.valid.eq(i.valid), i.ready.eq(self.packets.ready)]
                with m.If(i.valid & i.ready & self.packets.p.last):
                    m.next = "answer"
            with m.State("answer"):
                m.d.comb += [o.valid.eq(self.answers.valid), self.answers.ready.eq(o.ready)]
                with m.If(o.valid & o.ready & self.answers.p.last):
                    m.d.sync += chosen.eq(following)
                    m.next = "idle"
        return m
