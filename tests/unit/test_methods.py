"""The list of methods: each is found, says its source and when to use it, and is on the page."""

import importlib.util
import json
import pkgutil
import sys
import tomllib
from pathlib import Path

import pytest

import pleach.compression
from pleach.compression.kinds import Kinds
from pleach.compression.methods import KINDS, families, methods, page
from pleach.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs/methods.md"
BENCH = Path(__file__).parents[2] / "bench"
SURVEY = {
    name: row
    for section in tomllib.loads((BENCH / "survey.toml").read_text("utf-8")).values()
    for name, row in section.items()
    if name != "title"
}


@pytest.fixture(scope="module")
def bench():
    """bench/methods.py."""
    spec = importlib.util.spec_from_file_location("methods_bench", BENCH / "methods.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_family_is_found():
    folders = [f.name for f in pkgutil.iter_modules(pleach.compression.__path__) if f.ispkg]
    there = [
        family
        for folder in folders
        for family in vars(importlib.import_module(f"pleach.compression.{folder}")).values()
        if isinstance(family, Kinds)
    ]
    assert len(there) >= 8 and {id(f) for f in there} == {id(f) for f in families().values()}
    assert set(families()) <= set(KINDS), (
        "a family that pleach.compression.methods has no place for"
    )


def test_every_method_says_what_it_is_from_and_when_to_use_it():
    found = methods()
    for method in found:
        assert method.source and method.title and method.text, method
        assert method.use, (
            f"{method.module}: the docstring of {method.name} has no paragraph that begins with "
            "'Use it'"
        )
    assert len({(method.kind, method.name) for method in found}) == len(found) > 40


def test_the_survey_is_there_and_nothing_is_missing_in_it(bench):
    there = {f"{method.kind} {method.name}" for method in bench.all_methods()}
    named = {kind for row in SURVEY.values() for kind in row["kinds"]}
    assert named <= there
    ours = {"allocation layer", "allocation network", "regulariser l1", "regulariser weight_decay"}
    later = {"criterion wanda", "quantiser entropy"}  # than the survey
    assert there - named == ours | later | {"path deep_compression"}


def test_the_survey_s_tests_are_there():
    for row in SURVEY.values():
        for test in row["tests"]:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (Path(__file__).parent / file).read_text("utf-8"), test


def test_what_the_bench_runs_keeps_the_density_on_either_network(bench):
    for network, target in bench.TARGETS.items():
        budget = bench.Budget(target.density)
        sizes = bench.sizes(network)
        left = []
        for method in bench.all_methods():
            try:
                assert bench.steps_of(method, budget, network)
            except ConfigError as error:
                left.append(f"{method.kind} {method.name}")
                assert str(error)
        assert sorted(left) == sorted(f"{kind} {name}" for kind, name in bench.NOT_HERE)
        densities = budget.layers(network)
        kept = sum(densities[name] * size for name, size in sizes.items())
        assert kept == pytest.approx(target.density * sum(sizes.values()))
        assert all(0 < density <= 1 for density in densities.values())


def test_the_best_are_those_of_the_least_product_and_other_files(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    rows = []
    for number, (name, error) in enumerate([("a", 3.0), ("b", 2.0), ("c", 2.0), ("d", 9.0)]):
        (tmp_path / name).write_bytes(b"same" if name in "bc" else name.encode())
        figures = {"error_pct": error, "bytes": 10 + number, "cycles_16_pes": 5 + number}
        rows.append({"kind": "criterion", "method": name, "seed": 0, "file": name} | figures)
    found = bench.best(rows, 2)
    assert found == {("criterion", "b"), ("criterion", "a"), ("path", "deep_compression")}
    picture = bench.plot(rows)
    assert picture.count("<circle") == 2 * 4 + 1 and ">b</text>" in picture
    assert ">d</text>" not in picture


def test_the_page_is_the_code_s():
    assert PAGE.read_text("utf-8") == page(), (
        "make it again: pleach methods --page > docs/methods.md"
    )


def test_the_command(pleach):
    found = json.loads(pleach("methods", "--json")[0])["methods"]
    assert [(each["kind"], each["name"]) for each in found] == [(m.kind, m.name) for m in methods()]
    assert {"name", "kind", "source", "needs", "settings"} <= set(found[0])
    (lda,) = [each for each in found if each["name"] == "lda"]
    assert lda["needs"] == ["samples", "classes", "granularity channel"]
    assert lda["settings"] == {"samples": 1024} and lda["setting"] == "prune.criterion"
    only = json.loads(pleach("methods", "schedule", "--json")[0])["methods"]
    assert {each["kind"] for each in only} == {"schedule"} and len(only) >= 4
    out, _ = pleach("methods", "obs")
    assert "Hassibi and Stork 1993" in out and "Use it where there is no time to retrain" in out
    assert pleach("methods", "--page")[0] == page()
    assert (
        "no kind or method is called 'ob': did you mean 'ob" in pleach("methods", "ob", code=2)[1]
    )
