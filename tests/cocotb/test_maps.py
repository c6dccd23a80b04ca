"""Convolutions on the whole engine, on Verilator: every output of every nasty case, and its cycles
as they are predicted; resets in the middle, and plans that are wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pleach.cycles import CycleModel
from pleach.engine.plan import lower
from pleach.format import dumps
from pleach.host import plan_packet
from pleach.reference import Reference
from pleach_hw.build.export import engine_verilog
from pleach_sim.runner import run_cocotb
from pleach_sim.simulate import TOP, simulate_jobs
from tests.cocotb.map_cases import (
    attacked,
    full_rings,
    idle_teams,
    map_engine,
    nasty_maps,
    overwriting,
)
from tests.cocotb.plans import wrong_plans

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("pes", [1, 4, 16])
def test_nasty_maps(pes):
    """Every case of map_cases.py, one after the other on one engine; some again with pauses."""
    config = map_engine(pes)
    jobs = nasty_maps(config)
    assert full_rings(config, jobs) and overwriting(config, jobs)
    assert idle_teams(config, jobs) or config.groups == 1
    paused = [replace(job, idle="bursts", stall="random") for job in jobs[::6]]
    wrong, counts = {}, {}
    jobs += paused
    for job, result in zip(jobs, simulate_jobs(jobs, config, seed=1), strict=True):
        if not result.bit_exact:
            wrong[job.name] = str(result.mismatch)
        if job.stall != "none":
            assert result.waits["stalled"] > 0, job.name
            continue
        cycles = CycleModel(job.model, config, job.plan).run(job.inputs)
        counted = result.latency_cycles, result.pass_cycles
        predicted = cycles.latency.tolist(), cycles.compute.tolist()
        if counted != predicted:
            counts[job.name] = counted, predicted
    assert not wrong
    assert not counts


@pytest.mark.parametrize("pes", [1, 4, 16])
def test_resets_and_wrong_plans(pes, tmp_path):
    """The tests of bench_maps.py, on the engine of the nasty cases."""
    _attack(map_engine(pes), tmp_path, plans=24 if pes == 4 else 8, resets=1)


@pytest.mark.slow
def test_many_wrong_plans(tmp_path):
    """The same for minutes."""
    _attack(map_engine(4), tmp_path, plans=250, resets=4)


def _attack(config, folder, *, plans, resets):
    """Of each network so many wrong plans, and resets besides those at beginning and end."""
    networks, wrong = [], []
    for number, job in enumerate(attacked()):
        data, file = folder / f"{number}.npz", folder / f"{number}.pleach"
        np.savez(data, inputs=job.inputs, outputs=Reference(job.model).run(job.inputs))
        file.write_bytes(dumps(job.model))
        packet = plan_packet(lower(job.model, config), config)
        networks.append({"name": job.name, "plan": packet, "model": str(file), "data": str(data)})
        wrong += [
            {"network": number, "name": name, "packet": words}
            for name, words in wrong_plans(packet, plans, seed=number)
        ]
    found = run_cocotb(
        engine_verilog(config),
        TOP,
        "tests.cocotb.bench_maps",
        parameters={"networks": networks, "wrong_plans": wrong, "resets": resets},
        python_path=ROOT,
        seed=4,
    )
    assert found["resets_in_a_run"] == 2 * (resets + 2)
    assert found["resets_in_a_packet"] == 4 * (resets + 2)
    what_became = found["wrong_plans"]
    assert what_became["refused"] and what_became["ran"], what_became
    assert sum(map(len, what_became.values())) == len(wrong)
