"""The command line: what it prints, for people and machines, and how it fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pleach import data
from pleach.engine import EngineConfig
from pleach.format import load, loads, save
from pleach.model import Activation, CompressedModel, Convolution
from pleach.reference import Reference
from pleach_hw.boards import boards
from tests.strategies import random_model, random_part


def process(*args, code=0, **options):
    """The command in a process of its own: returns its standard output and error."""
    done = subprocess.run(
        [sys.executable, "-c", "from pleach_cli import main; main()", *map(str, args)],
        capture_output=True, text=True, timeout=240, **options,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_train_and_compress(digits):
    folder, trained, summary = digits
    assert trained["error_pct"] < 12
    assert [stage["name"] for stage in summary["stages"]] == [
        "dense", "pruned", "shared", "fixed point",
    ]  # fmt: skip
    data = (folder / "net.pleach").read_bytes()
    assert summary["file_bytes"] == len(data)
    assert summary["dense_bytes"] == 4 * (65 * 24 + 25 * 20 + 21 * 10)
    assert summary["ratio"] == summary["dense_bytes"] / len(data) > 5
    assert loads(data).inputs == 64


def test_same_seed_same_bytes(digits, pleach):
    folder, _, summary = digits
    again = json.loads(
        pleach("compress", folder / "net.safetensors", "--config", folder / "settings.toml",
               "--dataset", "digits", "-o", folder / "again.pleach", "--json")[0]
    )  # fmt: skip
    assert again["sha256"] == summary["sha256"]


def test_info(digits, pleach):
    folder, _, summary = digits
    info = json.loads(pleach("info", folder / "net.pleach", "--json")[0])
    for key in ("file_bytes", "dense_bytes", "ratio", "sha256", "layers"):
        assert info[key] == summary[key]
    layer = info["layers"][0]
    assert layer["shape"][0] <= 24 and layer["shape"][1] == 64  # neurons may have been removed
    bits = sum(row["kept"] * (row["weight_bits"] + row["index_bits"]) for row in info["layers"])
    assert bits / 8 < info["file_bytes"] < bits / 8 + 600
    text = pleach("info", folder / "net.pleach")[0]
    assert "Default engines" in text
    assert "holds it: orangecrab-25f, ulx3s-12f" in " ".join(text.split())
    # The smallest board's own engine is made for less.
    assert info["boards"] == [each.name for each in boards() if each.name != "icebreaker"]
    with_convolutions = Path(__file__).parents[2] / "bench/models/lenet_5_small.pleach"
    text = " ".join(pleach("info", with_convolutions)[0].split())
    assert "It runs on engines with a map memory: layer 'conv1' is a convolution." in text
    assert f"built by: pleach build --board orangecrab-25f {with_convolutions}" in text
    rows = json.loads(pleach("info", with_convolutions, "--json")[0])["engines"]
    assert [row["pes"] for row in rows] == [1, 2, 4, 8, 16, 32, 64]
    assert all(row["needs"]["maps"] == 4096 for row in rows)


def test_evaluate(digits, pleach):
    folder, _, summary = digits
    result = json.loads(pleach("evaluate", folder / "net.pleach", "--json")[0])
    assert result["inputs"] == 360
    assert result["error_pct"] == pytest.approx(summary["stages"][-1]["error"])


def test_explore(digits, pleach):
    """Engines of every listed kind, the chips that hold them, and the plot."""
    folder, _, _ = digits
    sweep = ("explore", folder / "net.pleach", "--dataset", "digits", "--images", 3)
    small = "--pes 2,64 --groups 1 --lanes 1 --queue-depth 16 --block 1".split()
    found = json.loads(pleach(*sweep, *small, "--json", "--plot", folder / "engines.svg")[0])
    two, many = found["engines"]
    assert (two["engine"]["pes"], many["engine"]["pes"]) == (2, 64)
    assert two["latency_cycles"] > many["latency_cycles"] and two["pareto"] and many["pareto"]
    assert two["boards"] == [board.name for board in boards() if board.family == "ecp5"]
    assert "<svg" in (folder / "engines.svg").read_text()
    fit = json.loads(pleach(*sweep, *small, "--board", "ulx3s-25f", "--json")[0])
    assert [row["engine"]["pes"] for row in fit["engines"]] == [2]
    text = pleach(*sweep, *small)[0]
    assert "orangecrab-25f" in text and "…" not in text
    _, said = pleach(*sweep, *small[2:], "--pes", "64", "--board", "ulx3s-25f", code=2)
    assert "none of the 1 engines fits ulx3s-25f" in said
    assert "--pes takes integers with commas" in pleach(*sweep, "--pes", "few", code=2)[1]
    assert "from 1 to 64, not 3" in pleach(*sweep, "--pes", "2,3", code=2)[1]
    assert "no such engine" in pleach(*sweep, "--pes", "1", "--groups", "2", code=2)[1]


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    """A convolutional network on digits, as a file; its channels do not have the same work."""
    rng = np.random.default_rng(3)
    shape = Convolution(1, 8, 8, 3, 3, padding=(1, 1, 1, 1))
    first = random_part(rng, shape, 8, density=0.8, shift=7)
    kept = (first.row_of % 4 == 0) | (rng.random(first.kept) < 0.4)
    first = replace(first, positions=first.positions[kept], codes=first.codes[kept])
    second = random_part(
        rng, replace(shape, channels=8, pool=2, pool_stride=2), 8, density=0.3, shift=12
    )
    last = random_part(rng, None, 10, inputs=128, density=0.2, shift=11, activation=Activation.NONE)
    save(CompressedModel((first, second, last)), path := tmp_path_factory.mktemp("c") / "c.pleach")
    return path


def test_explore_engines_with_a_map_memory(convolutional, pleach):
    sweep = ("explore", convolutional, "--dataset", "digits", "--images", 1)
    small = "--pes 4,8 --groups 2 --neighbours 8 --accumulators 16,64".split()
    found = json.loads(pleach(*sweep, *small, "--json")[0])["engines"]
    assert len(found) == 4 and all(row["engine"]["maps"] == 1024 for row in found)
    assert {row["engine"]["accumulators"] for row in found} == {16, 64}
    four, eight = (
        min(row["latency_cycles"] for row in found if row["engine"]["pes"] == pes) for pes in (4, 8)
    )
    assert eight < 0.75 * four
    tables = [row["estimate"]["lut4"] for row in found]
    assert min(tables) > 10_000 and len(set(tables)) == 4
    small[1:] = "4 --groups 2 --neighbours 4 --accumulators 16 --maps".split()
    text = pleach(*sweep, *small, "1024,2048")[0]
    assert "ring" in text and "\nbest: pes=4 " in text and "maps=1024" in text
    refused = pleach(*sweep, *small, "256", code=1)[1]
    assert "maps" in refused and "1024" in refused


def test_balance_of_channels(convolutional, pleach, tmp_path):
    call = ("balance", convolutional, "--dataset", "digits", "--pes", 4, "--images", 3, "--json")
    even = json.loads(pleach(*call, "-o", tmp_path / "even.pleach")[0])
    assert even["latency_cycles"] < 0.95 * even["latency_cycles_before"]
    inputs = np.random.default_rng(0).integers(0, 256, (9, 64)).astype(np.uint8)
    before, after = (Reference(load(f)).run(inputs) for f in (convolutional, even["file"]))
    assert np.array_equal(before, after) and len(np.unique(before)) > 9


def test_balance(digits, pleach):
    folder, _, summary = digits
    even = json.loads(
        pleach("balance", folder / "net.pleach", "--dataset", "digits", "--pes", 4, "-o",
               folder / "even.pleach", "--json")[0]
    )  # fmt: skip
    assert even["latency_cycles"] < even["latency_cycles_before"]
    assert even["bytes_before"] == summary["file_bytes"]
    before, after = loads((folder / "net.pleach").read_bytes()), folder / "even.pleach"
    inputs = np.random.default_rng(0).integers(0, 256, (50, 64)).astype(np.uint8)
    assert np.array_equal(Reference(before).run(inputs), Reference(load(after)).run(inputs))


def test_sensitivity_plot(digits, pleach):
    folder, _, _ = digits
    plot = folder / "sensitivity.png"
    pleach("sensitivity", folder / "net.safetensors", "--dataset", "digits", "--plot", plot)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_demo_without_a_download(tmp_path, pleach, monkeypatch):
    """The README's first command, on digits; a second call trains nothing and says the same."""
    monkeypatch.chdir(tmp_path)
    call = ("demo", "--dataset", "digits", "--images", 2, "--json")
    first = json.loads(pleach(*call)[0])
    assert first["simulation"]["bit_exact"] and first["simulation"]["outputs_compared"] == 20
    assert first["stages"][-1]["error"] < 12 and first["ratio"] > 10
    written = (tmp_path / "build/demo/digits.pleach").stat()
    assert json.loads(pleach(*call)[0]) == first
    assert (tmp_path / "build/demo/digits.pleach").stat().st_mtime_ns == written.st_mtime_ns
    # The same file, by its own command: the same engine and answers.
    file = "build/demo/digits.pleach"
    run = ("simulate", file, "--images", 2, "--pes", 16)
    alone = json.loads(pleach(*run, "--json")[0])
    about = {key: alone[key] for key in ("network", "numbers")}
    about["data"] = first["data"] | {"scaling": alone["data"]["scaling"]}
    assert alone == first["simulation"] | about and alone["numbers"] == [0, 1]
    labels = data.load("digits").test_labels[:2]
    wrong = np.mean(np.array(alone["predictions"]) != labels)
    assert alone["error_pct"] == 100 * wrong and alone["metric"] == "error_pct"
    text, log = pleach(*run)
    assert f"classes: {', '.join(map(str, alone['predictions']))}\n" in text
    assert "\nengine: pes=16 groups=1 lanes=4 " in text
    steps = ["2 inputs on 16 PEs in verilator", "computing what the engine must answer"]
    steps += ["writing the engine's Verilog", "running in verilator", "done"]
    # A slow machine says where it is again.
    assert list(dict.fromkeys(re.findall(r"\d s\] (.*)", log))) == steps
    assert "mnist or digits" in pleach("demo", "--dataset", "own.npz", code=2)[1]


