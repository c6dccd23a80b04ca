"""A whole engine after synthesis: `pytest -m slow tests/synth/test_gates.py`, some minutes."""

import numpy as np
import pytest

from pleach.cycles import CycleModel
from pleach_hw.boards import board
from pleach_hw.build.export import to_verilog
from pleach_hw.engine import Engine
from pleach_sim import simulate
from tests.strategies import random_inputs, random_model
from tests.synth.test_cells import LARGE, gates


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_gates_of_a_small_engine(monkeypatch):
    """The iCEBreaker's engine as cells gives the reference's words in the cycle model's cycles."""
    chip = board("icebreaker")
    verilog = to_verilog(Engine(chip.engine), platform=chip)
    text, _ = gates({simulate.TOP: verilog}, chip.family)[simulate.TOP]
    monkeypatch.setattr(simulate, "engine_verilog", lambda *_: "\n".join([text, *LARGE]))
    rng = np.random.default_rng(1)
    model = random_model(rng, [90, 60, 40, 12])
    inputs = random_inputs(rng, model, 4, 0.6)
    (result,) = simulate.simulate_jobs([simulate.Job("gates", model, inputs)], chip.engine)
    assert result.bit_exact, result.mismatch
    assert result.latency_cycles == CycleModel(model, chip.engine).run(inputs).latency.tolist()
