"""Weights into a simulated engine's memories without the two cycles an entry that LOAD takes.

In the Verilog exported for it each block RAM has a second memory beside it, which is filled from a
file when the simulation starts, where there is one, and is read in its place. LOAD then brings what
does not grow with the weights: a model of the same layers and codebooks with one weight a codebook
value. A test holds the files equal to what LOAD of the whole model writes into the memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from amaranth.hdl import ClockSignal, Instance, Module, Shape, Value

from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan, default_plan
from pleach.model import CompressedLayer, CompressedModel
from pleach_hw.build.export import engine_verilog
from pleach_hw.layouts import block_layout, entry_layout

POINTERS, ENTRIES = "pointer_read.blocks", "weight_read.entries"

# Also spares the export an assignment for each word that starts as zero.
_MEMORY = """
module bulk_memory #(parameter WIDTH = 1, DEPTH = 2, ADDRESS = 1) (
  input clk,
  input write_en, input [ADDRESS-1:0] write_addr, input [WIDTH-1:0] write_data,
  input [ADDRESS-1:0] read_addr, output [WIDTH-1:0] read_data
);
  reg [WIDTH-1:0] memory [0:DEPTH-1];
  reg [WIDTH-1:0] bulk [0:DEPTH-1];
  reg bulk_used = 0;
  string folder;
  integer i, file;
  initial begin
    for (i = 0; i < DEPTH; i = i + 1) begin
      memory[i] = 0;
      bulk[i] = 0;
    end
    if ($value$plusargs("bulk=%s", folder)) begin
      file = $fopen({folder, "/", $sformatf("%m")}, "r");
      bulk_used = file != 0;
      if (bulk_used) begin
        $fclose(file);
        $readmemh({folder, "/", $sformatf("%m")}, bulk);
      end
    end
  end
  final if ($value$plusargs("dump=%s", folder))
    $writememh({folder, "/", $sformatf("%m")}, memory);
  always @(posedge clk) if (write_en) memory[write_addr] <= write_data;
  assign read_data = bulk_used ? bulk[read_addr] : memory[read_addr];
endmodule
"""


@dataclass(frozen=True)
class BulkPlatform:
    """Builds block RAMs of `bulk_memory`, all other memories as they are."""

    def get_memory(self, memory):
        if "no_rw_check" not in memory.attrs:
            return memory.elaborate(None)
        (write,), (read,) = memory.write_ports, memory.read_ports
        data = Value.cast(read.data)
        m = Module()
        m.submodules.ram = Instance(
            "bulk_memory",
            p_WIDTH=len(data),
            p_DEPTH=memory.depth,
            p_ADDRESS=len(read.addr),
            i_clk=ClockSignal(),
            i_write_en=write.en,
            i_write_addr=write.addr,
            i_write_data=Value.cast(write.data),
            i_read_addr=read.addr,
            o_read_data=data,
        )
        return m


def bulk_verilog(config: EngineConfig) -> str:
    """An engine whose block RAMs are filled from and written to files of a folder: its
    ``+bulk=FOLDER`` and ``+dump=FOLDER``."""
    return engine_verilog(config, BulkPlatform()) + _MEMORY


def file_name(memory: str, pe: int, config: EngineConfig) -> str:
    """Of a PE's memory, in that folder."""
    return f"engine.group_{pe // config.row_pes}.pe_{pe}.{memory}.memory.ram"


def contents(
    model: CompressedModel, config: EngineConfig, plan: Sequence[LayerPlan] | None = None
) -> dict[str, np.ndarray]:
    """Words of each PE memory that `model`, as it was read from a file, fills: ``[pes, words]`` by
    the memory's name; 0 where a PE has fewer.

    Args:
        plan: of an engine with a map memory.
    """
    pes = config.pes
    teams = iter(_teams(model, config, plan))
    # Columns are dealt out to groups, unless each team has all of them.
    groups = 1 if config.maps else config.groups
    each = [-(-layer.columns // (groups * config.block)) * config.block for layer in model.layers]
    counts = np.zeros((pes, sum(each)), np.int64)
    written = np.zeros((pes, sum(each)), bool)  # columns that there are in the PE's group
    found, base = [], 0
    for layer, columns in zip(model.layers, each, strict=True):
        if config.maps:
            copies = next(teams)
            own = pes // copies
            pe = (np.arange(copies)[:, None] * own + layer.row_of % own).ravel()
            row, column, code = (
                np.tile(part, copies)
                for part in (layer.row_of // own, layer.column_of, layer.codes)
            )
        else:
            pe, row, code = config.pe_of(layer), layer.row_of // config.row_pes, layer.codes
            column = layer.column_of // groups
        np.add.at(counts, (pe, base + column), 1)
        found.append((pe, row, code.astype(np.int64)))
        for group in range(groups):
            there = len(range(group, layer.columns, groups))
            written[group * pes // groups : (group + 1) * pes // groups, base : base + there] = True
        base += columns
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
    starts = (np.cumsum(counts, axis=1) - counts) % config.entries * written
    starts = starts[:, :: config.block]
    blocks = starts.astype(object) << layout["start"].offset
    counts_shape = layout["counts"].shape
    count_bits = Shape.cast(counts_shape).width // config.block
    for column in range(config.block):
        offset = layout["counts"].offset + column * count_bits
        blocks |= counts[:, column :: config.block].astype(object) << offset
    return {POINTERS: blocks, ENTRIES: entries}


def _teams(
    model: CompressedModel, config: EngineConfig, plan: Sequence[LayerPlan] | None
) -> list[int]:
    """Of each layer, on an engine with a map memory."""
    if not config.maps:
        return []
    plan = default_plan(model, config) if plan is None else plan
    nodes = zip(model.graph.nodes, plan, strict=True)
    return [each.teams for node, each in nodes if isinstance(node.op, CompressedLayer)]


def write_contents(
    model: CompressedModel,
    config: EngineConfig,
    folder: Path,
    plan: Sequence[LayerPlan] | None = None,
) -> None:
    """The files for ``+bulk``; `plan` as in `contents`."""
    for memory, words in contents(model, config, plan).items():
        for pe, row in enumerate(words):
            text = "\n".join(f"{word:x}" for word in row.tolist())
            (folder / file_name(memory, pe, config)).write_text(text + "\n")


def skeleton(model: CompressedModel) -> CompressedModel:
    """The same layers and codebooks, with one weight a codebook value."""
    return replace(model, layers=tuple(map(_skeleton, model.layers)))


def _skeleton(layer):
    codes = np.unique(layer.codes)
    return replace(layer, positions=np.arange(len(codes)), codes=codes)
