"""Load a file into the loader alone and read back the weights that it gave out.

The loader is the engine's own, RTL on Verilator; what it writes to the processing elements is
gathered instead of stored. So a network may be larger than any engine. It is the loader of an
engine with a map memory, which takes every kind of layer.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pleach.engine import EngineConfig
from pleach.engine.maps import MapPass, MapProgram, PassKind
from pleach.engine.protocol import EngineError
from pleach.errors import ToolError
from pleach.format import loads
from pleach.model import CompressedModel, Pool
from pleach_hw.build.export import cached_verilog
from pleach_hw.load.readback import COLUMN, ENTRY, VALUE, VERDICT, Readback
from pleach_sim.runner import run_cocotb

TOP = "readback"


def read_back(
    data: bytes, config: EngineConfig | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions and values, int64 and int16, of each layer's weights as the RTL decoded them.

    Args:
        data: the file.
        config: capacities of the loader, for one PE; they grow to what the file needs. Files that
            fit the same ones share a simulator.

    Raises:
        FormatError: as `pleach.format.loads`.
        ToolError: the loader refused the file, or the simulator failed.
    """
    model = loads(data)
    config = _holding(config or EngineConfig(pes=1), model)
    with tempfile.TemporaryDirectory() as folder:
        file, words = Path(folder) / "file", Path(folder) / "words.npy"
        plan = _plan(model).packet(config).astype("<u4").tobytes()
        file.write_bytes(data)
        Path(folder, "plan").write_bytes(plan)
        run_cocotb(
            cached_verilog(lambda: Readback(config), repr(config), TOP),
            TOP,
            "pleach_sim.benches.readback",
            parameters={
                "packets": [str(Path(folder, "plan")), str(file)],
                "words": str(words),
                "limit": _limit(model, data),
            },
        )
        return _layers(model, np.load(words, allow_pickle=False))


def _holding(config: EngineConfig, model: CompressedModel) -> EngineConfig:
    """A loader of as much room as the file needs; the map memory itself is not there."""
    sections = len(model.graph.nodes)
    need = config.needs(model) | {"layers": sections}
    need["accumulators"] = max(layer.outputs for layer in model.layers)
    need["scales"] = sum(layer.outputs for layer in model.layers if layer.scales is not None)
    more: dict[str, Any] = {
        name: 1 << (value - 1).bit_length()
        for name, value in need.items()
        if value > getattr(config, name) and name != "accumulator_bits"
    }
    bits = max(config.accumulator_bits, need["accumulator_bits"])
    return replace(config, maps=max(config.maps, 1024), accumulator_bits=bits, **more)


def _plan(model: CompressedModel) -> MapProgram:
    """What a loader asks a plan for: the rows and columns of each layer."""
    passes = []
    for node in model.graph.nodes:
        layer = node.op
        if isinstance(layer, Pool):
            passes.append(MapPass(kind=PassKind.POOL, pixel_x=1))  # an engine refuses none
            continue
        conv = layer.convolution
        passes.append(
            MapPass(
                skip=layer.skip.channels if layer.skip else 0,
                skip_column=layer.inputs,
                columns=layer.columns,
                bias_column=layer.columns - layer.bias,
                local_rows=layer.outputs,
                rows=layer.outputs,
                group_rows=layer.outputs // layer.groups,
                group_channels=(conv.channels if conv else layer.inputs) // layer.groups,
            )
        )
    return MapProgram(tuple(passes), inputs=1, outputs=1, input_at=0, output_at=0)


def _limit(model: CompressedModel, data: bytes) -> int:
    """Cycles in which any file is loaded: a word or a table at its worst, entries, columns."""
    columns = sum(layer.columns for layer in model.layers)
    entries = sum(layer.kept for layer in model.layers)
    return (
        10_000
        + 100 * len(model.graph.nodes)
        + len(data)
        + 600 * len(model.layers)
        + 4 * entries
        + columns
    )


def _layers(model: CompressedModel, words: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    kinds, low, high = words & 3, words >> 2 & 0x3FFF, words >> 16
    if kinds[-1] != VERDICT or low[-1] != EngineError.OK:
        raise ToolError(f"the loader refused the file: {EngineError(int(low[-1])).name}")
    columns = np.concatenate(([0], np.cumsum(kinds == COLUMN)))[:-1]
    codebook = high[kinds == VALUE].astype(np.uint16).view(np.int16)
    layers, column, values = [], 0, 0
    for layer in model.layers:
        mine = (kinds == ENTRY) & (columns >= column) & (columns < column + layer.columns)
        positions = layer.position_of(columns[mine] - column, high[mine])
        layers.append((positions, codebook[values + low[mine]]))
        column += layer.columns
        values += len(layer.codebook)
    if column != np.count_nonzero(kinds == COLUMN):
        raise ToolError(f"the loader gave {np.count_nonzero(kinds == COLUMN)} columns of {column}")
    return layers
