"""The whole engine, as exported Verilog, on Verilator: outputs, packets, faults, resets."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from vcd.gtkw import GTKWFlag

from pleach.engine import EngineConfig
from pleach.engine.config import PARAMETERS
from pleach.engine.protocol import STATUS_WORDS
from pleach.errors import FormatError, PleachError
from pleach.format import dumps, loads, save
from pleach.reference import Reference
from pleach_hw.build.export import engine_verilog
from pleach_sim.patterns import PATTERNS
from pleach_sim.runner import available, run_cocotb
from pleach_sim.simulate import TOP, Job, simulate, simulate_jobs
from pleach_sim.wave import GROUPS
from tests.cocotb.cases import images, nasty, network, small_engine
from tests.cocotb.damage import LAYER, bad_files, bit_flips, edited, field, too_large

ROOT = Path(__file__).parents[2]

pes = pytest.mark.parametrize("pes", [1, 4, 16])


def assert_exact(results):
    wrong = [str(result.mismatch) for result in results if not result.bit_exact]
    assert not wrong, "\n".join(wrong)


@pes
def test_nasty_models(pes):
    """Every case of tests/cocotb/cases.py, one after the other on one engine."""
    config = small_engine(pes)
    jobs = nasty(config.row_pes)
    results = simulate_jobs(jobs, config, seed=1)
    wrong = {
        job.name: str(result.mismatch)
        for job, result in zip(jobs, results, strict=True)
        if not result.bit_exact
    }
    assert not wrong
    assert sum(result.outputs_compared for result in results) > 1000


@pytest.mark.parametrize("pes", [4, 16])
def test_pauses(pes):
    """Idle host and back-pressure in every combination give the same outputs."""
    model = network(3, (30, 16, 10))
    inputs = images(model, 2)
    pairs = list(product(PATTERNS, PATTERNS))
    jobs = [Job(f"{idle}, {stall}", model, inputs, idle, stall) for idle, stall in pairs]
    results = simulate_jobs(jobs, small_engine(pes), seed=2)
    assert_exact(results)
    for (idle, stall), result in zip(pairs, results, strict=True):
        if stall != "none":
            assert result.waits["stalled"] > 0, (idle, stall)
        if idle != "none":
            assert result.waits["idle"] > result.images, (idle, stall)


@pes
def test_protocol(pes, tmp_path):
    """Packets, errors and resets, on the tests of bench_protocol.py."""
    config = small_engine(pes)
    engine = {
        name: getattr(config, name)
        for word in STATUS_WORDS
        for name in word.fields
        if name in PARAMETERS
    } | {"lanes": config.drained}
    parameters = {"engine": engine}
    small = network(3, (20, 12, 6))
    for name, model in (("a", small), ("b", network(5, (31, 7, 19)))):
        inputs = images(model, 4)
        data = tmp_path / f"{name}.npz"
        np.savez(data, inputs=inputs, outputs=Reference(model).run(inputs))
        file = save(model, tmp_path / f"{name}.pleach")
        parameters[name] = {"model": str(file), "data": str(data), "layers": len(model.layers)}
    parameters["bad_files"] = []
    for number, bad in enumerate([*bad_files(small), *too_large(config)]):
        file = tmp_path / f"bad{number}.pleach"
        file.write_bytes(bad.data)
        parameters["bad_files"].append(
            {
                "name": bad.name,
                "data": str(file),
                "errors": [bad.error, *bad.also],
                "detail": bad.detail,
            }
        )
    flips = bit_flips(dumps(small), 200 if pes == 4 else 40, seed=3)
    np.save(tmp_path / "flips.npy", np.array([np.frombuffer(flip, np.uint8) for flip in flips]))
    parameters["flips"] = str(tmp_path / "flips.npy")
    found = run_cocotb(
        engine_verilog(config),
        TOP,
        "tests.cocotb.bench_protocol",
        parameters=parameters,
        python_path=ROOT,
        seed=4,
    )
    assert found["refused"] == len(parameters["bad_files"]) > 30
    assert found["flips"] == len(flips)
    assert len([error for error, count in found["errors"].items() if count]) >= 3


def test_software_refuses_the_same_files():
    """What the engine is tested to refuse, other than for its size, is no valid file either."""
    for bad in bad_files(network()):
        with pytest.raises(FormatError):
            loads(bad.data)
    for big in too_large(small_engine(4)):
        loads(big.data)


def test_simulate_reports_cycles():
    model = network()
    inputs = images(model, 5)
    result = simulate(model, inputs, small_engine(4), seed=5)
    assert result.bit_exact and result.mismatch is None
    assert result.outputs_compared == 50 and len(result.latency_cycles) == 5
    assert result.load_cycles >= len(dumps(model)) // 4
    trace = Reference(model).trace(inputs)
    for layer, traced in zip(result.layers, trace, strict=True):
        assert layer.macs == traced.macs.mean()
        assert layer.utilisation == pytest.approx(layer.macs / 4 / layer.compute_cycles)
        assert 0 < layer.utilisation <= 1
    assert min(result.latency_cycles) > max(layer.compute_cycles for layer in result.layers)


def test_a_file_is_loaded_as_it_is(tmp_path):
    """Its own bytes, not the model's written anew: more than needed, or than the engine takes."""
    model, config = network(), small_engine(4)
    file = tmp_path / "network.pleach"

    def more(words):
        return np.concatenate([words, [3000 << 8 | 200], np.zeros(3001)]).astype(np.uint32)

    file.write_bytes(edited(dumps(model), more))
    assert simulate(file, images(model, 1), config).load_cycles > 3000
    # It claims wider accumulators than there are, though the sums would fit.
    file.write_bytes(edited(dumps(model), field(LAYER + 2, 13, 6, config.accumulator_bits + 1)))
    with pytest.raises(PleachError, match="CAPACITY|accumulator_bits 41 of 40"):
        simulate(file, images(model, 1), config)
    file.write_bytes(b"PLCH")
    with pytest.raises(FormatError, match="network.pleach: "):
        simulate(file, images(model, 1), config)


