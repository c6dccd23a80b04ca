"""What the commands print, whatever the names are and wherever it goes."""

import inspect
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pleach.format import save
from pleach.model import Activation, CompressedLayer, CompressedModel
from pleach_cli.app import app
from pleach_cli.common import OUTPUTS
from pleach_cli.output import print_table, progress, say, shortened
from tests.strategies import random_model

MODELS = Path(__file__).parents[2] / "bench/models"


def renamed(model: CompressedModel, *names: str) -> CompressedModel:
    from dataclasses import replace

    layers = [replace(layer, name=name) for layer, name in zip(model.layers, names, strict=True)]
    return replace(model, layers=tuple(layers))


@pytest.fixture
def small():
    return random_model(np.random.default_rng(0), [64, 12, 10])


def test_names_are_no_markup(tmp_path, pleach, small, monkeypatch):
    """Square brackets, emoji codes and backslashes, in tables, lines, errors and the log."""
    folder = tmp_path / "runs[exp1][bold]"
    folder.mkdir()
    name = r"a[/red]:smile:\[b]"
    file = save(renamed(small, name, "[i]out[/i]"), folder / "net:dog:.pleach")
    for command in (
        ("info", file),
        ("evaluate", file, "--dataset", "digits"),
        ("balance", file, "--dataset", "digits", "-o", folder / "even[1].pleach"),
        ("convert", file, "-o", folder / "net[1].safetensors"),
    ):
        out, _ = pleach(*command)
        assert str(folder) in out, command
        assert command[0] != "info" or name in out
    (folder / "no[t].pleach").write_bytes(b"nothing")
    assert f"pleach: {folder}/no[t].pleach: " in pleach("info", folder / "no[t].pleach", code=1)[1]
    data = folder / "x[y].npz"
    assert f"{data}" in pleach("evaluate", file, "--dataset", data, code=1)[1]
    monkeypatch.chdir(folder)
    assert "'no[b].pleach' does not exist" in pleach("info", "no[b].pleach", code=2)[1]


def test_a_terminal_is_told_nothing_by_a_name(tmp_path, pleach, small):
    """A layer and a file whose names would clear the screen, or end the line."""
    file = save(renamed(small, "\x1b[2Jfc\r\n1", "\u202e2"), tmp_path / "net\x1b[2J.pleach")
    out, _ = pleach("info", file)
    assert r"net\x1b[2J.pleach: " in out and r"\x1b[2Jfc\r\n1" in out and r"\u202e2" in out
    assert all(c.isprintable() or c == "\n" for c in out)
    found = json.loads(pleach("info", file, "--json")[0])
    assert found["layers"][0]["name"] == "\x1b[2Jfc\r\n1" and found["file"] == str(file)


def test_bytes_that_are_no_text(tmp_path, in_process, monkeypatch):
    """A file's name that is no UTF-8, and a standard output that takes ASCII only."""
    shutil.copy(MODELS / "lenet_300_100_small.pleach", os.fsencode(tmp_path) + b"/\xff.pleach")
    monkeypatch.chdir(tmp_path)
    for encoding in ("utf-8", "ascii"):
        code, out, err = in_process("info", os.fsdecode(b"\xff.pleach"), encoding=encoding)
        assert code == 0, err
        assert out.startswith(r"\udcff.pleach: 7,476 bytes for 1,066,440")