def test_a_description_that_was_damaged_is_none(tmp_path):
    from pleach_cli.demo import _described

    file = tmp_path / "digits.json"
    for text in ("{", "[" * 100_000, "[]", "{}", '{"summary": 3}', "\xff"):
        file.write_text(text, "latin-1")
        assert _described(file) == {}
    assert _described(tmp_path / "none.json") == {}


def test_export(tmp_path, pleach):
    (tmp_path / "engine.toml").write_text("pes = 2\ncolumns = 64\nentries = 64\n")
    out = json.loads(
        pleach("export", "--engine", tmp_path / "engine.toml", "--set", "layers=2", "-o",
               tmp_path / "e.v", "--json")[0]
    )  # fmt: skip
    assert out["engine"]["columns"] == 64 and out["engine"]["layers"] == 2
    text = (tmp_path / "e.v").read_text()
    assert "module engine(" in text and "s_axis_tdata" in text


def test_help_answers_at_once_and_has_examples(pleach):
    script = (
        "import sys; from pleach_cli.app import app; "
        "heavy = {'torch', 'numba', 'scipy', 'amaranth', 'cocotb', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    text, _ = process("--help")
    commands = ("demo", "train", "compress", "info", "evaluate", "simulate", "export", "synth")
    for command in commands:
        assert command in text
        assert "Example: pleach " + command in " ".join(pleach(command, "--help")[0].split())


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["info", "missing.pleach"], 2, "does not exist"),
        (["frobnicate"], 2, "No such command"),
        (["info", "damaged.pleach"], 1, "CRC does not match"),
        (["info", "short.pleach"], 1, "truncated"),
        (["evaluate", "odd.pleach"], 1, "no data set has 7 inputs"),
        (["evaluate", "odd.pleach", "--dataset", "digits"], 1, "takes 7 inputs"),
        (["export", "--pes", "12"], 2, "power of two"),
        (["export", "--set", "columns=100"], 2, "power of two"),
        (["export", "--engine", "bad.toml"], 2, "did you mean 'columns'"),
        (["simulate", "odd.pleach", "--set", "entries=2"], 1, "entries"),
        (["export", "--set", "colums=64"], 2, "did you mean 'columns'"),
        (["export", "--set", "columns"], 2, "NAME=VALUE"),
        (["simulate", "odd.pleach", "--simulator", "spice"], 2, "verilator or icarus"),
        (["synth", "--board", "abacus"], 2, "no board is called"),
        (["build", "--board", "abacus"], 2, "no board is called"),
        (["build", "--board", "icebreaker", "--flash"], 2, "--flash is of a model"),
        (["program", "."], 1, "has no bitstream with its manifest.json: make one with"),
        (["compress", "damaged.safetensors"], 1, "not a checkpoint"),
        (["compress", "pickle.pt"], 1, "never run"),
        (["compress", "text.pt"], 1, "text.pt is not a checkpoint or is damaged"),
        (["compress", "eleven.npz"], 1, "eleven.npz holds numpy arrays, which are data"),
        (["compress", "odd.pleach", "--config", "damaged.pleach"], 2, "is not a TOML file"),
        (["export", "--engine", "damaged.pleach"], 2, "damaged.pleach is not a TOML file"),
        (["export", "--set", "entries=100"], 2, "not 100: 128 is the next"),
        (["compress", "odd.pleach"], 1, "odd.pleach is not a checkpoint"),
        (["evaluate", "ten.pleach", "--dataset", "eleven.npz"], 1, "labels up to 10"),
        (["info", "long.pleach"], 1, "long.pleach: byte 8: the header says"),
        (["convert", "odd.pleach", "-o", "odd.onnx"], 2, "write a .net"),
        (["train", "-o", "."], 1, ".: Is a directory"),
        (["export", "-o", "bad.toml/engine.v"], 1, "bad.toml/engine.v: Not a directory"),
        (["explore", "odd.pleach", "--plot", "engines.xyz"], 2, ".png, .svg or .pdf"),
        (["train", "--seed", "-1"], 2, "--seed"),
        (["train", "--hidden", "0"], 2, "--hidden takes widths"),
        (["train", "--hidden", "99999999999"], 2, "--hidden takes widths"),
        (["train", "--seed", str(1 << 65)], 2, "--seed"),
        (["train", "--hidden", "many"], 2, "--hidden takes widths"),
        (["train", "--dataset", "imagenet"], 1, "no data set is called"),
    ],
)
def test_mistakes(args, code, says, tmp_path, in_process, monkeypatch):
    import pickle

    odd = random_model(np.random.default_rng(0), [7, 5, 3])
    save(odd, tmp_path / "odd.pleach")
    data = (tmp_path / "odd.pleach").read_bytes()
    (tmp_path / "short.pleach").write_bytes(data[:-4])
    (tmp_path / "damaged.pleach").write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    (tmp_path / "damaged.safetensors").write_bytes(data)
    (tmp_path / "text.pt").write_text("hello world, I am text")
    (tmp_path / "long.pleach").write_bytes(data + bytes(8))
    save(random_model(np.random.default_rng(0), [7, 10]), tmp_path / "ten.pleach")
    arrays = {"images": np.zeros((11, 7), np.uint8), "labels": np.arange(11)}
    splits = {f"{s}_{name}": a for s in ("train", "test") for name, a in arrays.items()}
    np.savez(tmp_path / "eleven.npz", **splits)
    (tmp_path / "bad.toml").write_text("colums = 64\n")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": print}, protocol=2))
    monkeypatch.chdir(tmp_path)
    found, _, err = in_process(*args)
    assert found == code
    assert says in " ".join(err.replace("│", " ").split())


