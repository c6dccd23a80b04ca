"""Load a file into the loader alone and read back the weights that it gave out.

The loader is the engine's own, RTL on Verilator; what it writes to the processing elements is
gathered instead of stored. So a network may be larger than any engine, and have convolutions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from pleach.engine import EngineConfig
from pleach.engine.protocol import EngineError
from pleach.errors import ToolError
from pleach.format import loads
from pleach.model import CompressedModel
from pleach_hw.build.export import to_verilog
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
    config = (config or EngineConfig(pes=1)).grown(model)
    with tempfile.TemporaryDirectory() as folder:
        file, words = Path(folder) / "file", Path(folder) / "words.npy"
        file.write_bytes(data)
        run_cocotb(
            to_verilog(Readback(config), TOP),
            TOP,
            "pleach_sim.benches.readback",
            parameters={"file": str(file), "words": str(words), "limit": _limit(model, data)},
        )
        return _layers(model, np.load(words, allow_pickle=False))


def _limit(model: CompressedModel, data: bytes) -> int:
    """Cycles in which any file is loaded: a word or a table at its worst, entries, columns."""
    columns = sum(layer.columns for layer in model.layers)
    entries = sum(layer.kept for layer in model.layers)
    return 10_000 + len(data) + 600 * len(model.layers) + 4 * entries + columns


def _layers(model: CompressedModel, words: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    kinds, low, high = words & 3, words >> 2 & 0x3FFF, words >> 16
    if kinds[-1] != VERDICT or low[-1] != EngineError.OK:
        raise ToolError(f"the loader refused the file: {EngineError(int(low[-1])).name}")
    columns = np.concatenate(([0], np.cumsum(kinds == COLUMN)))[:-1]
    codebook = high[kinds == VALUE].astype(np.uint16).view(np.int16)
    layers, column, values = [], 0, 0
    for layer in model.layers:
        mine = (kinds == ENTRY) & (columns >= column) & (columns < column + layer.columns)
        positions = (columns[mine] - column) * layer.outputs + high[mine]
        layers.append((positions, codebook[values + low[mine]]))
        column += layer.columns
        values += len(layer.codebook)
    if column != np.count_nonzero(kinds == COLUMN):
        raise ToolError(f"the loader gave {np.count_nonzero(kinds == COLUMN)} columns of {column}")
    return layers
