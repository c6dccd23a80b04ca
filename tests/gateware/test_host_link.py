"""The host link with the bank of status words, between a host and models of loader and run."""

from random import Random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib.wiring import connect

from pleach.engine import EngineConfig
from pleach.engine.protocol import (
    GATEWARE_VERSION,
    STATUS_WORDS,
    Command,
    EngineError,
    Status,
    command_word,
)
from pleach.engine.words import Word
from pleach.host import Answer
from pleach_hw.io import status as status_module
from pleach_hw.io.host_link import HostLink
from pleach_hw.io.status import StatusBank, Stopwatch
from tests.gateware.streams import receive, send, simulate
from tests.gateware.test_pe import pause, wait_for

CONFIG = EngineConfig(pes=4, groups=2, layers=3)
LOAD, RUN, STATUS = (
    command_word(c) for c in (Command.LOAD, Command.RUN, Command.STATUS)
)  # fmt: skip


class Bench:
    """A host link, and what the loader, the unpacker and the packer behind it would do.

    Args:
        loads: what the loader says of each packet in turn, ``(error, detail)``.
        words: of inputs that a run takes.
        outputs: words that it gives.
        pause: cycles in which loader and run think.
    """

    def __init__(
        self, *, loads=(), words=2, outputs=(7, 8), pause=5,
        idle=0.0, stall=0.0, seed=0,
    ):  # fmt: skip
        self.dut = HostLink(CONFIG)
        self.loads, self.words, self.outputs, self.pause = list(loads), words, outputs, pause
        self.idle, self.stall, self.seed = idle, stall, seed
        self.loaded, self.ran, self.bank = [], [], StatusBank(CONFIG)

    def exchange(self, packets, *, first=()):
        """The answers to `packets`, lists of words; the words `first` go before, and a reset."""
        top, dut = Module(), self.dut
        top.submodules.link, top.submodules.bank = dut, self.bank
        connect(top, dut.state, self.bank.state)
        connect(top, dut.status, self.bank.read)
        top.d.comb += self.bank.cycles.cycles.eq(100 + self.bank.cycles.index)
        reset = Signal()
        answers = []

        async def host(ctx):
            if first:
                await send(ctx, dut.i, [{"data": word, "last": 0} for word in first])
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
            words = [
                {"data": word, "last": n == len(packet) - 1}
                for packet in packets
                for n, word in enumerate(packet)
            ]
            await send(ctx, dut.i, words, idle=self.idle, seed=self.seed)

        async def answered(ctx):
            answer = []
            while len(answers) < len(packets):
                (word,) = await receive(ctx, dut.o, 1, stall=self.stall, seed=self.seed)
                answer.append(word["data"])
                if word["last"]:
                    answers.append(Answer.unpack(answer))
                    answer = []

        simulate(
            ResetInserter(reset)(top), host, answered, checks=[dut.o],
            background=[self.loader, self.unpacker, self.packer],
        )  # fmt: skip
        return answers

    async def packet(self, ctx, stream):
        words, last = [], False
        while not last:
            (word,) = await receive(ctx, stream, 1, stall=self.stall, seed=self.seed + len(words))
            words.append(word["data"])
            last = word["last"]
        return words

    async def loader(self, ctx):
        dut = self.dut
        while True:
            await wait_for(ctx, dut.load_start)
            self.loaded.append(await self.packet(ctx, dut.load))
            await pause(ctx, self.pause)
            error, detail = self.loads.pop(0)
            ctx.set(dut.load_error, error)
            ctx.set(dut.load_detail, detail)
            ctx.set(dut.load_done, 1)
            await ctx.tick()
            ctx.set(dut.load_done, 0)

    async def unpacker(self, ctx):
        dut = self.dut
        while True:
            await wait_for(ctx, dut.run_start)
            ctx.set(dut.inputs_done, 0)
            ctx.set(dut.busy, 1)
            words = await self.packet(ctx, dut.inputs)
            ctx.set(dut.wrong_length, len(words) != self.words)
            ctx.set(dut.inputs_done, 1)
            self.ran.append(words)

    async def packer(self, ctx):
        dut, given = self.dut, 0
        while True:
            await ctx.tick()
            if len(self.ran) > given:
                given += 1
                await pause(ctx, self.pause)
                last = len(self.outputs) - 1
                words = [{"data": w, "last": n == last} for n, w in enumerate(self.outputs)]
                await send(ctx, dut.outputs, words)
                ctx.set(dut.busy, 0)


OK, NO_MODEL = EngineError.OK, EngineError.NO_MODEL


