"""docs/results.md says what the benches found."""

import importlib.util
import json
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def _results():
    spec = importlib.util.spec_from_file_location("results", BENCH / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_from_what_the_benches_wrote():
    results = _results()
    records = results.read()
    assert records and set(records) <= set(results.COMMANDS)
    assert results.PAGE.read_text() == results.page(records)
    for name, record in records.items():
        assert record["command"] == f"python bench/{results.COMMANDS[name]}"


def test_a_figure_that_is_changed_by_hand_is_noticed():
    results = _results()
    records = results.read()
    changed = json.loads(json.dumps(records))
    changed["eie"]["found"]["layers"][0]["cycles"] -= 1
    assert results.page(changed) != results.PAGE.read_text()
