"""The convolutional layers of AlexNet and VGG-16, each alone, on an engine of 64 PEs.

    python bench/conv.py --json conv.json

Each layer has weights and activations at seeded places, at the densities of Han et al., "Learning
both Weights and Connections" (NIPS 2015, arXiv 1506.02626), tables 4 and 5, whose weights are those
of Deep Compression's tables 4 and 5 as well; some rows and channels have more of them than others,
and rows are dealt out to the PEs by their weights. A max pooling of 2 × 2 after a layer is part of
it; AlexNet's poolings overlap and are no part of any.

The cycle model counts a whole layer; what fits no map memory is cut into bands of rows, one after
the other. A corner of each layer runs on Verilator too, with all of its weights, which go past
LOAD: every value is compared with the reference, and the cycles with the model's. `--model` leaves
that out. The plan of a layer is the one that the model counts the fewest cycles for over a few rows
in the middle, with the rows dealt out for it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import shapes

from pleach.cycles.maps import MapCycles
from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan, choices
from pleach.files import write_whole
from pleach.model import CompressedLayer, CompressedModel, Graph, InputType, Node
from pleach_cli.output import print_table
from pleach_sim.simulate import Job, simulate_jobs


@dataclass(frozen=True)
class Shape:
    """A layer: what `Convolution` has, and per cent of its weights, and of the values that it
    takes, which are not zero."""

    rows: int
    channels: int
    size: int
    weights: float
    active: float
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1
    pool: int = 1


def _vgg(rows: int, channels: int, size: int, weights: float, active: float, pool: int = 1):
    return Shape(rows, channels, size, weights, active, pool=pool)


LAYERS = {
    "AlexNet": {
        "conv1": Shape(96, 3, 227, 84, 100, kernel=11, stride=4, padding=0),
        "conv2": Shape(256, 96, 27, 38, 88, kernel=5, padding=2, groups=2),
        "conv3": Shape(384, 256, 13, 35, 52),
        "conv4": Shape(384, 384, 13, 37, 37, groups=2),
        "conv5": Shape(256, 384, 13, 37, 40, groups=2),
    },
    "VGG-16": {
        "conv1_1": _vgg(64, 3, 224, 58, 100),
        "conv1_2": _vgg(64, 64, 224, 22, 53, pool=2),
        "conv2_1": _vgg(128, 64, 112, 34, 89),
        "conv2_2": _vgg(128, 128, 112, 36, 80, pool=2),
        "conv3_1": _vgg(256, 128, 56, 53, 81),
        "conv3_2": _vgg(256, 256, 56, 24, 68),
        "conv3_3": _vgg(256, 256, 56, 42, 70, pool=2),
        "conv4_1": _vgg(512, 256, 28, 32, 64),
        "conv4_2": _vgg(512, 512, 28, 27, 51),
        "conv4_3": _vgg(512, 512, 28, 34, 45, pool=2),
        "conv5_1": _vgg(512, 512, 14, 35, 34),
        "conv5_2": _vgg(512, 512, 14, 29, 32),
        "conv5_3": _vgg(512, 512, 14, 36, 29, pool=2),
    },
}

#: the engine that is measured
ENGINE = {
    "groups": 8, "lanes": 2, "block": 4, "vectors": 8, "queue_depth": 32, "neighbours": 8,
    "accumulators": 256, "entries": 1 << 17, "columns": 1 << 13, "codebook": 16, "codes": 16,
    "maps": 1 << 20, "layers": 2,
}  # fmt: skip
#: windows of a layer in the corner that runs on Verilator
WINDOWS = 8
#: pixels of the map given by which a plan is chosen, in whole rows
PLANNED_BY = 196
#: teams among which one is: with fewer, columns bound the cycles, as each team takes one at a time
TEAMS = 4, 8


def seeded(name: str, shape: Shape, seed: int, own: int) -> tuple[CompressedLayer, np.ndarray]:
    """A layer whose rows are dealt out to `own` PEs, and which values of its map are not zero, bool
    ``[height, width, channels]``."""
    net = shapes.Seeded((shape.channels, shape.size, shape.size), seed, shape.active / 100, own)
    net.add(
        name, shape.rows, (shape.kernel,) * 2, (shape.stride,) * 2, (shape.padding,) * 4,
        density=shape.weights / 100, groups=shape.groups, pool=shape.pool,
    )  # fmt: skip
    active = net._active(net.shape) if shape.active < 100 else np.ones(net.shape, bool)
    return net.nodes[0].op, active.reshape(shape.size, shape.size, shape.channels)


def cut(
    layer: CompressedLayer, active: np.ndarray, down: range, across: range
) -> tuple[CompressedLayer, np.ndarray]:
    """The same weights over the part of the map that these rows and columns of the map given are
    computed from, before pooling; and what of it is not zero, bool ``[1, values]``."""
    over = layer.convolution
    assert over is not None
    spans = []
    for wanted, kernel, stride, before, size in (
        (down, over.kernel_height, over.stride[0], over.padding[0], over.height),
        (across, over.kernel_width, over.stride[1], over.padding[1], over.width),
    ):
        first = wanted.start * stride - before
        end = (wanted.stop - 1) * stride - before + kernel
        spans.append((max(0, first), min(size, end), max(0, -first), max(0, end - size)))
    (top, bottom, above, below), (left, right, west, east) = spans
    part = replace(
        over, height=bottom - top, width=right - left, padding=(above, west, below, east)
    )
    return replace(layer, convolution=part), active[top:bottom, left:right].reshape(1, -1)


def alone(layer: CompressedLayer) -> CompressedModel:
    """A network of one layer."""
    over = layer.convolution
    assert over is not None
    shape = over.channels, over.height, over.width
    return CompressedModel.of(
        Graph((Node(layer.name, layer, (0,)),), shape),
        input_type=InputType.UINT8,
        input_fraction=8,
    )


def cycles(
    layer: CompressedLayer, active: np.ndarray, config: EngineConfig, plan: LayerPlan
) -> int:
    """Of the map or the part of one that the layer is over."""
    counted = MapCycles(alone(layer), config, (plan,))
    return int(counted.layer(0, active)[0][0])


def bands(layer: CompressedLayer, config: EngineConfig, side: int) -> Iterator[range]:
    """Rows of the map given, before pooling, that fit the map memory one after the other: whole
    rows of windows."""
    over = layer.convolution
    assert over is not None
    height, width = over.map
    line = width // over.pool * layer.outputs
    step = side
    while ((step + side - 1) * over.stride[0] + over.kernel_height) * over.width * over.channels + (
        step + side
    ) // over.pool * line <= config.maps:
        step += side
    step = max(side, step - side)
    for first in range(0, height // over.pool * over.pool, step):
        yield range(first, min(first + step, height // over.pool * over.pool))


def macs(layer: CompressedLayer, active: np.ndarray) -> int:
    """Products of a kept weight and a value that is not zero, biases included."""
    over = layer.convolution
    assert over is not None
    kept = np.bincount(layer.column_of, minlength=layer.columns)
    h, w = (side // over.pool * over.pool for side in over.map)
    top, left, bottom, right = over.padding
    mask = np.pad(active, ((top, bottom), (left, right), (0, 0)))
    (s_y, s_x), total = over.stride, int(kept[-1]) * h * w
    of_place = kept[:-1].reshape(over.kernel_height, over.kernel_width, -1)
    for y in range(over.kernel_height):
        for x in range(over.kernel_width):
            seen = mask[y : y + s_y * h : s_y, x : x + s_x * w : s_x][:h, :w]
            total += int(of_place[y, x] @ seen.sum(axis=(0, 1)))
    return total


def best(
    name: str, shape: Shape, seed: int, config: EngineConfig
) -> tuple[CompressedLayer, np.ndarray, LayerPlan]:
    """A layer dealt out to the PEs of a team, which of its values are not zero, and the plan: the
    one with the fewest cycles over a part in the middle."""
    found = []
    for teams in TEAMS:
        layer, active = seeded(name, shape, seed, config.pes // teams)
        assert layer.convolution is not None
        height, width = (side // shape.pool * shape.pool for side in layer.convolution.map)
        rows = min(-(-PLANNED_BY // width) // 2 * 2 + 2, height)
        first = (height - rows) // 2 // 2 * 2
        part = cut(layer, active, range(first, first + rows), range(width))
        for plan in choices(layer, config):
            if plan.teams == teams:
                found.append((cycles(*part, config, plan), layer, active, plan))
    _, layer, active, plan = min(found, key=lambda each: each[0])
    return layer, active, plan


def on_verilator(
    layer: CompressedLayer, active: np.ndarray, config: EngineConfig, plan: LayerPlan
) -> dict:
    """A corner of the layer: its windows, its cycles, and whether all of it is as predicted."""
    assert layer.convolution is not None
    pool, (height, width) = layer.convolution.pool, layer.convolution.map
    side = plan.side
    in_row = min(WINDOWS, width // side)
    rows = min(-(-WINDOWS // in_row), height // side)
    part, mask = cut(layer, active, range(rows * side), range(in_row * side))
    rng = np.random.default_rng(int(mask.sum()))
    values = np.where(mask, rng.integers(1, 256, mask.shape), 0).astype(np.uint8)
    model = alone(part)
    job = Job(layer.name, model, values, plan=(plan,))
    (found,) = simulate_jobs([job], config, bulk=True)
    counted = found.compute_cycles[0][0]
    predicted = cycles(part, mask, config, plan)
    return {
        "windows_in_rtl": rows * in_row,
        "rtl_pixels": rows * in_row * side**2 // pool**2,
        "rtl_cycles": counted,
        "rtl_predicted_cycles": predicted,
        "bit_exact": found.bit_exact,
    }


def measured(network: str, name: str, config: EngineConfig, seed: int, rtl: bool) -> dict:
    """A layer, whole by the model, and its corner."""
    shape = LAYERS[network][name]
    layer, active, plan = best(name, shape, seed, config)
    start = time.monotonic()
    parts = list(bands(layer, config, plan.side))
    width = layer.convolution.map[1] // layer.convolution.pool * layer.convolution.pool
    counted = sum(cycles(*cut(layer, active, rows, range(width)), config, plan) for rows in parts)
    work = macs(layer, active)
    row = {
        "network": network,
        "layer": name,
        "pes": config.pes,
        "teams": plan.teams,
        "side": plan.side,
        "bands": len(parts),
        "nonzero_macs": work,
        "weights": layer.kept,
        "cycles": counted,
        "utilisation": work / config.pes / counted,
        "prediction_seconds": time.monotonic() - start,
        "windows_in_rtl": 0,
    }
    return row | (on_verilator(layer, active, config, plan) if rtl else {})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pes", type=int, default=64)
    parser.add_argument("--layers", nargs="+", metavar="NETWORK:LAYER", help="by default all")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--model", action="store_true", help="only the cycle model, not the RTL")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    every = [f"{network}:{name}" for network, layers in LAYERS.items() for name in layers]
    if unknown := set(args.layers or ()) - set(every):
        parser.error(f"no layer is called {', '.join(sorted(unknown))}: {', '.join(every)}")
    config = EngineConfig(pes=args.pes, **ENGINE)
    rows = []
    for each in args.layers or every:
        network, name = each.split(":")
        rows.append(row := measured(network, name, config, args.seed, not args.model))
        print(
            f"{each}: {row['cycles']:,} cycles, {row['utilisation']:.3f}, "
            f"{row['windows_in_rtl']} windows in RTL",
            file=sys.stderr,
            flush=True,
        )
    print_table(
        f"Convolutional layers at {args.pes} PEs",
        ("network", "layer", "MACs", "teams", "window", "cycles", "utilisation", "in RTL"),
        [
            (
                row["network"], row["layer"], f"{row['nonzero_macs']:,}", str(row["teams"]),
                f"{row['side']}×{row['side']}", f"{row['cycles']:,}",
                f"{row['utilisation']:.3f}", str(row["windows_in_rtl"]),
            )
            for row in rows
        ],
    )  # fmt: skip
    if args.json:
        found = {"engine": asdict(config), "layers": rows}
        write_whole(args.json, json.dumps(found, indent=1) + "\n")
    wrong = [
        f"{row['network']} {row['layer']}"
        for row in rows
        if row["windows_in_rtl"]
        and not (row["bit_exact"] and row["rtl_cycles"] == row["rtl_predicted_cycles"])
    ]
    if wrong:
        raise SystemExit(f"not as the reference or not as predicted: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
