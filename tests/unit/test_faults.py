"""bench/faults.py, in short: damage of every kind through the decoder."""

import importlib.util
from pathlib import Path

import numpy as np

from pleach.format import dumps
from tests.strategies import random_model

spec = importlib.util.spec_from_file_location(
    "faults", Path(__file__).parents[2] / "bench/faults.py"
)
faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faults)


def test_damage_of_every_kind():
    files = [
        dumps(random_model(np.random.default_rng(3), widths)) for widths in ([20, 12, 5], [30, 8])
    ]
    files.append(faults.joined())
    counts, longest = faults.run(files, 1500, seed=1)
    kinds = {"bits", "cut", "swap", "section", "header", "layer"}
    assert {kind.split(",")[0] for kind, _ in counts} == kinds
    # Damage got past the CRCs too, and was refused there or made another model.
    behind = {result for kind, result in counts if kind.endswith("right")}
    assert behind == {"refused", "a model"}
    assert longest < 2
