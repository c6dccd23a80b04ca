"""The cocotb tests that the library itself runs on an engine or its loader."""
