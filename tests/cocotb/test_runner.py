"""The runner: shared builds, results, waveforms, and every way in which a run can go wrong."""

import os
import re
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from pleach.errors import ConfigError, ToolError
from pleach_hw.build.cache import cache_folder
from pleach_hw.build.export import to_verilog
from pleach_sim import runner
from pleach_sim.patterns import PATTERNS, pauses
from pleach_sim.runner import available, run_cocotb
from tests.cocotb.small import Inverter

ROOT = Path(__file__).parents[2]


@cache
def verilog():
    return to_verilog(Inverter(), "inverter")


def run(test_filter, **options):
    return run_cocotb(
        verilog(),
        "inverter",
        "tests.cocotb.bench_small",
        parameters={"seed": 3},
        python_path=ROOT,
        test_filter=test_filter,
        **options,
    )


def test_verilog_is_the_same_every_time_and_has_plain_ports():
    text = verilog()
    assert text == to_verilog(Inverter(), "inverter")
    ports = re.search(r"module inverter\((.*?)\);", text)[1].split(", ")
    streams = [f"{s}_axis_t{n}" for s in "sm" for n in ("data", "valid", "ready", "last")]
    assert sorted(ports) == sorted(["clk", "rst", *streams])


def test_results_and_shared_build(tmp_path, monkeypatch):
    """Two runs at once without a build yet build once; what the test reports comes back. Cache,
    simulator and libraries are all where make cannot take them from."""
    run("passes")  # so that Verilator's library is there, which takes longer than the rest
    cache = tmp_path / "the user's cache"
    cache.mkdir()
    (cache / "verilator-objects").symlink_to(cache_folder() / "verilator-objects")
    monkeypatch.setenv("PLEACH_CACHE", str(cache))
    installed = tmp_path / "site packages"
    installed.mkdir()
    for name, path in (tools := runner._tools()).items():
        if path.is_dir():
            shutil.copytree(path, installed / name)
        else:
            (installed / name).symlink_to(path)
    monkeypatch.setattr(runner, "_tools", lambda: {name: installed / name for name in tools})
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, ("passes", "passes"))
    assert first == second and first["words"] == 200
    assert first["waits"]["idle"] > 50 and first["waits"]["stalled"] > 20
    assert len([path for path in (cache / "verilator").iterdir() if path.is_dir()]) == 1


def test_no_folder_that_make_can_take(tmp_path, monkeypatch):
    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path / "the user's cache"))
    monkeypatch.setattr(runner, "_PLAIN", re.compile("nothing"))
    with pytest.raises(ToolError, match="a path has a space .* set TMPDIR"):
        run("passes")


def test_an_interrupt_leaves_no_folder(tmp_path, monkeypatch):
    """The simulator is ended in the middle of its run, and what it had written is removed."""
    run("passes")  # so that it is built
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupt():
        while not list(tmp_path.glob("pleach-sim-*/simulation.log")):
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            run("takes_too_long")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("test_filter", "message"),
    [
        ("no such test", "no test matches 'no such test' in tests.cocotb.bench_small"),
        ("fails", "fails: inverted words are not the words"),
        ("waits_for_ever", "no answer to two words within 50 cycles; .* m_axis_tvalid=1"),
        ("dies", "ended without results"),
    ],
)
def test_failures_are_errors_that_name_the_log(test_filter, message, tmp_path):
    with pytest.raises(ToolError, match=message) as raised:
        run(test_filter, folder=tmp_path)
    log = re.search(r"log is (\S+)", str(raised.value))[1]
    assert Path(log).exists() and Path(log).parent == tmp_path


def test_simulation_that_never_ends():
    with pytest.raises(ToolError, match="took over 2 s"):
        run("takes_too_long", timeout=2)


def test_design_that_does_not_build():
    with pytest.raises(ToolError, match="could not build the design") as raised:
        run_cocotb("module top(input clk); nonsense; endmodule", "top", "tests.cocotb.bench_small")
    log = Path(re.search(r"log is (\S+)", str(raised.value))[1])
    assert "nonsense" in log.read_text()


def test_waveform(tmp_path):
    wave = tmp_path / "wave.vcd"
    run("passes", wave=wave)
    assert "m_axis_tdata" in wave.read_text()


def test_unknown_simulator():
    with pytest.raises(ConfigError, match="must be verilator or icarus, not 'modelsim'"):
        run("passes", simulator="modelsim")


@pytest.mark.skipif(available("icarus") is not None, reason=str(available("icarus")))
def test_icarus():
    assert run("passes", simulator="icarus")["words"] == 200


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_pause_and_go_on(pattern):
    if pattern == "none":
        assert pauses("none") is None
        return
    first = list(islice(pauses(pattern, 5), 500))
    assert first == list(islice(pauses(pattern, 5), 500))
    assert 0.2 < sum(first) / 500 < 0.95
    with pytest.raises(ConfigError, match="pattern must be one of none, alternate"):
        pauses("sometimes")
