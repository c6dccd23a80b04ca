"""The registers of an engine on AXI4-Lite."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.protocol import GATEWARE_VERSION, RESPONSE_WORD
from pleach.engine.registers import (
    ADDRESS_BITS,
    BANK_VERSION,
    BY_NAME,
    IDENTITY,
    REGISTERS,
    Access,
)
from pleach_hw.buses import StatusBus
from pleach_hw.layouts import PACKET_WORD, layout
from pleach_hw.queue import Queue
from pleach_hw.system.axi_lite import Response, subordinate

#: words that wait on the way to the engine, and on the way back
QUEUED = 16


class RegisterBank(wiring.Component):
    """`pleach.engine.registers` on AXI4-Lite: docs/registers.md.

    Reads and writes are independent of each other, one of each at a time; either takes two cycles,
    and a read of a status word waits while the engine takes words for an answer to STATUS.

    Ports:
        s_axil_*: AXI4-Lite.
        irq: an event that is enabled has happened.
        packets, answers: the host that writes and reads words here, as a host of the engine.
        reset: strobe, the engine and all its streams begin anew; the queues here do.
        answered: the engine's answers, as they go; only looked at.
        busy: of the arbiter.
        booted: strobe, an attempt of the engine to load itself ended.
        status, status_ready: of the engine.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        packet = stream.Signature(PACKET_WORD)
        super().__init__(
            subordinate("s_axil", ADDRESS_BITS)
            | {
                "irq": Out(1),
                "packets": Out(packet),
                "answers": In(packet),
                "reset": Out(1),
                "answered": In(wiring.Signature({"word": Out(PACKET_WORD), "taken": Out(1)})),
                "busy": In(1),
                "booted": In(1),
                "status": Out(StatusBus(config)),
                "status_ready": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        renew = ResetInserter(self.reset)
        self._in, self._out = (Queue(shape=PACKET_WORD, depth=QUEUED) for _ in range(2))
        m.submodules.queue_in, m.submodules.queue_out = renew(self._in), renew(self._out)
        values = self._events(m)
        self._write(m)
        self._read(m, values)
        return m

    def _events(self, m: Module) -> dict:
        """What happens on its own; returns the value of each register that has one."""
        answers = self._out
        wiring.connect(m, self._in.o, wiring.flipped(self.packets))
        wiring.connect(m, wiring.flipped(self.answers), answers.i)
        value = {
            name: Signal(layout(BY_NAME[name].word), name=name)
            for name in (
                "identity", "version", "state", "interrupt", "interrupt_enable", "last_answer",
                "answers", "errors", "busy_cycles",
            )
        }  # fmt: skip
        m.d.comb += [
            value["identity"].identity.eq(IDENTITY),
            value["version"].gateware.eq(GATEWARE_VERSION),
            value["version"].bank.eq(BANK_VERSION),
            value["state"].packet_ready.eq(self._in.i.ready),
            value["state"].answer_valid.eq(answers.o.valid),
            value["state"].answer_last.eq(answers.o.valid & answers.o.p.last),
            value["state"].busy.eq(self.busy),
            self.irq.eq(
                (value["interrupt"].as_value() & value["interrupt_enable"].as_value()).any()
            ),
        ]
        first = Signal(init=1)
        word = layout(RESPONSE_WORD)(self.answered.word.data)
        began = self.answered.taken & first
        failed = began & word.error.any()
        with m.If(self.answered.taken):
            m.d.sync += first.eq(self.answered.word.last)
        with m.If(began):
            m.d.sync += [
                value["last_answer"].eq(self.answered.word.data),
                value["answers"].count.eq(value["answers"].count + 1),
            ]
        with m.If(failed):
            m.d.sync += value["errors"].count.eq(value["errors"].count + 1)
        with m.If(self.busy):
            m.d.sync += value["busy_cycles"].count.eq(value["busy_cycles"].count + 1)
        with m.If(self.reset):
            m.d.sync += first.eq(1)

        happened = Signal(layout(BY_NAME["interrupt"].word))
        m.d.comb += [
            happened.answer.eq(answers.i.valid & answers.i.ready & answers.i.p.last),
            happened.error.eq(failed),
            happened.boot.eq(self.booted),
        ]
        self._cleared = Signal(32)
        events = value["interrupt"].as_value()
        m.d.sync += events.eq((events & ~self._cleared) | happened.as_value())
        self._enabled = value["interrupt_enable"]
        return value

    def _write(self, m: Module) -> None:
        queue = self._in.i
        address, data, strobes = Signal(ADDRESS_BITS), Signal(32), Signal(4)
        got_address, got_data = Signal(), Signal()
        m.d.comb += [self.s_axil_awready.eq(~got_address), self.s_axil_wready.eq(~got_data)]
        with m.If(self.s_axil_awvalid & self.s_axil_awready):
            m.d.sync += [address.eq(self.s_axil_awaddr), got_address.eq(1)]
        with m.If(self.s_axil_wvalid & self.s_axil_wready):
            m.d.sync += [
                data.eq(self.s_axil_wdata), strobes.eq(self.s_axil_wstrb), got_data.eq(1)
            ]  # fmt: skip
        with m.If(self.s_axil_bvalid & self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)

        mask = Cat(bit.replicate(8) for bit in strobes)
        whole = strobes.all()
        response = Signal(Response)
        act = Signal()
        m.d.comb += [
            act.eq(got_address & got_data & (~self.s_axil_bvalid | self.s_axil_bready)),
            response.eq(Response.DECERR),
            queue.p.data.eq(data),
        ]
        with m.Switch(address[2:]):
            for register in REGISTERS:
                numbers = [register.offset // 4 + at for at in range(self._there(register))]
                with m.Case(*numbers):
                    m.d.comb += response.eq(
                        Response.SLVERR if register.access is Access.READ else Response.OKAY
                    )
                    if register.name == "control":
                        m.d.comb += self.reset.eq(act & data[0] & strobes[0])
                    elif register.name == "interrupt":
                        m.d.comb += self._cleared.eq(Mux(act, data & mask, 0))
                    elif register.name == "interrupt_enable":
                        enabled = self._enabled.as_value()
                        kept = mask & ~register.word.reserved()
                        with m.If(act):
                            m.d.sync += enabled.eq((data & kept) | (enabled & ~mask))
                    elif register.name in ("packet_word", "packet_last"):
                        m.d.comb += [
                            queue.valid.eq(act & whole),
                            queue.p.last.eq(register.name == "packet_last"),
                        ]
                        with m.If(~whole | ~queue.ready):
                            m.d.comb += response.eq(Response.SLVERR)
        with m.If(act):
            m.d.sync += [
                got_address.eq(0),
                got_data.eq(0),
                self.s_axil_bvalid.eq(1),
                self.s_axil_bresp.eq(response),
            ]

    def _read(self, m: Module, values: dict) -> None:
        queue = self._out.o
        address, reading = Signal(ADDRESS_BITS), Signal()
        m.d.comb += self.s_axil_arready.eq(~reading)
        with m.If(self.s_axil_arvalid & self.s_axil_arready):
            m.d.sync += [address.eq(self.s_axil_araddr), reading.eq(1)]
        with m.If(self.s_axil_rvalid & self.s_axil_rready):
            m.d.sync += self.s_axil_rvalid.eq(0)

        data, response, act, wait = Signal(32), Signal(Response), Signal(), Signal()
        m.d.comb += [
            act.eq(reading & ~wait & (~self.s_axil_rvalid | self.s_axil_rready)),
            response.eq(Response.DECERR),
        ]
        first = BY_NAME["status_0"].offset // 4
        m.d.comb += self.status.index.eq(address[2:] - first)
        with m.Switch(address[2:]):
            for register in REGISTERS:
                numbers = [register.offset // 4 + at for at in range(self._there(register))]
                with m.Case(*numbers):
                    m.d.comb += response.eq(Response.OKAY)
                    if register.name in values:
                        m.d.comb += data.eq(values[register.name])
                    elif register.name == "answer_word":
                        m.d.comb += [data.eq(queue.p.data), queue.ready.eq(act)]
                        with m.If(~queue.valid):
                            m.d.comb += [data.eq(0), response.eq(Response.SLVERR)]
                    elif register.offset >= BY_NAME["status_0"].offset:
                        m.d.comb += [data.eq(self.status.word), wait.eq(~self.status_ready)]
                    else:
                        m.d.comb += response.eq(Response.SLVERR)
        with m.If(act):
            m.d.sync += [
                reading.eq(0),
                self.s_axil_rvalid.eq(1),
                self.s_axil_rdata.eq(data),
                self.s_axil_rresp.eq(response),
            ]

    def _there(self, register) -> int:
        """Of the registers side by side, those that this engine has."""
        return self._config.layers if register.name == "compute_cycles" else register.count
