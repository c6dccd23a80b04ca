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
    assert results.SURVEY_PAGE.read_text() == results.survey(records)
    for name, record in records.items():
        assert record["command"] == f"python bench/{results.COMMANDS[name]}"


def test_a_figure_that_is_changed_by_hand_is_noticed():
    results = _results()
    records = results.read()
    changed = json.loads(json.dumps(records))
    changed["eie"]["found"]["layers"][0]["cycles"] -= 1
    assert results.page(changed) != results.PAGE.read_text()


def test_the_readme_says_what_the_page_says():
    records = _results().read()
    readme = " ".join((BENCH.parent / "README.md").read_text().split())
    for row in records["compression"]["found"]:
        if row["recipe"].endswith("_small"):
            figures = f"{row['bytes']:,} bytes ({row['ratio']:.1f}×) at {row['error_pct']:.2f} %"
            assert figures in readme
    assert f"{records['eie']['found']['geometric_mean']:.3f} times fewer" in readme
    assert all(row["cycles"] < row["eie_cycles"] for row in records["eie"]["found"]["layers"])