def test_a_simulator_that_is_not_there(tmp_path, in_process, monkeypatch):
    (tmp_path / "odd.pleach").write_bytes(b"never looked at")
    monkeypatch.setenv("PATH", str(tmp_path))
    for simulator, package in (("icarus", "install iverilog"), ("verilator", "install g++ make")):
        code, _, err = in_process("simulate", tmp_path / "odd.pleach", "--simulator", simulator)
        assert code == 1 and package in " ".join(err.split())


def test_an_interrupt_is_no_traceback(tmp_path):
    """It comes while the command waits for what a pipe has to say."""
    os.mkfifo(pipe := tmp_path / "model.pleach")
    command = [sys.executable, "-c", "from pleach_cli import main; main()", "info", pipe]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        writer = None
        while writer is None and process.poll() is None:
            try:
                writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    os.close(writer)
    assert (process.returncode, said) == (130, "pleach: interrupted\n")


def test_a_model_that_does_not_fit_is_refused_with_the_numbers():
    from pleach.errors import CapacityError

    model = random_model(np.random.default_rng(0), [40, 30, 3], density=0.5)
    config = EngineConfig(pes=2, columns=32, entries=64)
    with pytest.raises(CapacityError, match=r"columns 72 of 32.*entries \d+ of 64"):
        config.check(model)
    config.grown(model).check(model)


def test_sensitivity(digits, pleach):
    folder, _, _ = digits
    out, _ = pleach("sensitivity", folder / "net.safetensors", "--dataset", "digits", "--images",
                    300, "--json")  # fmt: skip
    scan = json.loads(out)
    assert [layer["layer"] for layer in scan["layers"]] == ["fc1", "fc2", "fc3"]
    for layer in scan["layers"]:
        assert len(layer["errors"]) == len(layer["densities"])
        # Most of a layer can go for nothing, nearly all of it cannot.
        assert layer["errors"][0] < scan["dense_error_pct"] + 5 < layer["errors"][-1]
