"""Weights past LOAD are the weights that LOAD writes."""

import numpy as np

from pleach.format import dumps, loads
from pleach_sim.bulk import bulk_verilog, contents, file_name
from pleach_sim.runner import run_cocotb
from pleach_sim.simulate import JOBS, TOP, Job, simulate_jobs
from tests.cocotb.cases import images, network, small_engine


def test_contents_are_what_load_writes(tmp_path):
    model, config = network(), small_engine(16)
    inputs = images(model, 2)
    np.savez(tmp_path / "data.npz", inputs=inputs, outputs=np.zeros((2, model.outputs)))
    job = {
        "name": "stream",
        "model": str(model.save(tmp_path / "model.pleach")),
        "data": str(tmp_path / "data.npz"),
        "idle": "none",
        "stall": "none",
        "seed": 1,
    }
    run_cocotb(
        bulk_verilog(config),
        TOP,
        JOBS,
        parameters={"jobs": [job], "limit": 100_000},
        plusargs=[f"+dump={tmp_path}"],
    )
    held = loads(dumps(model))
    for memory, words in contents(held, config).items():
        for pe, expected in enumerate(words):
            text = (tmp_path / file_name(memory, pe)).read_text()
            written = [int(w, 16) for w in text.split() if not w.startswith(("/", "@"))]
            assert written[: len(expected)] == expected.tolist(), (pe, memory)
            assert not any(written[len(expected) :])


def test_runs_are_the_same():
    """Outputs, and every count but that of the loading."""
    model, config = network(), small_engine(16)
    job = Job("network", model, images(model, 3))
    (bulk,), (stream,) = (simulate_jobs([job], config, bulk=b) for b in (True, False))
    assert bulk.bit_exact and stream.bit_exact
    assert bulk.latency_cycles == stream.latency_cycles
    assert bulk.compute_cycles == stream.compute_cycles
    assert bulk.load_cycles < stream.load_cycles
