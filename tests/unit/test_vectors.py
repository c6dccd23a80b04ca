"""Vectors for hardware of one's own: the C model equals the reference on every value of every
layer. That the testbench runs the packets shows tests/cocotb/test_export.py."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

import pleach
from pleach import vectors
from pleach.engine.protocol import Command
from pleach.model import CompressedModel
from pleach.reference import Reference
from pleach.vectors import write_all
from pleach_cli.app import app
from tests.cocotb.map_cases import map_engine, nasty_maps

GOLDEN = Path("tests/golden")
STRICT = "-std=c99 -O0 -Wall -Wextra -Werror -Wconversion -Wno-sign-conversion -pedantic".split()
SANE = "-fsanitize=undefined,address -fno-sanitize-recover=all".split()


CC = shutil.which("cc") or "gcc"


def compiled(folder, *options, arithmetic=()):
    """Exit code and last words of the program in a folder of the C model."""
    made = arithmetic or ("pleach_check.c", "pleach_net.c")
    subprocess.run(
        [CC, *STRICT, *options, "-o", "check", *made, "pleach_net_data.c"], cwd=folder, check=True
    )
    ran = subprocess.run(["./check"], cwd=folder, capture_output=True, text=True)
    return ran.returncode, ran.stdout.strip()


def test_the_c_model_is_the_reference(tmp_path):
    """Kernels, strides, paddings, groups, pools, skips, scales, clips and signs; and it is strict C
    that adds and shifts within its types."""
    jobs = nasty_maps(map_engine(4))
    assert len(jobs) > 20
    source = Path(vectors.__file__).parent
    once = []
    for name in ("pleach_check", "pleach_net"):
        once.append(str(tmp_path / f"{name}.o"))
        subprocess.run([CC, *STRICT, "-c", source / f"{name}.c", "-o", once[-1]], check=True)
    for number, job in enumerate(jobs):
        folder = tmp_path / str(number)
        folder.mkdir()
        pleach.save(job.model, folder / "m.pleach")
        write_all(folder / "m.pleach", job.inputs, folder / "v")
        # The sanitisers take as long as all the rest: few of the cases.
        sane = number % 12 == 5
        options = {} if sane else {"arithmetic": once}
        code, said = compiled(folder / "v" / "c", *(SANE if sane else ()), **options)
        assert code == 0, f"{job.name}: {said}"
        assert said == f"{len(job.inputs)} images, every layer and every output equal"


def test_a_wrong_value_is_told(tmp_path):
    model = pleach.load(GOLDEN / "model.pleach")
    rng = np.random.default_rng(2)
    inputs = rng.integers(0, 200, (2, model.inputs)).astype(model.input_type.dtype)
    write_all(GOLDEN / "model.pleach", inputs, tmp_path)
    answers = tmp_path / "c" / "outputs.txt"
    first, *rest = answers.read_text().split(" ")
    answers.write_text(" ".join([str(int(first) + 1), *rest]))
    code, said = compiled(tmp_path / "c")
    assert code == 1 and said.startswith(f"image 0: output value 0 is {first}, must be ")


def test_what_is_written(tmp_path):
    """Arrays and lines of hexadecimal say the same; where the engine takes a plan, it is first."""
    job = next(job for job in nasty_maps(map_engine(4)) if job.model.layers[0].skip is None)
    pleach.save(job.model, tmp_path / "m.pleach")
    files = write_all(tmp_path / "m.pleach", job.inputs, tmp_path / "v", engine=map_engine(4))
    assert set(files) == {path for path in (tmp_path / "v").rglob("*") if path.is_file()}
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    for name, about in manifest["arrays"].items():
        values = np.load(tmp_path / "v" / f"{name}.npy")
        assert list(values.shape) == about["shape"]
        lines = (tmp_path / "v" / f"{name}.hex").read_text().split()
        bits = about["bits"]
        again = [int(line, 16) - (int(line, 16) >> bits - 1 << bits) for line in lines]
        assert again == (values.ravel().astype(np.int64)).tolist()
    model: CompressedModel = job.model
    outputs = np.load(tmp_path / "v" / "outputs.npy")
    assert (outputs == Reference(model).run(job.inputs)).all()
    first = (tmp_path / "v" / "sent.hex").read_text().split()[0]
    assert int(first, 16) & 255 == Command.PLAN


def test_the_command(tmp_path, monkeypatch):
    file = Path("bench/models/lenet_300_100_small.pleach").resolve()
    monkeypatch.chdir(tmp_path)
    given = ["vectors", str(file), "--images", "1", "--pes", "4", "--memories", "--json"]
    found = CliRunner().invoke(app, given)
    assert found.exit_code == 0, found.output
    files = json.loads(found.stdout)["files"]
    assert {"sent.hex", "c/pleach_net.c", "verilog_testbench.v", "01_fc1.sums.npy"} <= set(files)
    assert sum(name.startswith("memories/") for name in files) == 4 * 2
    assert all((tmp_path / "vectors" / name).is_file() for name in files)
