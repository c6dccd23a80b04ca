"""The benches at a small scale."""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.cocotb import test_board, test_bulk
from tests.gateware.streams import simulate

BENCH = Path(__file__).parents[2] / "bench"


def bench(name: str):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    # What a bench hands to its workers is found there by the module's name.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_eie(monkeypatch, tmp_path, capsys):
    """Two layers on 4 PEs, past LOAD: outputs and cycles equal, or the bench ends with an error."""
    eie = bench("eie")
    monkeypatch.setattr(eie, "LAYERS", {"a": (700, 60, 10, 40, 900), "b": (90, 300, 11, 100, 900)})
    file = tmp_path / "eie.json"
    options = "--pes 4 --groups 2 --lanes 2 --balance --json".split()
    monkeypatch.setattr(sys, "argv", ["eie.py", *options, str(file)])
    eie.main()
    found = json.loads(file.read_text())
    rows = found["layers"]
    assert found["engine"] == asdict(test_bulk.ENGINE)  # which is built already
    assert [row["layer"] for row in rows] == ["a", "b"]
    for row in rows:
        assert row["bit_exact"] and row["cycles"] == row["predicted_cycles"]
        assert row["utilisation"] == pytest.approx(row["nonzero_macs"] / 4 / row["cycles"])
        assert row["utilisation"] > 0.75


def test_timing(monkeypatch, tmp_path, capsys):
    """One PE and the engine around it, as netlists."""
    monkeypatch.syspath_prepend(BENCH)
    timing = bench("timing")
    monkeypatch.setattr(timing, "CAPACITIES", {1: {"columns": 64, "entries": 64, "codebook": 16}})
    file = tmp_path / "timing.json"
    options = "--pes 1 --chips LFE5U-85F-6 --no-route --json".split()
    monkeypatch.setattr(sys, "argv", ["timing.py", *options, str(file)])
    timing.main()
    rows = json.loads(file.read_text())
    assert [row["design"] for row in rows] == ["PE, 32 rows", "PE, 64 rows", "engine"]
    assert rows[0]["lut4"] < rows[1]["lut4"] < rows[2]["lut4"] <= 6400
    assert abs(rows[2]["estimate"]["lut4"] / rows[2]["lut4"] - 1) < 0.1


def test_estimate(monkeypatch, tmp_path, capsys):
    """A block with a map memory, as a netlist: the estimate of it is near."""
    monkeypatch.syspath_prepend(BENCH)
    estimate = bench("estimate")
    assert set(estimate.BLOCKS) == set(estimate.MAP_LUT4) - {"rest"}
    monkeypatch.setitem(estimate.BLOCKS, "packer", (estimate.Packer, [{}]))
    file = tmp_path / "estimate.json"
    options = "--blocks packer --fit --json".split()
    monkeypatch.setattr(sys, "argv", ["estimate.py", *options, str(file)])
    estimate.main()
    (row,) = json.loads(file.read_text())["blocks"]
    assert row["engine"]["neighbours"] == 8 and row["lut4"] > 100
    assert abs(row["estimate"] / row["lut4"] - 1) < 0.1
    assert '"packer": {"fixed": ' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_estimate_of_an_engine(monkeypatch, tmp_path, capsys):
    """A whole engine with a map memory, as a netlist."""
    monkeypatch.syspath_prepend(BENCH)
    estimate = bench("estimate")
    file = tmp_path / "estimate.json"
    options = "--engines small --json".split()
    monkeypatch.setattr(sys, "argv", ["estimate.py", *options, str(file)])
    estimate.main()
    (row,) = json.loads(file.read_text())["engines"]
    assert abs(row["estimate"]["lut4"] / row["lut4"] - 1) < 0.1
    assert (row["estimate"]["bram"], row["estimate"]["mult"]) == (row["bram"], row["mult"])


def test_lenet(monkeypatch, tmp_path, capsys):
    """LeNet-300-100 on 4 PEs; the clock is that of the JSON of `bench/timing.py`."""
    lenet = bench("lenet")
    file = tmp_path / "lenet.json"
    clocks = [{"design": "engine", "pes": 4, "chip": "LFE5U-85F-6", "fmax_mhz": 100.0}]
    (tmp_path / "timing.json").write_text(json.dumps(clocks))
    options = f"--pes 4 --images 2 --rtl 1 --timing {tmp_path / 'timing.json'} --json".split()
    monkeypatch.setattr(sys, "argv", ["lenet.py", *options, str(file)])
    lenet.main()
    (row,) = json.loads(file.read_text())["runs"]
    assert row["images_compared_with_rtl"] == 1
    assert row["images_per_second"] == pytest.approx(1e8 / row["mean_latency_cycles"])


def test_dense_engine(monkeypatch):
    """The baseline multiplies matrices, in the cycles that are claimed for it."""
    monkeypatch.syspath_prepend(BENCH)
    dense = bench("dense")
    rng = np.random.default_rng(3)
    weights = rng.integers(-128, 128, (6, 20))
    inputs = rng.integers(-32768, 32768, 20)
    dut = dense.DenseEngine(pes=3, weights=64, inputs=32)

    async def run(ctx):
        for column, value in enumerate(inputs.tolist()):
            ctx.set(dut.activation_write, 1)
            ctx.set(dut.activation_addr, column)
            ctx.set(dut.activation_data, value)
            await ctx.tick()
        ctx.set(dut.activation_write, 0)
        for row, values in enumerate(weights.tolist()):
            for column, value in enumerate(values):
                ctx.set(dut.weight_write, 1 << row % 3)
                ctx.set(dut.weight_addr, row // 3 * 20 + column)
                ctx.set(dut.weight_data, value)
                await ctx.tick()
        ctx.set(dut.weight_write, 0)
        ctx.set(dut.columns, 20)
        cycles = 0
        for first in (0, 3):
            ctx.set(dut.base, first // 3 * 20)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            while not ctx.get(dut.done):
                await ctx.tick()
                cycles += 1
            sums = weights[first : first + 3] @ inputs
            assert [ctx.get(dut.sums[pe]) for pe in range(3)] == sums.tolist()
        # The claim is for rows that follow one another without a pause; here is one after each.
        assert cycles == dense.dense_cycles([(20, 3), (20, 3)], 3) - 2

    simulate(dut, run)


def test_link(monkeypatch, tmp_path, capsys):
    """A few faults on the cable of the board that `test_board` has built."""
    link = bench("link")
    assert link.ENGINE == test_board.ENGINE
    monkeypatch.setattr(link, "RUNS", 4)
    file = tmp_path / "link.json"
    options = f"--faults 20 --images 0 --json {file}".split()
    monkeypatch.setattr(sys, "argv", ["link.py", *options])
    link.main()
    found = json.loads(file.read_text())["noise"]
    assert found["faults"] >= 20 and found["runs"] == 4 * found["loads"] > 0
    assert found["wrong"] == found["exceptions"] == 0
