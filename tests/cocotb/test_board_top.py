"""The top of a board as `pleach build --flash` routes it, with models of the chip's cells."""

from pathlib import Path

import pytest

from pleach.engine.protocol import GATEWARE_VERSION
from pleach_hw.boards import board
from pleach_hw.build.flows import flow_of
from pleach_hw.build.synth import elaborated
from pleach_hw.build.top import BoardTop
from pleach_sim.runner import run_cocotb
from tests.cocotb.test_board import ENGINE
from tests.synth.test_cells import ECP5_CELLS

HERE = Path(__file__).parent


@pytest.mark.timeout(600)
def test_a_board_boots_from_its_flash():
    """Pins, PLL, link, flash loader and engine together: see bench_board_top.py."""
    chip = board("ulx3s-85f")
    pll = flow_of(chip.family).pll(chip, 25, 100)
    verilog, _ = elaborated(BoardTop(ENGINE, chip, pll, 6_250_000, flash=1), chip)
    cells = (HERE / "board_cells.v").read_text()
    run_cocotb(
        "\n".join([verilog, cells, ECP5_CELLS]),
        "top",
        "tests.cocotb.bench_board_top",
        parameters={"version": GATEWARE_VERSION},
        python_path=HERE.parents[1],
        ports=("clk25_0__io", "button_0__io", "uart_0__*", "spi_flash_0__*", "led_*"),
    )
