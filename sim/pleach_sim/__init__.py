"""Whole-engine simulation: cocotb benches, the host side of the packets, the runner."""
