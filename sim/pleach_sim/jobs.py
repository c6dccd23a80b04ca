"""cocotb test: run models on the engine and compare every output with the reference.

The parameters name a list of jobs, each a ``.pleach`` file and an ``.npz`` with its ``inputs`` and
the ``outputs`` to expect. A mismatch is a result, not a failure of the test: whoever started the
run decides. `pleach_sim.simulate` is the way to call it.
"""

from __future__ import annotations

from pathlib import Path

import cocotb
import numpy as np

from pleach.engine.protocol import EngineError
from pleach.model import InputType
from pleach_sim.bench import EngineBench
from pleach_sim.runner import parameters, report


@cocotb.test()
async def run_jobs(dut):
    """Load and run every job, one after the other, on an engine that is reset only once."""
    given = parameters()
    bench = await EngineBench.start(dut)
    results = [await run_job(bench, job, given["limit"]) for job in given["jobs"]]
    report(jobs=results)


async def run_job(bench: EngineBench, job: dict, limit: int) -> dict:
    """One model and its inputs; `limit` bounds the cycles of a RUN."""
    with np.load(job["data"], allow_pickle=False) as data:
        inputs, expected = data["inputs"], data["outputs"]
    input_type = InputType.UINT8 if inputs.dtype == np.uint8 else InputType.INT16
    name = job["name"]
    bench.pause(job["idle"], job["stall"], job["seed"])
    answer = await bench.load(Path(job["model"]).read_bytes())
    assert answer.error == EngineError.OK, (
        f"{name}: LOAD was refused with {answer.error.name}, detail {answer.detail}"
    )
    latency, compute, mismatches = [], [], []
    started = bench.cycle()
    for image, (values, wanted) in enumerate(zip(inputs, expected, strict=True)):
        answer = await bench.run(values, input_type, limit)
        assert answer.error == EngineError.OK, (
            f"{name}: RUN of image {image} was refused with {answer.error.name}"
        )
        words = -(-len(wanted) // 2)
        assert len(answer.words) == words, (
            f"{name}: image {image} gave {len(answer.words)} words of output, not {words}"
        )
        got = answer.outputs(len(wanted))
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
            assert answer.words[-1] >> 16 == 0, f"{name}: the last half word is not zero"
        latency.append(bench.latency)
        status = await bench.status()
        compute.append(status.compute_cycles)
        assert status.latency_cycles == bench.latency, (
            f"{name}: the engine counted a latency of {status.latency_cycles} cycles, "
            f"its pins had {bench.latency}"
        )
    return {
        "name": name,
        "latency_cycles": latency,
        "compute_cycles": compute,
        "load_cycles": (await bench.status()).load_cycles,
        "cycles": bench.cycle() - started,
        "waits": bench.waits,
        "mismatches": mismatches,
    }
