"""LOAD of good files, and the packets around it, on Amaranth's simulator.

Damaged files go through the exported Verilog in tests/cocotb/test_engine.py: they take long.
"""

from dataclasses import replace

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.engine.program import lower
from pleach.engine.protocol import Command, EngineError, Resource
from pleach.errors import FormatError
from pleach.format import dumps, loads
from pleach.format.bitstream import Coding
from pleach.host import load_packet, run_packet, status_packet
from pleach.model import CompressedModel, InputType
from pleach.reference import Reference
from pleach_hw.load.loader import Loader
from tests.cocotb.cases import network
from tests.cocotb.damage import paid, words_of
from tests.gateware.streams import plain, send, simulate
from tests.gateware.test_engine import exchange
from tests.strategies import random_inputs, random_layer, random_model

MODEL = network(3, (20, 12, 6))
INPUTS = np.arange(20, dtype=np.uint8)
RUN = run_packet(INPUTS, MODEL.input_type)
OUTPUTS = Reference(MODEL).run(INPUTS[None])[0].tolist()
SMALL = EngineConfig(
    pes=1, columns=64, entries=512, codebook=256, accumulators=64, accumulator_bits=36, layers=4
)


@pytest.mark.parametrize("groups", [1, 2])
def test_what_just_fits_is_loaded(groups):
    """Every capacity of the engine is used up to the last place."""
    rng = np.random.default_rng(2)
    widths = [7, 7, 8] if groups == 1 else [15, 15, 1]
    model = random_model(rng, widths, input_type=InputType.INT16, density=1.0)
    books = ([-900, 7, 30, 1000], [-90, -1, 7, 30])  # of int16 and of int8
    layers = [
        replace(layer, codes=np.arange(layer.kept) % 4, codebook=codebook)
        for layer, codebook in zip(model.layers, books, strict=True)
    ]
    model = replace(model, layers=layers)
    config = EngineConfig(
        pes=2, groups=groups, block=groups, columns=16, entries=64 * groups, codebook=8, layers=2,
        accumulators=8 * groups, accumulator_bits=max(model.accumulator_bits()),
    )  # fmt: skip
    needs = config.needs(model)
    assert needs == {name: getattr(config, name) for name in needs}
    inputs = random_inputs(rng, model, 2, 0.8)
    packets = [load_packet(dumps(model)), *(run_packet(x, model.input_type) for x in inputs)]
    load, *runs = exchange(config, packets)
    assert load.error == EngineError.OK
    expected = Reference(model).run(inputs).tolist()
    assert [run.outputs(model.outputs).tolist() for run in runs] == expected


def test_a_word_pays_for_32_entries():
    """Entries without bits: as many as the words pay for are one layer, one more is none. The words
    that are paid with are not the next layer's."""
    good, bad = paid(192, 6), paid(193, 6)
    rng = np.random.default_rng(4)
    model = CompressedModel((*loads(good).layers, random_layer(rng, 192, 3)))
    config = replace(SMALL, columns=256, accumulators=256)
    run = run_packet(np.array([9], np.uint8), model.input_type)
    answers = exchange(config, [load_packet(bad), load_packet(dumps(model)), run])
    assert [answer.error for answer in answers] == [EngineError.BAD_FIELD, 0, 0]
    expected = Reference(model).run(np.array([[9]], np.uint8))
    assert answers[-1].outputs(3).tolist() == expected[0].tolist()
    assert loads(good).layers[0].kept == 192
    with pytest.raises(FormatError):
        loads(bad)


def test_packets_that_are_refused():
    """What they get, and that they leave nothing behind: neither a model nor a clock that runs."""
    load, status = load_packet(dumps(MODEL)), status_packet()
    packets = {
        "load": load,
        "run": RUN,
        "status": status,
        "short run": RUN[:-1],
        "after short": status,
        "later": status,
        "long run": [*RUN, 0],
        "after long": status,
        "still later": status,
        "no inputs": RUN[:1],
        "status with data": [*status, 1],
        "status with more data": [*status, 1, 2, 3],
        "unknown": [status[0] + 1, 5],
        "no command": [0],
        "run again": RUN,
        "status again": status,
        "nothing to load": load[:1],
        "status without a model": status,
        "run without a model": RUN,
        "load again": load,
        "last run": RUN,
    }
    answers = exchange(SMALL, list(packets.values()))
    got = dict(zip(packets, answers, strict=True))
    errors = {
        "short run": (Command.RUN, EngineError.INPUT_LENGTH),
        "long run": (Command.RUN, EngineError.INPUT_LENGTH),
        "no inputs": (Command.RUN, EngineError.INPUT_LENGTH),
        "status with data": (Command.STATUS, EngineError.LENGTH),
        "status with more data": (Command.STATUS, EngineError.LENGTH),
        "unknown": (0, EngineError.BAD_COMMAND),
        "no command": (0, EngineError.BAD_COMMAND),
        "nothing to load": (Command.LOAD, EngineError.LENGTH),
        "run without a model": (Command.RUN, EngineError.NO_MODEL),
    }
    for name, answer in got.items():
        assert (answer.command, answer.error) == errors.get(
            name, (packets[name][0] & 0xFF, EngineError.OK)
        ), name
        assert name not in errors or answer.words == (), name
    for name in ("run", "run again", "last run"):
        assert got[name].outputs(6).tolist() == OUTPUTS
    # A refused run is counted up to its last output, and no further.
    assert got["after short"].status() == got["later"].status()
    assert got["after long"].status() == got["still later"].status()
    assert got["status again"].status().latency_cycles == got["status"].status().latency_cycles
    held = got["status without a model"].status()
    assert (held.model_held, held.load_error) == (0, EngineError.LENGTH)


