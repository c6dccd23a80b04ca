"""The bitstream: integers to bytes and back. docs/bitstream.md is the specification."""

from pleach.format.bitstream import LayerSizes, dumps, load, loads, parse, save
from pleach.format.huffman import HuffmanTable

__all__ = ["HuffmanTable", "LayerSizes", "dumps", "load", "loads", "parse", "save"]