def test_piped_tables_are_as_wide_as_they_are(tmp_path, pleach, small, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    long = [f"features.encoder.layer.{n}.intermediate.dense" for n in range(2)]
    file = save(renamed(small, *long), tmp_path / f"{'long' * 20}.pleach")
    for command in (
        ("info", file),
        ("explore", file, "--pes", "1,2", "--groups", 1, "--lanes", 1, "--block", 1),
        ("convert", file, "-o", tmp_path / "net.net"),
    ):
        out, _ = pleach(*command, *(("--dataset", "digits") if command[0] == "explore" else ()))
        assert "…" not in out
    out, _ = pleach("info", file)
    row = next(line for line in out.splitlines() if line.startswith(long[0] + " "))
    assert row.split()[1] == f"{12 * 65:,}" and row.split()[-1].isdecimal()
    assert out.splitlines()[0].endswith("×")  # one line, however long


def test_a_narrow_terminal_shortens_names_only(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    figures = ["1,234,567", "98.76", "1,234,567,890"]
    for width in (80, 45, 5):
        monkeypatch.setenv("COLUMNS", str(width))
        print_table("[T]", ["layer", "a", "b", "c"], [["encoder.layer.11.fc1", *figures]])
        row = capsys.readouterr().out.splitlines()[-1]
        assert row.split()[1:] == figures
        assert width < 45 or len(row) <= width
    assert shortened("encoder.layer.11.fc1", 8) == "enco…fc1"


def test_info_prints_what_is_true_where_no_engine_can_be(tmp_path, pleach):
    """5,000 rows for few PEs are more than an accumulator file can hold."""

    def layer(name, inputs, outputs):
        return CompressedLayer(
            name, inputs=inputs, outputs=outputs, bias=False, positions=np.arange(5), codes=[0] * 5,
            codebook=[3], shift=0, activation=Activation.RELU, bias_exponent=0, output_fraction=0,
        )  # fmt: skip

    model = CompressedModel((layer("wide", 20, 5000), layer("out", 5000, 10)))
    file = save(model, tmp_path / "wide.pleach")
    out, _ = pleach("info", file)
    assert "wide.pleach" in out and "100,000" in out and "ulx3s-45f" in out
    assert "No engine of 1 PEs can hold it." in out
    found = json.loads(pleach("info", file, "--json")[0])
    assert [row["pes"] for row in found["engines"]] == [2, 4, 8, 16, 32, 64]
    huge = CompressedModel((layer("wide", 20, 65535),))
    found = json.loads(pleach("info", save(huge, tmp_path / "huge.pleach"), "--json")[0])
    assert [row["pes"] for row in found["engines"]] == [16, 32, 64]


def test_a_bar_takes_no_markup(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("a[/b]") as update:
        update("c[/d]:dog:", 1, 2, "[bold]")
    assert "c[/d]:dog:, [bold]" in capsys.readouterr().err


def test_a_log_shows_life(capsys, monkeypatch):
    """A line when a step begins, one every half minute, one at the end."""
    now = [100.0]
    monkeypatch.setattr("pleach_cli.output.time.monotonic", lambda: now[0])
    with progress("training [x]") as update:
        for epoch in range(1, 5):
            now[0] += 11
            update("pruned", epoch, 4, f"loss {1 / epoch:.1f}")
        update("shared")
    assert capsys.readouterr().err.splitlines() == [
        "[     0 s] training [x]",
        "[    11 s] pruned, 1 of 4, loss 1.0",
        "[    44 s] shared",
        "[    44 s] done",
    ]


def test_a_log_shows_life_while_nobody_reports(capsys, monkeypatch):
    """As while a simulator is compiled; what is said is the latest that is known."""
    monkeypatch.setattr("pleach_cli.output.REPORT_EVERY", 0.01)
    with progress("building") as update:
        update("running", 1, 9)
        update("running", 2, 9)
        said = ""
        while said.count("running, 2 of 9") < 2:
            said += capsys.readouterr().err
    after = capsys.readouterr().err
    assert after.splitlines()[-1].endswith("] done")
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_say_takes_styles_and_no_markup(capsys):
    say("[red]a", ("[b]", "bold"), " c" * 60)
    assert capsys.readouterr().out == f"[red]a[b]{' c' * 60}\n"


@pytest.mark.parametrize(
    "args",
    [
        ("compress", "net.safetensors", "-o", "net.safetensors"),
        ("compress", "net.safetensors", "--config", "s.toml", "-o", "hard.toml"),
        ("compress", "net.safetensors", "--dataset", "d.npz", "-o", "link.npz"),
        ("balance", "net.pleach", "-o", "./net.pleach"),
        ("balance", "net.pleach", "--engine", "s.toml", "-o", "s.toml"),
        ("convert", "net.pleach", "-o", "link.net"),
        ("simulate", "net.pleach", "--wave", "net.pleach"),
        ("export", "--engine", "s.toml", "-o", "s.toml"),
        ("train", "--dataset", "d.npz", "-o", "d.npz"),
        ("explore", "net.pleach", "--plot", "plot.svg"),
        ("explore", "net.pleach", "-o", "net.pleach"),
        ("export", "--model", "net.pleach", "-o", "../x/net.pleach"),
        ("sensitivity", "net.safetensors", "--plot", "s.svg"),
    ],
)
def test_what_is_read_is_never_written_over(args, tmp_path, in_process, small, monkeypatch):
    """The same file by any path or link; nothing is touched."""
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    save(small, Path("net.pleach"))
    for name in ("net.safetensors", "s.toml", "d.npz"):
        Path(name).write_text("text")
    os.link("s.toml", "hard.toml")
    os.symlink("d.npz", "link.npz")
    os.symlink("net.pleach", "link.net")
    os.symlink("net.pleach", "plot.svg")
    os.symlink("net.safetensors", "s.svg")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    code, _, err = in_process(*args)
    assert code == 2 and f"{Path(args[-1])} would be written over what is read" in err
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_unwinds(number, code, in_process, monkeypatch):
    """What a command has to clear up is cleared up, and the handlers are as they were."""
    import pleach.format

    cleared = []

    def slow(*_):
        try:
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 10)
        finally:
            cleared.append(True)

    monkeypatch.setattr(pleach.format, "load", slow)
    found, _, err = in_process("evaluate", MODELS / "lenet_300_100_small.pleach")
    assert (found, err, cleared) == (code, f"pleach: ended by {number.name}\n", [True])
    assert signal.getsignal(number) == signal.SIG_DFL


def test_two_results_are_not_one_file(tmp_path, in_process, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = save(small, tmp_path / "net.pleach")
    code, _, err = in_process("explore", file, "-o", "a.svg", "--plot", "./a.svg")
    assert code == 2 and "a.svg would be written twice" in err
    assert [path.name for path in tmp_path.iterdir()] == ["net.pleach"]


def test_every_path_of_a_command_is_read_or_written():
    """A new option that is a file to write has to be in the list of those."""
    seen = []
    for command in app.registered_commands:
        for name, parameter in inspect.signature(
            command.callback, eval_str=True
        ).parameters.items():
            kind, info = parameter.annotation.__origin__, parameter.annotation.__metadata__[0]
            if Path in (kind, *get_args(kind)):
                assert name in OUTPUTS or info.exists or not info.file_okay, (command.name, name)
                seen.append((command.name, name))
    assert {("compress", "config"), ("explore", "output"), ("export", "model")} <= set(seen)
