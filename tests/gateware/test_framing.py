"""Framing, its CRC and its buffer: words of a packet in, words of sections out."""

import zlib

import numpy as np
import pytest

from pleach.engine import words
from pleach.engine.protocol import EngineError, Resource
from pleach_hw.load.framing import Framing, PacketBuffer, WordCrc
from tests.gateware.streams import receive, send, simulate

LAYERS = 3  # that the framing takes


def section(kind, payload):
    """The words of a section."""
    checked = [words.SECTION_HEAD.pack(type=kind, length=len(payload)), *payload]
    return [*checked, zlib.crc32(np.array(checked, "<u4").tobytes())]


def file(*sections, layers=None, length=None):
    """The words of a file of such sections; its header may claim other layers or another length."""
    body = [word for part in sections for word in part]
    if layers is None:
        layers = sum(part[0] & 0xFF < 128 for part in sections)
    info = words.HEADER_INFO.pack(
        version=words.VERSION, layers=layers, input_type=1, input_fraction=0
    )
    header = [words.MAGIC, info, length or words.HEADER_WORDS + len(body), 0]
    return [*header, zlib.crc32(np.array(header, "<u4").tobytes()), *body]


def packet(data):
    return [{"data": int(word), "last": n == len(data) - 1} for n, word in enumerate(data)]


def frame(files, *, crc_bits=32, take=None, refuse=None, idle=0.0):
    """What a reader of the sections sees of each file, and the answer, ``(error, detail)``.

    Args:
        take: words that the reader takes of each section before it has enough; all, unless said.
        refuse: when the reader refuses a section, at "begin" or after "words"; or "full", then the
            PEs have no room.
    """
    dut = Framing(layers=LAYERS, crc_bits=crc_bits)
    seen, answers = [], []

    async def bench(ctx):
        ctx.set(dut.refusal, {"error": EngineError.SHAPE, "resource": 0})
        for data in files:
            seen.append([])
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await send(ctx, dut.i, packet(data), idle=idle, seed=len(data))
            while not ctx.get(dut.done):
                await ctx.tick()
            answers.append((ctx.get(dut.error), ctx.get(dut.detail)))
            await ctx.tick()

    async def reader(ctx):
        left = 0
        reading = False
        while True:
            begins = ctx.get(dut.begin)
            ctx.set(dut.full, refuse == "full")
            ctx.set(dut.refuse, begins and refuse == "begin")
            enough = reading and (left == 0 or ctx.get(dut.exhausted))
            ctx.set(dut.o.ready, reading and not enough)
            ctx.set(dut.finish, enough and refuse != "words")
            if enough and refuse == "words":
                ctx.set(dut.refuse, 1)
            if begins:
                seen[-1].append((ctx.get(dut.section.type), ctx.get(dut.section.length), []))
            _, _, valid, word, commit, abandon = await ctx.tick().sample(
                dut.o.valid, dut.o.payload, dut.commit, dut.abandon
            )
            if valid and reading and not enough:
                seen[-1][-1][2].append(word)
                left -= 1
            reading = (reading or begins) and not enough and not abandon
            if begins:
                left = 1 << 24 if take is None else take
            if commit:
                seen[-1].append("commit")

    simulate(dut, bench, background=[reader], limit=20_000)
    return seen, answers


LAYER, CONVOLUTION, META = words.SECTION_LAYER, words.SECTION_CONV, words.SECTION_META
FIRST, SECOND, LAST = [7, 2**32 - 1, 9], list(range(10)), [5]
GOOD = file(
    section(LAYER, FIRST), section(META, [1, 2]), section(CONVOLUTION, SECOND),
    section(META, []), section(LAYER, LAST),
)  # fmt: skip


@pytest.mark.parametrize(("crc_bits", "idle"), [(32, 0.0), (32, 0.5), (1, 0.3)])
def test_sections_come_out_whole(crc_bits, idle):
    """All but those that are skipped, each with its kind and its length; twice, and with words that
    the reader leaves."""
    expected = [
        (LAYER, 3, FIRST), "commit", (CONVOLUTION, 10, SECOND), "commit", (LAYER, 1, LAST), "commit"
    ]  # fmt: skip
    assert frame([GOOD, GOOD], crc_bits=crc_bits, idle=idle) == ([expected] * 2, [(0, 0)] * 2)
    short = [e if e == "commit" else (*e[:2], e[2][:2]) for e in expected]
    assert frame([GOOD], crc_bits=crc_bits, idle=idle, take=2) == ([short], [(0, 0)])


