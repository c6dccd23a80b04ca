"""Weights past LOAD are the weights that LOAD writes."""

from dataclasses import asdict

import numpy as np

from pleach.engine import EngineConfig
from pleach.format import dumps, loads, save
from pleach.reference import Reference
from pleach_sim.bulk import bulk_verilog, contents, file_name
from pleach_sim.runner import run_cocotb
from pleach_sim.simulate import JOBS, TOP, Job, simulate_jobs
from tests.cocotb.cases import images
from tests.strategies import random_model

#: that of `test_benches.test_eie` too, so that there is one to build
ENGINE = EngineConfig(
    pes=4,
    groups=2,
    lanes=2,
    layers=2,
    columns=512,
    block=4,
    entries=2048,
    codebook=16,
    accumulators=256,
    queue_depth=32,
    outputs=16384,
)


def network():
    return random_model(np.random.default_rng(3), [64, 40, 10], density=0.25, codebook=8, shift=9)


def test_contents_are_what_load_writes(tmp_path):
    """And with them an engine does the same in the same cycles, but for the loading."""
    model, config = network(), ENGINE
    inputs = images(model, 3)
    np.savez(tmp_path / "data.npz", inputs=inputs, outputs=Reference(model).run(inputs))
    job = {
        "name": "stream",
        "model": str(save(model, tmp_path / "model.pleach")),
        "data": str(tmp_path / "data.npz"),
        "idle": "none",
        "stall": "none",
        "seed": 1,
        "engine": asdict(config),
        "plan": None,
    }
    reported = run_cocotb(
        bulk_verilog(config),
        TOP,
        JOBS,
        parameters={"jobs": [job], "limit": 100_000},
        plusargs=[f"+dump={tmp_path}"],
    )
    held = loads(dumps(model))
    for memory, words in contents(held, config).items():
        for pe, expected in enumerate(words):
            text = (tmp_path / file_name(memory, pe, config)).read_text()
            written = [int(w, 16) for w in text.split() if not w.startswith(("/", "@"))]
            assert written[: len(expected)] == expected.tolist(), (pe, memory)
            assert not any(written[len(expected) :])
    (stream,) = reported["jobs"]
    (bulk,) = simulate_jobs([Job("network", model, inputs)], config, bulk=True)
    assert bulk.bit_exact and not stream["mismatches"]
    assert bulk.latency_cycles == stream["latency_cycles"]
    assert bulk.compute_cycles == stream["compute_cycles"]
    assert bulk.load_cycles < stream["load_cycles"]
