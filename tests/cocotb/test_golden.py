"""tests/golden: the files are what make.py makes, and the engine answers as they say."""

from pathlib import Path

import numpy as np

from pleach.engine import EngineConfig
from pleach.format import load
from pleach.reference import Reference
from pleach_hw.build.export import engine_verilog
from pleach_sim.runner import run_cocotb
from pleach_sim.simulate import TOP
from tests.golden import make

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


def test_engine_answers():
    from tests.cocotb.cases import small_engine

    config: EngineConfig = small_engine(4)
    found = run_cocotb(
        engine_verilog(config),
        TOP,
        "tests.cocotb.bench_golden",
        parameters={
            "sent": str(make.HERE / "sent.hex"),
            "answers": str(make.HERE / "answers.hex"),
        },
        python_path=ROOT,
    )
    assert found["packets"] == 8
