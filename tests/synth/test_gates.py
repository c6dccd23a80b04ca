"""Whole engines after synthesis, with models of the vendors' cells: they load a network of digits
and classify as the reference does; one with a map memory runs convolutions. ``pytest -m slow
tests/synth/test_gates.py``: half a minute each, four for the convolutions, and a few seconds once
they are built."""

import re

import pytest

from pleach.cycles import CycleModel
from pleach.data import load as dataset
from pleach.engine import EngineConfig
from pleach.format import load
from pleach_hw.build.export import to_verilog
from pleach_hw.engine import Engine
from pleach_sim import simulate
from tests.cocotb.map_cases import attacked
from tests.cocotb.system import DIGITS, ENGINE
from tests.synth.test_cells import CHIPS, ECP5_CELLS, LARGE, gates

#: what the netlist must have: the multiplier, and memories of both kinds
CELLS = {
    "ecp5": {"MULT18X18D", "DP16KD", "TRELLIS_DPR16X4", "TRELLIS_FF", "LUT4", "CCU2C"},
    "iCE40": {"SB_MAC16", "SB_RAM40_4K", "SB_LUT4", "SB_CARRY"},
    "gowin": {"MULT18X18", "DPX9B", "RAM16SDP4", "LUT4", "ALU"},
}


#: holds two small networks: a residual with a pool, and a mean over a map; two teams share windows
MAP_ENGINE = EngineConfig(
    pes=2,
    groups=2,
    lanes=1,
    columns=256,
    entries=512,
    codebook=32,
    codes=16,
    accumulators=32,
    entry_rows=8,
    queue_depth=8,
    vectors=2,
    maps=256,
    neighbours=4,
    serial_loader=True,
)


def with_gates(config, family, monkeypatch):
    """What is simulated from now on is this engine after synthesis for a chip."""
    verilog = to_verilog(Engine(config), platform=CHIPS[family])
    text, netlist = gates({simulate.TOP: verilog}, family)[simulate.TOP]
    cells = set(re.findall(r"^  cell \\(\w+) ", netlist, re.M))
    assert cells >= CELLS[family], cells
    hard = {"ecp5": [ECP5_CELLS], "iCE40": LARGE, "gowin": []}[family]
    monkeypatch.setattr(simulate, "engine_verilog", lambda *_: "\n".join([text, *hard]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", CELLS)
def test_gates_classify_digits(family, monkeypatch):
    """Every output is the reference's, in the cycle model's cycles, with the cells of the chip."""
    with_gates(ENGINE, family, monkeypatch)
    digits, model = dataset("digits"), load(DIGITS)
    inputs = model.quantise(digits.test_images[:12])
    (result,) = simulate.simulate_jobs([simulate.Job("gates", model, inputs)], ENGINE)
    assert result.bit_exact, result.mismatch
    assert result.latency_cycles == CycleModel(model, ENGINE).run(inputs).latency.tolist()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gates_run_convolutions(monkeypatch):
    """Every output of both networks is the reference's, in the cycle model's cycles."""
    with_gates(MAP_ENGINE, "ecp5", monkeypatch)
    jobs = attacked()
    for job, result in zip(jobs, simulate.simulate_jobs(jobs, MAP_ENGINE), strict=True):
        assert result.bit_exact, f"{job.name}: {result.mismatch}"
        assert (
            result.latency_cycles
            == CycleModel(job.model, MAP_ENGINE).run(job.inputs).latency.tolist()
        )
