"""The tutorials do what they say, and no page names a command or an option that is not there."""

import ast
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
from click import UsageError
from typer.testing import CliRunner

from pleach.compression.train import pinned_threads
from pleach.format import load
from pleach_cli.app import app
from tests.unit.test_pages import PAGES, ROOT

TUTORIALS = ROOT / "docs/tutorials"
COMMANDS = typer.main.get_command(app).commands


def calls(page: Path) -> list[list[str]]:
    """The arguments of each line of a page that calls pleach."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"^(?: {4}|\$ |)(?:\.venv/bin/)?pleach +([a-z].*)$", text, re.M)
    return [shlex.split(line, comments=True) for line in lines]


def test_commands_on_the_pages_are_there():
    """Their names, and the options of each."""
    seen = 0
    for page in PAGES:
        for name, *given in calls(page):
            where = f"{page.relative_to(ROOT)}: pleach {name} {shlex.join(given)}"
            assert name in COMMANDS, where
            command = COMMANDS[name]
            try:
                command.make_parser(typer.Context(command)).parse_args(list(given))
            except UsageError as error:
                raise AssertionError(f"{where}: {error.format_message()}") from error
            seen += 1
    assert seen > 45


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs(tmp_path, monkeypatch):
    """Each cell, for one epoch; what a cell ends with shows itself."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((TUTORIALS / "network.ipynb").read_text("utf-8"))["cells"]
    names, shown = {}, []
    with pinned_threads():
        for cell in cells:
            if cell["cell_type"] != "code":
                continue
            source = "".join(cell["source"])
            assert not cell["outputs"]
            body = ast.parse(source.replace("epochs = 15", "epochs = 1"))
            last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
            exec(compile(body, "network.ipynb", "exec"), names)
            if last is not None:
                shown.append(
                    eval(compile(ast.Expression(last.value), "network.ipynb", "eval"), names)
                )
    data, rows, model, report, page = shown
    assert "10 classes" in repr(data) and len(rows) == 2
    assert repr(model).startswith("CompressedModel(1×8×8 → 0 ") and len(repr(model)) < 120
    assert "<td>5</td>" in model._repr_html_() and "<td>pruned</td>" in report._repr_html_()
    assert "<svg" in page._repr_html_() and (tmp_path / "digits.html").stat().st_size > 20_000


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_of_a_network(tmp_path, monkeypatch):
    """Its files, its program for one epoch, and its commands but for the simulation."""
    page = TUTORIALS / "network.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S):
        name = re.match(r"# (\w+\.py)\n", block)[1]
        (tmp_path / name).write_text(block.replace("range(15)", "range(2)"), "utf-8")
    try:
        with pinned_threads():
            exec(compile((tmp_path / "train.py").read_text(), "train.py", "exec"), {})
            said = {}
            for given in calls(page):
                if given[0] in ("simulate", "build"):
                    continue
                given = ["1" if each == "6" else each for each in given]
                result = CliRunner().invoke(app, given, catch_exceptions=False)
                assert result.exit_code == 0, result.output
                said[given[0]] = result.output
    finally:
        sys.modules.pop("mynet", None)
    assert "All of it runs on an engine with a map memory" in said["check"]
    assert load("mynet.pleach").line.startswith("1×8×8 → 0 8×3×3 padding 1 ReLU, pool 2 → 5 10")
    assert "open it in a browser" in said["report"] and Path("mynet.html").exists()
