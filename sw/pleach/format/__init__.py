"""The bitstream: integers to bytes and back. docs/bitstream.md is the specification."""

from pleach.format.bitstream import LayerSizes, dumps, load, loads, naming, parse, save
from pleach.format.huffman import HuffmanTable
from pleach.format.interface import Interface, interface
from pleach.format.published import (
    ALEXNET,
    LayerShape,
    PublishedLayer,
    published_layers,
    read_published,
    write_published,
)

__all__ = [
    "ALEXNET",
    "HuffmanTable",
    "Interface",
    "LayerShape",
    "LayerSizes",
    "PublishedLayer",
    "dumps",
    "interface",
    "load",
    "loads",
    "naming",
    "parse",
    "published_layers",
    "read_published",
    "save",
    "write_published",
]
