"""Convolutions on the whole engine, on Verilator: every output of every nasty case, and its cycles
as they are predicted."""

from dataclasses import replace

import pytest

from pleach.cycles import CycleModel
from pleach.model import Pool
from pleach_sim.simulate import simulate_jobs
from tests.cocotb.map_cases import full_rings, map_engine, nasty_maps


@pytest.mark.parametrize("pes", [1, 4, 16])
def test_nasty_maps(pes):
    """Every case of map_cases.py, one after the other on one engine; some again with pauses."""
    config = map_engine(pes)
    jobs = nasty_maps(config)
    assert full_rings(config, jobs)
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
        layers = [not isinstance(node.op, Pool) for node in job.model.graph.nodes]
        counted = result.latency_cycles, result.compute_cycles
        predicted = cycles.latency.tolist(), cycles.compute[:, layers].tolist()
        if counted != predicted:
            counts[job.name] = counted, predicted
    assert not wrong
    assert not counts
