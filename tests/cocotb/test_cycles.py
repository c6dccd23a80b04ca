"""The cycle model against the RTL: every count equal."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach_sim.simulate import Job, simulate_jobs
from tests.cocotb.cases import nasty, small_engine
from tests.strategies import models, random_inputs


def differences(jobs: list[Job], config: EngineConfig) -> dict[str, tuple]:
    """By job: what the engine counted and what the model says, where they are not the same."""
    wrong = {}
    for job, result in zip(jobs, simulate_jobs(jobs, config), strict=True):
        assert result.bit_exact, job.name
        cycles = CycleModel(job.model, config).run(job.inputs)
        assert np.array_equal(cycles.breakdown.sum(axis=2), cycles.compute)
        counted = (result.latency_cycles, result.compute_cycles)
        predicted = (cycles.latency.tolist(), cycles.compute.tolist())
        if counted != predicted:
            wrong[job.name] = (counted, predicted)
    return wrong


engines = pytest.mark.parametrize(
    "config",
    [
        small_engine(1),
        small_engine(4),
        small_engine(16),
        replace(
            small_engine(16),
            groups=2,
            lanes=8,
            block=2,
            entries=512,
            outputs=256,
            accumulators=64,
            vectors=1,
        ),
    ],
    ids=lambda config: f"{config.pes}-{config.groups}-{config.lanes}-{config.block}",
)


@engines
def test_nasty_models(config):
    assert not differences(nasty(config.pes), config)


@engines
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_models(config, data):
    """Twelve models on each start of the simulator."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    jobs = []
    while len(jobs) < 12:
        model = data.draw(models(max_width=40, max_layers=3))
        if all(need <= getattr(config, name) for name, need in config.needs(model).items()):
            density = float(rng.choice([0.05, 0.5, 1.0]))
            jobs.append(Job(str(len(jobs)), model, random_inputs(rng, model, 2, density)))
    assert not differences(jobs, config)
