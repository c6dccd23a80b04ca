"""The worked example of docs/how-to/system.md: a processor with firmware in C on the registers."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pleach.data import load as dataset
from pleach.engine.headers import c_header
from pleach.engine.protocol import EngineError
from pleach.format import load
from pleach.host import load_packet, run_packet
from pleach.reference import Reference
from pleach_hw.build.export import cached_verilog
from pleach_hw.system import System
from pleach_sim.runner import run_cocotb
from tests.cocotb.system import DIGITS, ENGINE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/riscv"
GCC = "riscv64-unknown-elf-gcc"
IMAGES = 10


@pytest.fixture(scope="module")
def verilog():
    processors = pytest.importorskip("pythondata_cpu_picorv32")
    processor = Path(processors.data_location, "picorv32.v")
    texts = [(EXAMPLE / "soc.v").read_text(), processor.read_text()]
    return "\n".join([*texts, cached_verilog(lambda: System(ENGINE), str(ENGINE), "pleach_system")])


def run(verilog, file, model, inputs, folder):
    """What the firmware wrote of a file and images."""
    packets = [run_packet(values, model.input_type)[1:] for values in inputs]
    words = load_packet(file)[1:]
    data = [len(words), *words, model.outputs, len(packets), len(packets[0])]
    data += [word for packet in packets for word in packet]
    (folder / "data.hex").write_text("\n".join(f"{word:08x}" for word in data))
    files = {"firmware": EXAMPLE / "firmware.hex", "data": folder / "data.hex"}
    found = run_cocotb(
        verilog,
        "soc",
        "tests.cocotb.bench_riscv",
        parameters={"words": 1 + len(packets)},
        python_path=ROOT,
        plusargs=[f"+{name}={path}" for name, path in files.items()],
    )
    return found["written"]


@pytest.mark.timeout(600)
def test_a_processor_classifies(verilog, tmp_path):
    """It loads a network of digits and says the reference's classes, most of them right; a file
    that is damaged is refused, and so are images then."""
    model, digits = load(DIGITS), dataset("digits")
    inputs = model.quantise(digits.test_images[:IMAGES])
    error, *classes = run(verilog, DIGITS.read_bytes(), model, inputs, tmp_path)
    assert error == EngineError.OK
    assert classes == np.argmax(Reference(model).run(inputs), axis=1).tolist()
    assert np.sum(classes == digits.test_labels[:IMAGES]) >= 8
    damaged = bytearray(DIGITS.read_bytes())
    damaged[200] ^= 1
    error, *classes = run(verilog, bytes(damaged), model, inputs[:1], tmp_path)
    assert EngineError(error).name.startswith(("SECTION_CRC", "DATA", "POSITION", "BAD_"))
    assert classes == [0x100 | EngineError.NO_MODEL]


def test_the_firmware_is_the_source_s(tmp_path):
    header = EXAMPLE / "pleach.h"
    assert header.read_text() == c_header(), f"python -m pleach.engine.headers {header}"
    if not shutil.which(GCC):
        pytest.skip(f"no {GCC}: the header alone was compared")
    options = "-march=rv32i -mabi=ilp32 -Os -nostdlib -ffreestanding -T link.ld -o".split()
    program = tmp_path / "firmware.elf"
    subprocess.run([GCC, *options, program, "firmware.c"], cwd=EXAMPLE, check=True)
    made = tmp_path / "firmware.hex"
    copy = [GCC.replace("gcc", "objcopy"), "-O", "verilog", "--verilog-data-width=4"]
    subprocess.run([*copy, program, made], check=True)
    assert made.read_text() == (EXAMPLE / "firmware.hex").read_text()
