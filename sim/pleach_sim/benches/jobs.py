"""cocotb test: run models on the engine and compare every output with the reference.

`pleach.host.Driver` talks to the engine. The parameters name a list of jobs, each a ``.pleach``
file and an ``.npz`` with its ``inputs`` and the ``outputs`` to expect. A mismatch is a result, not
a failure of the test: whoever started the run decides. `pleach_sim.simulate` is the way to call it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge

from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan
from pleach.errors import EngineRefused
from pleach.host import Driver
from pleach_sim.bench import EngineBench, SimulatedLink, load_limit, seconds_of
from pleach_sim.runner import parameters, report


@cocotb.test()
async def run_jobs(dut):
    """Load and run every job, one after the other, on an engine that is reset only once."""
    given = parameters()
    bench = await EngineBench.start(dut)
    results = []
    for job in given["jobs"]:
        bench.pause(job["idle"], job["stall"], job["seed"])
        try:
            results.append(await bridge(run_job)(bench, job, seconds_of(given["limit"])))
        except EngineRefused as error:
            raise AssertionError(f"{job['name']}: {error}") from error
    report(jobs=results)


def run_job(bench: EngineBench, job: dict[str, Any], timeout: float) -> dict[str, Any]:
    """One model and its inputs; `timeout` bounds the simulated seconds of a RUN."""
    with np.load(job["data"], allow_pickle=False) as data:
        inputs, expected = data["inputs"], data["outputs"]
    name, file = job["name"], Path(job["model"]).read_bytes()
    engine = EngineConfig(**job["engine"])
    driver = Driver(SimulatedLink(bench), engine=engine, timeout=timeout)
    plan = None if job["plan"] is None else [LayerPlan(*each) for each in job["plan"]]
    driver.load(file, plan=plan, timeout=seconds_of(load_limit(file)))
    latency, compute, mismatches = [], [], []
    for image, (values, wanted) in enumerate(zip(inputs, expected, strict=True)):
        got = driver.run(values)
        if bad := np.flatnonzero(got != wanted).tolist():
            mismatches.append(
                {
                    "image": image,
                    "row": bad[0],
                    "rows": len(bad),
                    "cycle": bench.answered,
                    "expected": int(wanted[bad[0]]),
                    "got": int(got[bad[0]]),
                }
            )
        if len(wanted) % 2:
            assert bench.frame[-1] >> 16 == 0, f"{name}: the last half word is not zero"
        latency.append(bench.latency)
        status = driver.status()
        compute.append(status.compute_cycles)
        assert status.latency_cycles == bench.latency, (
            f"{name}: the engine counted a latency of {status.latency_cycles} cycles, "
            f"its pins had {bench.latency}"
        )
    return {
        "name": name,
        "latency_cycles": latency,
        "compute_cycles": compute,
        "load_cycles": driver.status().load_cycles,
        "waits": bench.waits,
        "mismatches": mismatches,
    }
