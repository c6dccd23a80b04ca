"""The driver against an engine's recorded answers, and files' interfaces."""

from dataclasses import replace

import numpy as np
import pytest

from pleach.engine.protocol import Command, EngineError, Resource
from pleach.errors import EngineRefused, FormatError, LinkError, ModelError
from pleach.format import dumps, interface, load
from pleach.host import Driver, Link, answer_words, load_packet, run_packet, status_packet
from pleach.model import CompressedModel, Convolution, InputType
from tests.golden import make
from tests.strategies import random_layer, random_model

MODEL = make.HERE / "model.pleach"
INPUTS = np.loadtxt(make.HERE / "inputs.txt", np.int16)
OUTPUTS = np.loadtxt(make.HERE / "outputs.txt", np.int16)


class Recorded:
    """A link that gives the answers that were recorded for these packets."""

    def __init__(self, exchanges: list[tuple[list[int], list[int]]]):
        self.exchanges = exchanges
        self.timeouts = []

    def exchange(self, packet, timeout):
        self.timeouts.append(timeout)
        expected, answer = self.exchanges.pop(0)
        assert list(packet) == expected
        return answer


def golden() -> list[tuple[list[int], list[int]]]:
    """What the golden vectors have: packets and the engine's answers."""
    sides = []
    for name in ("sent", "answers"):
        packets = [[]]
        for line in (make.HERE / f"{name}.hex").read_text().split():
            packets[-1].append(int(line, 16) & 0xFFFFFFFF)
            if int(line, 16) >> 32:
                packets.append([])
        sides.append(packets[:-1])
    return list(zip(*sides, strict=True))


def test_golden_network():
    link: Link = Recorded(golden()[2:7])
    driver = Driver(link, timeout=3)
    found = driver.load(MODEL, timeout=5)
    assert (found.inputs, found.outputs, found.input_type) == (21, 5, InputType.INT16)
    outputs = driver.run(INPUTS[:3])
    assert outputs.dtype == np.int16 and np.array_equal(outputs, OUTPUTS[:3])
    assert np.array_equal(driver.run(INPUTS[3]), OUTPUTS[3])
    assert not link.exchanges and link.timeouts == [5, 3, 3, 3, 3]


def test_what_may_be_loaded():
    packet, answer = golden()[2]
    for network in (MODEL, str(MODEL), MODEL.read_bytes(), load(MODEL)):
        link = Recorded([(packet, answer)])
        assert Driver(link).load(network).outputs == 5
        assert not link.exchanges


def test_a_refusal_says_why():
    run, no_model = golden()[0]
    driver = Driver(Recorded([golden()[2], (run, no_model)]))
    driver.load(MODEL)
    with pytest.raises(EngineRefused, match="refused RUN: NO_MODEL, RUN: no model is loaded") as e:
        driver.run(INPUTS[0])
    assert e.value.error is EngineError.NO_MODEL and e.value.detail == 0
    short = [Command.LOAD | EngineError.CAPACITY << 8 | Resource.ENTRIES << 16]
    driver = Driver(Recorded([golden()[2], (load_packet(MODEL.read_bytes()), short)]))
    driver.load(MODEL)
    with pytest.raises(EngineRefused, match=r"weights of a PE, .* EngineConfig.entries ") as e:
        driver.load(MODEL)
    assert (e.value.error, e.value.detail) == (EngineError.CAPACITY, Resource.ENTRIES)
    with pytest.raises(ModelError, match="call load first"):
        driver.run(INPUTS[0])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "no answer"),
        ([0xFF00 | Command.RUN], "no answer: 255 "),
        (answer_words(Command.LOAD), "one to command 1: reset the engine"),
        (answer_words(Command.RUN, outputs=[1, 2]), "has 1 words, not those of 5 outputs"),
    ],
)
def test_what_is_no_answer(answer, words):
    packet = run_packet(INPUTS[0], InputType.INT16)
    driver = Driver(Recorded([golden()[2], (packet, answer)]))
    driver.load(MODEL)
    with pytest.raises(LinkError, match=words):
        driver.run(INPUTS[0])


def test_half_a_status():
    driver = Driver(Recorded([(status_packet(), [Command.STATUS, 1])]))
    with pytest.raises(LinkError, match="1 status words, not 11 or more"):
        driver.status()


def test_inputs_of_another_kind():
    driver = Driver(Recorded([golden()[2]]))
    driver.load(MODEL)
    for inputs in (INPUTS.astype(np.uint8), INPUTS[:, :-1], INPUTS[None], np.int16(3)):
        with pytest.raises(ModelError, match=r"takes int16 of shape \(21,\) or \(n, 21\)"):
            driver.run(inputs)
    assert driver.run(INPUTS[:0]).shape == (0, 5)


def test_nothing_is_sent_of_a_damaged_file(tmp_path):
    data = bytearray(MODEL.read_bytes())
    data[40] ^= 1
    file = tmp_path / "damaged.pleach"
    file.write_bytes(data)
    for network in (file, bytes(data), b"PLCH"):
        with pytest.raises(FormatError):
            Driver(Recorded([])).load(network)
    with pytest.raises(FormatError, match=f"{file}: byte "):
        Driver(Recorded([])).load(file)


def test_interface_is_the_models():
    rng = np.random.default_rng(2)
    conv = Convolution(channels=2, height=7, width=6, kernel_height=3, kernel_width=2, pool=2)
    first = replace(random_layer(rng, conv.columns, 3), convolution=conv)
    maps = CompressedModel([first], InputType.UINT8)
    models = [maps, replace(maps, layers=[first, random_layer(rng, maps.outputs, 9)])]
    models += [random_model(rng, [8, 5, 3]), random_model(rng, [8, 5], density=0)]
    for model in models:
        found = interface(dumps(model))
        wanted = (model.inputs, model.outputs, model.input_type)
        assert (found.inputs, found.outputs, found.input_type) == wanted