@pytest.mark.parametrize(("idle", "stall"), [(0.0, 0.0), (0.5, 0.0), (0.3, 0.6)])
def test_each_packet_gets_one_answer(idle, stall):
    crc = EngineError.SECTION_CRC
    bench = Bench(loads=[(OK, 0), (crc, 2), (OK, 0)], idle=idle, stall=stall, seed=3)
    packets = {
        "run without a model": ([RUN, 1, 2], NO_MODEL, ()),
        "load": ([LOAD, 11, 12, 13], OK, ()),
        "run": ([RUN, 21, 22], OK, (7, 8)),
        "short run": ([RUN, 23], EngineError.INPUT_LENGTH, ()),
        "long run": ([RUN, 24, 25, 26], EngineError.INPUT_LENGTH, ()),
        "no inputs": ([RUN], EngineError.INPUT_LENGTH, ()),
        "no command": ([7, 1], EngineError.BAD_COMMAND, ()),
        "unknown command": ([STATUS + 1], EngineError.BAD_COMMAND, ()),
        "status with data": ([STATUS, 1, 2], EngineError.LENGTH, ()),
        "run again": ([RUN, 27, 28], OK, (7, 8)),
        "bad load": ([LOAD, 14], crc, ()),
        "void model": ([RUN, 1, 2], NO_MODEL, ()),
        "good load": ([LOAD, 15], OK, ()),
        "empty load": ([LOAD], EngineError.LENGTH, ()),
        "nor is there a model": ([RUN, 1], NO_MODEL, ()),
    }
    *answers, status = bench.exchange([*(packet for packet, _, _ in packets.values()), [STATUS]])
    assert status.status().load_error == EngineError.LENGTH
    for (name, (packet, error, words)), answer in zip(packets.items(), answers, strict=True):
        known = packet[0] & 0xFF if error != EngineError.BAD_COMMAND else 0
        assert (answer.command, answer.error, answer.words) == (known, error, words), name
    assert answers[list(packets).index("bad load")].detail == 2
    assert bench.loaded == [[11, 12, 13], [14], [15]]
    assert bench.ran == [[21, 22], [23], [24, 25, 26], [27, 28]]


def test_cycles_are_counted_from_the_first_word_to_the_end():
    """Of a load up to its verdict, of a run up to its last word taken, also where it is refused;
    neither is counted on, nor by a packet that is refused."""
    bench = Bench(loads=[(OK, 0)], pause=9)
    packets = [
        [LOAD, 1, 2, 3], [STATUS], [RUN, 1, 2], [STATUS], [STATUS],
        [RUN], [STATUS], [RUN, 1], [STATUS], [STATUS],
    ]  # fmt: skip
    answers = bench.exchange(packets)
    status = [answer.status() for answer in answers if answer.command == Command.STATUS]
    assert [s.load_cycles for s in status] == [status[0].load_cycles] * 6
    # Three words, the loader's cycles of thought, and the one in which it says that it is done.
    assert status[0].load_cycles >= 3 + 9 + 1
    assert status[0].latency_cycles == 0
    run = status[1].latency_cycles
    assert run >= 2 + 9 + 2
    assert [s.latency_cycles for s in status[1:4]] == [run] * 3
    assert status[4].latency_cycles == status[5].latency_cycles != run
    assert status[1].compute_cycles == (100, 101, 102)


def test_after_a_reset_the_rest_of_a_packet_is_discarded():
    bench = Bench(loads=[(OK, 0)])
    answers = bench.exchange([[5, 6], [LOAD, 1], [STATUS]], first=[RUN, 3, 4])
    assert [answer.error for answer in answers] == [EngineError.BAD_COMMAND, OK, OK]
    assert answers[2].status().model_held


def test_status_words_are_the_values():
    dut = StatusBank(CONFIG)
    random = Random(1)
    values = {
        "model_held": 1, "load_error": EngineError.SHAPE,
        "load_cycles": random.getrandbits(32), "latency_cycles": random.getrandbits(32),
    }  # fmt: skip

    async def bench(ctx):
        for name, value in values.items():
            ctx.set(getattr(dut.state, name), value)
        words = []
        for index in range(len(STATUS_WORDS) + CONFIG.layers):
            ctx.set(dut.read.index, index)
            ctx.set(dut.cycles.cycles, 1000 + ctx.get(dut.cycles.index))
            words.append(ctx.get(dut.read.word))
        status = Status.unpack(words)
        assert status.compute_cycles == (1000, 1001, 1002)
        assert (status.version, status.lanes) == (GATEWARE_VERSION, CONFIG.drained)
        for name, value in values.items():
            assert getattr(status, name) == value
        for name in ("pes", "groups", "block", "layers", "columns", "entries", "codebook"):
            assert getattr(status, name) == getattr(CONFIG, name)

    simulate(dut, bench)


def test_a_status_field_that_nothing_gives_is_refused(monkeypatch):
    monkeypatch.setattr(status_module, "STATUS_WORDS", (*STATUS_WORDS, Word(teams=8, _=4)))
    with pytest.raises(ValueError, match="teams: each field of the status words needs a value"):
        StatusBank(CONFIG).elaborate(None)
    monkeypatch.setattr(status_module, "STATUS_WORDS", STATUS_WORDS[:-1])
    with pytest.raises(ValueError, match="latency_cycles: each field"):
        StatusBank(CONFIG).elaborate(None)


def test_a_stopwatch_counts_both_ends():
    dut = Stopwatch()

    async def bench(ctx):
        for cycles in (1, 2, 7):
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for cycle in range(cycles):
                ctx.set(dut.start, cycle in (0, 3))
                ctx.set(dut.stop, cycle == cycles - 1)
                await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.stop, 0)
            await pause(ctx, 3)
            assert ctx.get(dut.cycles) == cycles

    simulate(dut, bench)
