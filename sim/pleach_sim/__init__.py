"""Whole-engine simulation: cocotb benches, the host side of the packets, the runner."""

from pleach.extras import need

need("amaranth", "cocotb", "cocotb_tools", "cocotbext")
