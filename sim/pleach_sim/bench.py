"""The engine's testbench: a host on its two AXI4-Stream interfaces, for cocotb tests."""

from __future__ import annotations

from collections.abc import Sequence

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import resume
from cocotb.triggers import ClockCycles, RisingEdge, SimTimeoutError, with_timeout
from cocotb.utils import get_sim_steps, get_sim_time
from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource

from pleach.engine.protocol import EngineError, Status
from pleach.errors import LinkError
from pleach.host import Answer, load_packet, run_packet, status_packet
from pleach.model import InputType
from pleach_sim.patterns import pauses

PERIOD_NS = 10


class EngineBench:
    """Sends packets to an engine and receives its answers, each within a bound of cycles.

    Start with `start`. Until `pause` is called the host never stalls: a word is offered in every
    cycle of a packet and every answer is taken at once.

    Args:
        dut: an engine with the ports of docs/engine.md.
    """

    def __init__(self, dut):
        self.dut = dut
        # One "byte lane" of 32 bits: a frame is then a list of words.
        self.source = AxiStreamSource(
            AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst, byte_lanes=1
        )
        self.sink = AxiStreamSink(
            AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst, byte_lanes=1
        )
        for side in (self.source, self.sink):
            side.log.setLevel("ERROR")
        self.waits = dict.fromkeys(("idle", "refused", "stalled"), 0)
        self._counting = None
        self.accepted = self.answered = self.latency = 0
        self._step = get_sim_steps(PERIOD_NS, "ns")

    @classmethod
    async def start(cls, dut) -> EngineBench:
        """A bench with its clock running and the engine just out of reset."""
        dut.rst.value = 1
        bench = cls(dut)
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        await bench.reset()
        return bench

    async def reset(self, cycles: int = 4) -> None:
        """Reset the engine; what was being sent or received is forgotten."""
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, cycles)
        self.source.clear()
        self.sink.clear()
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    def pause(self, idle: str = "none", stall: str = "none", seed: int = 1) -> None:
        """From now on: `idle` cycles before words to the engine, `stall` those from it.

        With either, ``waits`` counts from here: cycles without a word for the engine (``idle``),
        with one that it did not take (``refused``), with one of its words not taken (``stalled``).
        """
        if self._counting is not None:
            self._counting.cancel()
            self._counting = None
        self.waits = dict.fromkeys(self.waits, 0)
        if (idle, stall) != ("none", "none"):
            self._counting = cocotb.start_soon(self._count_waits())
        self.source.set_pause_generator(pauses(idle, seed))
        self.sink.set_pause_generator(pauses(stall, seed + 1))
        self.source.pause = self.sink.pause = False

    async def _count_waits(self) -> None:
        dut, edge = self.dut, RisingEdge(self.dut.clk)
        while True:
            await edge
            if not dut.s_axis_tvalid.value:
                self.waits["idle"] += 1
            elif not dut.s_axis_tready.value:
                self.waits["refused"] += 1
            if dut.m_axis_tvalid.value and not dut.m_axis_tready.value:
                self.waits["stalled"] += 1

    def cycle(self, time: int | None = None) -> int:
        """The cycle of a simulation time in steps, by default of now."""
        return (get_sim_time("step") if time is None else time) // self._step

    async def send(self, words: Sequence[int]) -> None:
        """Queue a packet, its answer to be received later."""
        await self.source.send(list(words))

    async def answer(self, what: str, limit: int) -> Answer:
        """The next answer.

        Args:
            what: it is the answer to, for the message.
            limit: cycles to wait for it.

        Raises:
            LinkError: there was none.
        """
        try:
            frame = await with_timeout(self.sink.recv(), limit * PERIOD_NS, "ns")
        except SimTimeoutError:
            left = "its last word was taken" if self.source.idle() else "words of it are left"
            raise LinkError(
                f"no answer to {what} within {limit} cycles; {left}, "
                f"s_axis_tready={self.dut.s_axis_tready.value}, "
                f"m_axis_tvalid={self.dut.m_axis_tvalid.value}"
            ) from None
        self.answered = self.cycle(frame.sim_time_end)
        self.frame = list(frame.tdata)
        return Answer.unpack(self.frame)

    async def request(self, words: Sequence[int], what: str, limit: int) -> Answer:
        """Send a packet and return its answer.

        Of a packet of more than one word ``latency`` is then the cycles from the one in which the
        engine took the second, in a RUN the first of the inputs, to the one in which the host took
        the last word of the answer, both counted.
        """
        watch = cocotb.start_soon(self._watch_first_input()) if len(words) > 1 else None
        await self.send(words)
        answer = await self.answer(what, limit)
        if watch is not None:
            watch.cancel()
            self.latency = self.answered - self.accepted + 1
        return answer

    async def _watch_first_input(self) -> None:
        """Note the cycle in which the word after the command is taken."""
        edge = RisingEdge(self.dut.clk)
        for _ in range(2):
            await edge
            while not (self.dut.s_axis_tvalid.value and self.dut.s_axis_tready.value):
                await edge
        self.accepted = self.cycle()

    async def load(self, data: bytes, limit: int | None = None) -> Answer:
        """LOAD a file; the answer may be an error."""
        limit = limit or load_limit(data)
        return await self.request(load_packet(data), f"LOAD of {len(data)} bytes", limit)

    async def run(self, inputs: np.ndarray, input_type: InputType, limit: int = 200_000) -> Answer:
        """RUN one network input, ``[inputs]``; the answer may be an error."""
        return await self.request(run_packet(inputs, input_type), "RUN", limit)

    async def status(self, limit: int = 10_000) -> Status:
        """STATUS, which the engine never refuses."""
        answer = await self.request(status_packet(), "STATUS", limit)
        assert answer.error == EngineError.OK, f"STATUS was answered with {answer.error.name}"
        return answer.status()


class SimulatedLink:
    """A `pleach.host.Link` to the engine of a bench.

    For plain code, such as `pleach.host.Driver`, that a cocotb test awaits by `cocotb.bridge`. The
    seconds of a timeout are those of the simulated clock, a cycle each `PERIOD_NS`.
    """

    def __init__(self, bench: EngineBench):
        self._bench = bench

    def exchange(self, packet: Sequence[int], timeout: float) -> list[int]:
        """Send a packet and return the answer's words; LinkError where none came in time."""
        return resume(self._exchange)(packet, cycles_of(timeout))

    async def _exchange(self, packet: Sequence[int], limit: int) -> list[int]:
        await self._bench.request(packet, f"a packet of {len(packet)} words", limit)
        return self._bench.frame


def load_limit(data: bytes) -> int:
    """Cycles in which a file is loaded: its words, and a cycle for each column without a weight."""
    return 100_000 + 256 * len(data)


def cycles_of(seconds: float) -> int:
    """Cycles of the bench's clock."""
    return round(seconds * 1e9 / PERIOD_NS)


def seconds_of(cycles: int) -> float:
    """What so many cycles of the bench's clock take."""
    return cycles * PERIOD_NS * 1e-9
