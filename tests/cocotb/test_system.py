"""An engine in a system: bench_system.py on one simulator, with a network of digits."""

from pathlib import Path

import numpy as np
import pytest

from pleach.data import load as dataset
from pleach.format import load
from pleach.reference import Reference
from pleach_hw.build.export import cached_verilog
from pleach_hw.build.system import pynq_class
from pleach_hw.system import System
from pleach_sim.runner import run_cocotb
from tests.cocotb.system import DIGITS, ENGINE, FLASH_AT

HERE = Path(__file__).parents[2]
PORTS = ("s_axil_*", "irq", "cs_n", "sck", "copi", "cipo")


@pytest.mark.timeout(600)
def test_system(tmp_path):
    """Every register, two hosts, interrupts, resets, the flash: see bench_system.py."""
    model = load(DIGITS)
    inputs = model.quantise(dataset("digits").test_images[:8])
    np.savez(tmp_path / "data.npz", inputs=inputs, outputs=Reference(model).run(inputs))
    run_cocotb(
        cached_verilog(
            lambda: System(ENGINE, flash=FLASH_AT, divider=1), f"{ENGINE} {FLASH_AT} 1", "system"
        ),
        "system",
        "tests.cocotb.bench_system",
        parameters={
            "model": str(DIGITS),
            "data": str(tmp_path / "data.npz"),
            "layers": ENGINE.layers,
            "pynq": pynq_class(),
        },
        python_path=HERE,
        ports=PORTS,
    )
