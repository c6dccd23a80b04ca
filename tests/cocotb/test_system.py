"""An engine in a system: bench_system.py on one simulator, with a small network."""

from pathlib import Path

import numpy as np
import pytest

from pleach.format import save
from pleach.reference import Reference
from pleach_hw.build.export import cached_verilog
from pleach_hw.build.system import pynq_class
from pleach_hw.system import System
from pleach_sim.runner import run_cocotb
from tests.cocotb.cases import images, network
from tests.cocotb.system import ENGINE, FLASH_AT

HERE = Path(__file__).parents[2]
PORTS = ("s_axil_*", "irq", "cs_n", "sck", "copi", "cipo")


@pytest.mark.timeout(600)
def test_system(tmp_path):
    """Every register, two hosts, interrupts, resets, the flash: see bench_system.py."""
    model = network(3, (40, 16, 10))
    inputs = images(model, 8)
    file = save(model, tmp_path / "model.pleach")
    np.savez(tmp_path / "data.npz", inputs=inputs, outputs=Reference(model).run(inputs))
    run_cocotb(
        cached_verilog(
            lambda: System(ENGINE, flash=FLASH_AT, divider=1), f"{ENGINE} {FLASH_AT} 1", "system"
        ),
        "system",
        "tests.cocotb.bench_system",
        parameters={
            "model": str(file),
            "data": str(tmp_path / "data.npz"),
            "layers": ENGINE.layers,
            "pynq": pynq_class(),
        },
        python_path=HERE,
        ports=PORTS,
    )