def test_what_a_word_is_refused_for():
    """Every word with a bit wrong, and the file cut before every third, or longer than it says."""
    names = ["BAD_HEADER", "HEADER_CRC", "LENGTH", "HEADER_CRC", "HEADER_CRC"]
    wrong = {n: {EngineError[name]} for n, name in enumerate(names)}
    wrong[2] |= {EngineError.HEADER_CRC}  # whichever comes first
    wrong |= {n: {EngineError.SECTION_CRC} for n in range(words.HEADER_WORDS, len(GOOD))}
    at, layer = words.HEADER_WORDS, 0
    layers = {}
    while at < len(GOOD):
        wrong[at] |= {EngineError.LENGTH, EngineError.SECTION_TYPE}
        end = at + 2 + (GOOD[at] >> 8)
        layers |= dict.fromkeys(range(at, end), layer)
        layer += GOOD[at] & 0xFF < 128
        at = end
    rng = np.random.default_rng(1)
    flipped = [
        [w ^ 1 << int(rng.integers(32)) if n == at else w for n, w in enumerate(GOOD)]
        for at in range(len(GOOD))
    ]
    cut = [GOOD[:n] for n in range(1, len(GOOD), 3)]
    seen, answers = frame([*flipped, *cut, [*GOOD, 0], GOOD])
    for n, (error, detail) in enumerate(answers[: len(GOOD)]):
        assert error in wrong[n], (n, error)
        assert error != EngineError.SECTION_CRC or detail == layers[n]
    assert {error for error, _ in answers[len(GOOD) : -1]} == {EngineError.LENGTH}
    assert answers[-1] == (EngineError.OK, 0)
    assert seen[-1].count("commit") == LAYERS


def test_numbers_of_sections_and_where_they_end():
    one = section(LAYER, FIRST)
    too_long = section(LAYER, FIRST)
    too_long[0] += 1 << 8
    size = words.HEADER_WORDS + len(one)
    cases = {
        "none": (file(layers=1), EngineError.SECTION_TYPE, 0),
        "one too few": (file(one, layers=2), EngineError.SECTION_TYPE, 1),
        "one too many": (file(one, one, layers=1), EngineError.SECTION_TYPE, 1),
        "no layers": (file(one, layers=0), EngineError.BAD_HEADER, 0),
        "more than it takes": (file(*[one] * 4), EngineError.CAPACITY, Resource.LAYERS),
        "past the end": (file(too_long), EngineError.LENGTH, 0),
        "said to be longer": (file(one, length=size + 1), EngineError.LENGTH, 0),
        "said to be shorter": (file(one, length=size - 1), EngineError.LENGTH, 0),
        "four words that say so": (file(one, length=4)[:4], EngineError.LENGTH, 0),
        "five words that say so": (file(layers=1, length=5), EngineError.SECTION_TYPE, 0),
        "good": (file(one), EngineError.OK, 0),
    }
    _, answers = frame([data for data, _, _ in cases.values()])
    assert dict(zip(cases, answers, strict=True)) == {
        name: (error, detail) for name, (_, error, detail) in cases.items()
    }


@pytest.mark.parametrize("when", ["begin", "words", "full"])
def test_a_reader_may_refuse_a_section(when):
    """Whenever it does, the packet is taken to its end, and nothing is committed."""
    seen, answers = frame([GOOD, GOOD[:-9]], refuse=when, take=1)
    error = (EngineError.SHAPE, 0)
    if when == "full":
        error = (EngineError.CAPACITY, Resource.ENTRIES)
    assert answers == [error] * 2
    assert "commit" not in [*seen[0], *seen[1]]


@pytest.mark.parametrize("bits", [1, 8, 32])
def test_word_crc(bits):
    """Of runs of words, with others between them that do not count."""
    dut = WordCrc(bits)
    rng = np.random.default_rng(bits)

    async def bench(ctx):
        async def show(word, **strobes):
            while ctx.get(dut.busy):
                ctx.set(dut.word, int(rng.integers(2**32)))
                await ctx.tick()
            ctx.set(dut.word, word)
            for name, value in strobes.items():
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            for name in strobes:
                ctx.set(getattr(dut, name), 0)

        for count in (1, 2, 7):
            data = rng.integers(2**32, size=count).tolist()
            for number, word in enumerate(data):
                await show(word, take=1, begin=number == 0)
                if rng.random() < 0.5 and bits == 32:
                    await show(int(rng.integers(2**32)))
            right = zlib.crc32(np.array(data, "<u4").tobytes())
            for word in (right, right ^ 1 << int(rng.integers(32))):
                await show(word)
                await ctx.tick()
                assert ctx.get(dut.wrong) == (word != right)

    simulate(dut, bench)


def test_a_packet_buffer_keeps_the_next_packet_out():
    dut = PacketBuffer()
    packets = [packet(range(n)) for n in (1, 5, 2)]
    taken = []

    async def sender(ctx):
        for each in packets:
            await send(ctx, dut.i, each)
            taken.append(len(each))

    async def bench(ctx):
        for number, each in enumerate(packets):
            await ctx.tick().repeat(4)
            assert len(taken) == number and not ctx.get(dut.o.valid)
            ctx.set(dut.open, 1)
            await ctx.tick()
            ctx.set(dut.open, 0)
            assert await receive(ctx, dut.o, len(each), stall=0.3, seed=number) == each

    simulate(dut, sender, bench, checks=[dut.o])
