"""Weights into a simulated engine's memories without the two cycles an entry that LOAD takes.

The exported Verilog gets, beside each PE memory, a second one that is filled from a file when the
simulation starts and is read in its place. LOAD then brings what does not grow with the weights: a
model of the same layers and codebooks with one weight a codebook value. A test holds the files
equal to what LOAD of the whole model writes into the memories.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from amaranth.hdl import Shape

from pleach.model import CompressedModel
from pleach.reference import EngineConfig
from pleach_hw.pointer_read import block_layout
from pleach_hw.weight_read import entry_layout

POINTERS, ENTRIES = "pointer_read.blocks", "weight_read.entries"

_MODULE = re.compile(
    r"^module \\engine\.(?P<name>pe_\d+\.(?:pointer_read\.blocks|weight_read\.entries)) .*?"
    r"^endmodule$",
    re.M | re.S,
)
_MEMORY = re.compile(r"^  reg (?P<width>\[\d+:0\] |)memory \[(?P<last>\d+):0\];$", re.M)
_SECOND = """\
  reg {width}bulk [{last}:0];
  reg bulk_used = 0;
  string folder;
  initial if ($value$plusargs("bulk=%s", folder)) begin
    bulk_used = 1;
    $readmemh({{folder, "/{name}"}}, bulk);
  end
  final if ($value$plusargs("dump=%s", folder)) $writememh({{folder, "/{name}"}}, memory);
"""
_READ = "assign read__data = memory[read__addr];"


def with_bulk_memories(verilog: str) -> str:
    """An engine whose PE memories can be filled from and written to files: its ``+bulk=FOLDER`` and
    ``+dump=FOLDER``."""

    def second(module: re.Match) -> str:
        text, name = module[0], module["name"]
        memory = _MEMORY.search(text)
        declared = _SECOND.format(name=name, width=memory["width"], last=memory["last"])
        text = text.replace(memory[0], memory[0] + "\n" + declared)
        assert text.count(_READ) == 1, name
        chosen = "bulk_used ? bulk[read__addr] : memory[read__addr]"
        return text.replace(_READ, f"assign read__data = {chosen};")

    return _MODULE.sub(second, verilog)


def contents(model: CompressedModel, config: EngineConfig) -> dict[str, np.ndarray]:
    """Words of each PE memory that `model`, as it was read from a file, fills: ``[pes, words]`` by
    the memory's name; 0 where a PE has fewer."""
    pes, width = config.pes, config.row_pes
    columns = sum(config.local_columns(layer.columns) for layer in model.layers)
    counts = np.zeros((pes, columns), np.int64)
    found, base = [], 0
    for layer in model.layers:
        pe = config.pe_of(layer)
        np.add.at(counts, (pe, base + layer.column_of // config.groups), 1)
        found.append((pe, layer.row_of // width, layer.codes.astype(np.int64)))
        base += config.local_columns(layer.columns)
    pe, row, code = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(pe, kind="stable")
    totals = counts.sum(axis=1)
    entries = np.zeros((pes, int(totals.max())), np.int64)
    place = np.arange(len(pe)) - np.repeat(np.cumsum(totals) - totals, totals)
    layout = entry_layout(config)
    words = (row << layout["row"].offset) | (code << layout["code"].offset)
    entries[pe[order], place] = words[order]
    # Blocks of pointers are wider than 64 bits: Python's integers.
    layout = block_layout(config)
    starts = (np.cumsum(counts, axis=1) - counts)[:, :: config.block] % config.entries
    blocks = starts.astype(object) << layout["start"].offset
    counts_shape = layout["counts"].shape
    count_bits = Shape.cast(counts_shape).width // config.block
    for column in range(config.block):
        offset = layout["counts"].offset + column * count_bits
        blocks |= counts[:, column :: config.block].astype(object) << offset
    return {POINTERS: blocks, ENTRIES: entries}


def write_contents(model: CompressedModel, config: EngineConfig, folder: Path) -> None:
    """The files for ``+bulk``."""
    for memory, words in contents(model, config).items():
        for pe, row in enumerate(words):
            text = "\n".join(f"{word:x}" for word in row.tolist())
            (folder / f"pe_{pe}.{memory}").write_text(text + "\n")


def skeleton(model: CompressedModel) -> CompressedModel:
    """The same layers and codebooks, with one weight a codebook value."""
    return replace(model, layers=tuple(map(_skeleton, model.layers)))


def _skeleton(layer):
    codes = np.unique(layer.codes)
    return replace(layer, positions=np.arange(len(codes)), codes=codes)