@pytest.mark.skipif(available("icarus") is not None, reason=str(available("icarus")))
def test_icarus_agrees():
    """The exported Verilog in another simulator: the same outputs in the same cycles."""
    model = network(6, (20, 12, 6))
    inputs = images(model, 2)
    config = EngineConfig(pes=2, columns=64, entries=256, codebook=64, accumulator_bits=40)
    icarus = simulate(model, inputs, config, simulator="icarus")
    assert icarus.bit_exact
    assert icarus.latency_cycles == simulate(model, inputs, config).latency_cycles


def test_a_mismatch_names_the_layer_and_leaves_a_waveform(tmp_path, monkeypatch):
    """One output of the reference is falsified: image, layer, row and both values are told."""
    model = network()
    inputs = images(model, 3)
    path = save(model, tmp_path / "network.pleach")
    honest = Reference.trace
    wanted = int(honest(Reference(model), inputs)[-1].outputs[1, 2])

    def falsified(self, inputs):
        trace = honest(self, inputs)
        if len(self.model.layers) == len(model.layers):
            trace[-1].outputs[-1 if len(inputs) == 1 else 1, 2] ^= 1
        return trace

    monkeypatch.setattr(Reference, "trace", falsified)
    monkeypatch.setattr(Reference, "run", lambda self, x: falsified(self, x)[-1].outputs)
    result = simulate(path, inputs, small_engine(1), seed=5)
    found = result.mismatch
    assert not result.bit_exact
    assert (found.image, found.layer, found.row, found.rows) == (1, len(model.layers) - 1, 2, 1)
    assert (found.expected, found.got) == (wanted ^ 1, wanted)
    assert result.wave == tmp_path / "network.mismatch.vcd"
    assert "$enddefinitions" in result.wave.read_text()
    check_save_file(result.wave)


def check_save_file(wave):
    """Beside a waveform: every signal that it wants is in the engine, and flags are GTKWave's."""
    text = wave.with_suffix(".gtkw").read_text()
    traces = re.findall(r"^engine\.(\S+?)(\[\d+:0\])?$", text, re.M)
    for patterns in GROUPS.values():
        for pattern in patterns:
            assert any(re.fullmatch(pattern, name) for name, _ in traces), pattern
    opened = re.findall(r"^@(?:800200|c00200)\n-(.*)$", text, re.M)
    assert opened == re.findall(r"^@(?:1000200|1401200)\n-(.*)$", text, re.M)
    assert opened[0] == "clock and reset" and "PE 0 of group 0" in opened
    wide = re.findall(r"^@(\w+)\n\S+\[", text, re.M)
    right, sign = GTKWFlag.rjustify, GTKWFlag.signed
    known = {(right | GTKWFlag.hex).value, (right | sign | GTKWFlag.dec).value}
    assert {int(flags, 16) for flags in wide} == known
