"""tests/golden: the files are what make.py makes, and the engine answers as they say."""

from pathlib import Path

import numpy as np

from pleach.engine import EngineConfig
from pleach.format import load, save
from pleach.reference import Reference
from pleach_hw.build.export import engine_verilog
from pleach_sim.runner import run_cocotb
from pleach_sim.simulate import TOP
from tests.golden import make
from tests.strategies import random_model

ROOT = Path(__file__).parents[2]


def test_files_are_current():
    for name, contents in make.vectors().items():
        assert (make.HERE / name).read_bytes() == contents, f"{name}: python -m tests.golden.make"


def test_files_agree():
    model = load(make.HERE / "model.pleach")
    inputs = np.loadtxt(make.HERE / "inputs.txt", dtype=model.input_type.dtype, ndmin=2)
    outputs = np.loadtxt(make.HERE / "outputs.txt", dtype=np.int16, ndmin=2)
    assert np.array_equal(Reference(model).run(inputs), outputs)
    assert len(outputs) == 4 and np.unique(outputs).size > 10


def test_engine_answers(tmp_path):
    from tests.cocotb.cases import small_engine

    config: EngineConfig = small_engine(4)
    columns = config.columns + 1
    large = random_model(np.random.default_rng(1), [columns, 3], density=0.01, codebook=2)
    found = run_cocotb(
        engine_verilog(config),
        TOP,
        "tests.cocotb.bench_golden",
        parameters={
            "sent": str(make.HERE / "sent.hex"),
            "answers": str(make.HERE / "answers.hex"),
            "model": str(make.HERE / "model.pleach"),
            "large": str(save(large, tmp_path / "large.pleach")),
        },
        python_path=ROOT,
    )
    assert found["packets"] == 8
    assert found["error"] == "CAPACITY"
    assert "short of columns of a group" in found["reason"]
    assert "EngineConfig.columns" in found["reason"]
