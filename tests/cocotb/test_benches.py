"""The benches at a small scale."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def bench(name: str):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_eie(monkeypatch, tmp_path, capsys):
    """Two layers on 4 PEs, past LOAD: outputs and cycles equal, or the bench ends with an error."""
    eie = bench("eie")
    monkeypatch.setattr(eie, "LAYERS", {"a": (700, 60, 10, 40, 900), "b": (90, 300, 11, 100, 900)})
    file = tmp_path / "eie.json"
    options = "--pes 4 --groups 2 --lanes 2 --balance --json".split()
    monkeypatch.setattr(sys, "argv", ["eie.py", *options, str(file)])
    eie.main()
    rows = json.loads(file.read_text())["layers"]
    assert [row["layer"] for row in rows] == ["a", "b"]
    for row in rows:
        assert row["bit_exact"] and row["cycles"] == row["predicted_cycles"]
        assert row["utilisation"] == pytest.approx(row["nonzero_macs"] / 4 / row["cycles"])
        assert row["utilisation"] > 0.75
