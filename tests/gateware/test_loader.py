"""LOAD of good and of damaged files, and the packets around it, on Amaranth's simulator.

The same files go through the exported Verilog in tests/cocotb.
"""

from dataclasses import replace

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.engine.protocol import Command, EngineError
from pleach.errors import FormatError
from pleach.format import dumps, loads
from pleach.host import load_packet, run_packet, status_packet
from pleach.model import CompressedModel, InputType
from pleach.reference import Reference
from tests.cocotb.cases import network
from tests.cocotb.damage import bad_files, paid, too_large
from tests.gateware.test_engine import exchange
from tests.strategies import random_inputs, random_layer, random_model

MODEL = network(3, (20, 12, 6))
INPUTS = np.arange(20, dtype=np.uint8)
RUN = run_packet(INPUTS, MODEL.input_type)
OUTPUTS = Reference(MODEL).run(INPUTS[None])[0].tolist()
SMALL = EngineConfig(
    pes=1, columns=64, entries=512, codebook=256, accumulators=64, accumulator_bits=36, layers=4
)


def assert_refused(files, config):
    """Each file gets its error and leaves no model; before and after them a good one runs."""
    good = [load_packet(dumps(MODEL)), RUN]
    packets = [packet for bad in files for packet in (load_packet(bad.data), RUN)]
    answers = exchange(config, [*good, *packets, *good], limit=40_000)
    for load, run in (answers[:2], answers[-2:]):
        assert load.error == EngineError.OK
        assert run.outputs(6).tolist() == OUTPUTS
    for bad, answer, run in zip(files, answers[2:-2:2], answers[3:-2:2], strict=True):
        assert (answer.command, answer.words) == (Command.LOAD, ())
        assert answer.error in (bad.error, *bad.also), f"{bad.name}: {answer.error.name}"
        assert bad.detail in (None, answer.detail), f"{bad.name}: detail {answer.detail}"
        assert run.error == EngineError.NO_MODEL, f"RUN after {bad.name}"


def test_damaged_files_are_refused():
    assert_refused([*bad_files(MODEL), *too_large(SMALL)], SMALL)


def test_the_serial_loader_refuses_alike():
    names = ("header CRC", "one word more", "Kraft sum", "data run out", "CRC of a section")
    files = [bad for bad in bad_files(MODEL) if bad.name in names]
    assert len(files) == len(names)
    assert_refused(files, replace(SMALL, serial_loader=True, ram_latency=1))


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