def loaded_alone(config, files, *, idle=0.0, stuck=(), seed=0):
    """Of each file what a loader by itself answers, ``(error, detail)``, and what it writes.

    Args:
        idle: part of the cycles in which no word is there.
        stuck: numbers of files at which a PE says that it has no room.
    """
    dut = Loader(config)
    pes = dut.pes
    rng = np.random.default_rng(seed)
    answers, writes = [], []

    async def bench(ctx):
        for number, data in enumerate(files):
            words = words_of(data).tolist()
            writes.append([])
            ctx.set(dut.pes.overflow, number in stuck)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            packet = [{"data": word, "last": 0} for word in words]
            packet[-1]["last"] = 1
            await send(ctx, dut.i, packet, idle=idle, seed=int(rng.integers(2**32)))
            while not ctx.get(dut.done):
                await ctx.tick()
            answers.append((ctx.get(dut.error), ctx.get(dut.detail)))
            await ctx.tick().repeat(3)

    async def monitor(ctx):
        strobes = (
            pes.clear, dut.codebook.write, pes.entry_valid, pes.column_end, dut.program.write,
        )  # fmt: skip
        values = (
            dut.codebook.address, dut.codebook.value, pes.entry, pes.column,
            dut.program.index, dut.program.pass_,
        )  # fmt: skip
        while True:
            _, _, *got = await ctx.tick().sample(*strobes, *values)
            clear, book, entry, end, written = got[:5]
            address, value, placed, column, index, fields = got[5:]
            assert sum(map(bool, got[:5])) <= 1
            if clear:
                writes[-1].append(("clear",))
            if book:
                writes[-1].append(("value", address, value))
            if entry:
                writes[-1].append(("entry", entry, placed["row"], placed["code"]))
            if end:
                writes[-1].append(("end", end, column))
            if written:
                writes[-1].append(("pass", index, plain(fields)))

    simulate(dut, bench, background=[monitor], limit=60_000)
    # An entry of a layer that was refused may still be on its way when the next file begins.
    return answers, [file[file.index(("clear",)) :] for file in writes]


def all_writes(model, config):
    """What the loader has to write for a model, in order."""
    writes = [("clear",)]
    program = lower(model, config).passes
    for index, (layer, each) in enumerate(zip(model.layers, program, strict=True)):
        order = Coding.of(layer).code_order[: len(layer.codebook)] if layer.kept else []
        number = np.argsort(order)
        values = layer.codebook[order].tolist() if layer.kept else []
        writes += [("value", each.codebook_base + n, value) for n, value in enumerate(values)]
        entries = zip(layer.column_of, layer.row_of, layer.codes, strict=True)
        entries = [
            (c, (1 << pe, r // config.row_pes, number[code]))
            for pe, (c, r, code) in zip(config.pe_of(layer), entries, strict=True)
        ]
        for column in range(layer.columns):
            writes += [("entry", *map(int, entry)) for c, entry in entries if c == column]
            local = each.column_base + column // config.groups
            writes.append(("end", 1 << column % config.groups, local))
        writes.append(("pass", index, vars(each)))
    return writes


@pytest.mark.parametrize(
    ("array", "idle"),
    [
        ({"pes": 1}, 0.0),
        ({"pes": 4, "groups": 2, "block": 4}, 0.4),
        ({"pes": 2, "serial_loader": True}, 0.2),
    ],
)
def test_a_loader_alone_writes_what_the_file_says(array, idle):
    """Dense, sparse and empty layers; codes of no bits and of many; codebooks of 8 and 16 bits."""
    config = EngineConfig(
        columns=256, entries=2048, codebook=512, accumulators=64, accumulator_bits=48, **array
    )
    rng = np.random.default_rng(1)
    models = [
        random_model(
            rng, widths, density=density, codebook=codebook, empty_columns=density / 2, bias=bias
        )
        for widths, density, codebook, bias in (
            ((9, 14, 5), 0.3, 20, True), ((4, 6), 0.0, 1, False), ((1, 1, 12), 1.0, 1, True),
            ((40, 3), 0.05, 2, True), ((7, 12), 1.0, 60, False),
        )
    ]  # fmt: skip
    few = [replace(layer, codebook=layer.codebook % 100) for layer in models[0].layers]
    models.append(replace(models[0], layers=few))
    answers, writes = loaded_alone(config, [dumps(model) for model in models], idle=idle)
    assert answers == [(EngineError.OK, 0)] * len(models)
    assert writes == [all_writes(model, config) for model in models]


def test_a_loader_alone_begins_anew_after_an_error():
    """A file cut anywhere is a LENGTH error, and the next one is loaded as if it were the first;
    of a file that does not fit the PEs nothing is committed."""
    config = replace(SMALL, pes=2)
    good = dumps(MODEL)
    cut = [good[: 4 * at] for at in range(1, len(good) // 4, 17)]
    files = [good, *(file for short in cut for file in (short, good))]
    answers, writes = loaded_alone(config, [*files, good, good], stuck=[len(files)])
    expected = all_writes(MODEL, config)
    assert [error for error, _ in answers[1:-2:2]] == [EngineError.LENGTH] * len(cut)
    assert answers[:-2:2] == [(EngineError.OK, 0)] * (len(cut) + 1)
    assert writes[:-2:2] == [expected] * (len(cut) + 1)
    assert answers[-2:] == [(EngineError.CAPACITY, Resource.ENTRIES), (EngineError.OK, 0)]
    assert writes[-1] == expected
    assert not any(kind == "pass" for kind, *_ in writes[-2])
    for short, full in zip(cut, writes[1:-2:2], strict=True):
        # What was decoded by then is a beginning of the whole, and no layer without its CRC.
        assert full == expected[: len(full)], len(short)
