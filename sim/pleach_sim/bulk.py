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
from amaranth.lib import data

from pleach.model import CompressedModel
from pleach.reference import EngineConfig
from pleach_hw.pointer_read import pointer_layout
from pleach_hw.weight_read import entry_layout

POINTERS, ENTRIES = "pointer_read.pointers", "weight_read.entries"

_MODULE = re.compile(
    r"^module \\engine\.(?P<name>pe_\d+\.(?:pointer_read\.pointers|weight_read\.entries)) .*?"
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
    columns = sum(layer.columns for layer in model.layers)
    counts = np.zeros((columns, config.pes), np.int64)
    found, base = [], 0
    for layer in model.layers:
        pe = layer.row_of % config.pes
        np.add.at(counts, (base + layer.column_of, pe), 1)
        found.append((pe, layer.row_of // config.pes, layer.codes.astype(np.int64)))
        base += layer.columns
    pe, row, code = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(pe, kind="stable")
    totals = counts.sum(axis=0)
    entries = np.zeros((config.pes, int(totals.max())), np.int64)
    place = np.arange(len(pe)) - np.repeat(np.cumsum(totals) - totals, totals)
    entries[pe[order], place] = _packed(entry_layout(config), row=row, code=code)[order]
    starts = np.cumsum(counts, axis=0) - counts
    starts %= config.entries  # of a column without entries behind the last one
    pointers = _packed(pointer_layout(config), start=starts, count=counts)
    return {POINTERS: pointers.T, ENTRIES: entries}


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


def _packed(layout: data.StructLayout, **values: np.ndarray) -> np.ndarray:
    return sum(value << layout[name].offset for name, value in values.items())
