"""How an engine with a map memory runs a network: teams, windows and places, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pleach.engine.config import EngineConfig
from pleach.engine.maps import MOST_SLOTS, MapPass, MapProgram, PassKind, widths
from pleach.errors import CapacityError, ModelError
from pleach.model import CompressedLayer, CompressedModel, Convolution, Node, Pool, Window
from pleach.model.window import Shape
from pleach.numbers import INT16_MAX, INT16_MIN, PE_GROUPS_MAX

#: sides that a window of output pixels may have where the layer does not pool
SIDES = (1, 2)
#: sides of the windows that a layer may pool
MOST_SIDE = 4


@dataclass(frozen=True)
class LayerPlan:
    """How one layer runs.

    Args:
        teams: that share its windows out, a power of two; each holds all its weights.
        side: of its windows of output pixels; where it pools, of the pooling window.
    """

    teams: int = 1
    side: int = 1


def base_engine(model: CompressedModel, pes: int = 16) -> EngineConfig:
    """The engine that a network's own is grown from: without a map memory where it needs none."""
    if model.unsupported is None:
        return EngineConfig(pes=pes)
    groups = min(max(1, pes // 4), PE_GROUPS_MAX)
    return EngineConfig(pes=pes, groups=groups, lanes=2, block=4, codebook=64, vectors=8, maps=256)


@dataclass(frozen=True)
class Geometry:
    """What a layer is to the engine: a kernel over a map, a fully connected layer over one pixel.

    Args:
        height, width, channels: of the map read.
        kernel, stride: (height, width).
        top, left: padding.
        map: height and width of what it gives, before pooling.
        pool: side of the window of which it keeps the largest value.
        rows: channels that it gives.
    """

    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    top: int
    left: int
    map: tuple[int, int]
    pool: int
    rows: int

    @property
    def given(self) -> tuple[int, int]:
        """Height and width of the map that it writes."""
        return self.map[0] // self.pool, self.map[1] // self.pool


def geometry(op: CompressedLayer | Pool) -> Geometry:
    """Of a layer or a pooling."""
    pool, rows = 1, 0
    if isinstance(op, Pool):
        over: Window | Convolution = op.window
        rows = over.channels
    elif op.convolution is None:
        return Geometry(1, 1, op.inputs, (1, 1), (1, 1), 0, 0, (1, 1), 1, op.outputs)
    else:
        over, pool, rows = op.convolution, op.convolution.pool, op.outputs
    kernel = over.kernel_height, over.kernel_width
    stride = over.stride[0], over.stride[1]
    top, left, *_ = over.padding
    return Geometry(
        over.height, over.width, over.channels, kernel, stride, top, left, over.map, pool, rows
    )


def said(model: CompressedModel, plans: Sequence[LayerPlan]) -> str:
    """A plan in a line, for people: of each layer its teams and the side of its windows."""
    return ", ".join(
        f"{node.name} {plan.teams} × {plan.side}×{plan.side}"
        for node, plan in zip(model.graph.nodes, plans, strict=True)
        if isinstance(node.op, CompressedLayer)
    )


def local_rows(rows: int, teams: int, config: EngineConfig) -> int:
    """Rows of a layer that fall to the fullest PE of a team."""
    return -(-rows // (config.pes // teams))


def choices(op: CompressedLayer | Pool, config: EngineConfig) -> list[LayerPlan]:
    """The ways in which the rings of an engine allow a layer to run, those with most teams first.

    A pooling has one, as it needs none of the array.
    """
    if isinstance(op, Pool):
        return [LayerPlan()]
    shape = geometry(op)
    pixels = math.prod(shape.map)
    sides = (shape.pool,) if shape.pool > 1 or pixels == 1 else SIDES
    teams = [1 << bits for bits in range(config.groups.bit_length()) if pixels > 1 or not bits]
    return [
        LayerPlan(each, side)
        for each in reversed(teams)
        for side in reversed(sides)
        if side**2 * local_rows(shape.rows, each, config) <= config.accumulators
        and local_rows(shape.rows, each, config) <= config.named_rows
    ]


def default_plan(model: CompressedModel, config: EngineConfig) -> tuple[LayerPlan, ...]:
    """A plan that fits, where there is one: as many teams as have a ring for two windows, and
    fewer of them for the layers with most weights until the entries fit.

    Raises:
        CapacityError: a layer's rows fit no ring.
    """
    plans = []
    for node in model.graph.nodes:
        found = choices(node.op, config)
        if not found:
            _refuse_rows(node.name, node.op, config)
        plans.append(next((each for each in found if _slots(node.op, each, config) > 1), found[0]))
    weights = [entries(node.op, 1, config).sum() for node in model.graph.nodes]
    while _fullest(model, plans, config) > config.entries:
        number = max(range(len(plans)), key=lambda n: weights[n] if plans[n].teams > 1 else -1)
        if plans[number].teams == 1:
            break
        fewer = replace(plans[number], teams=plans[number].teams // 2)
        found = choices(model.graph.nodes[number].op, config)
        if fewer not in found:
            fewer = replace(fewer, side=geometry(model.graph.nodes[number].op).pool)
        if fewer not in found:
            weights[number] = -1
            continue
        plans[number] = fewer
    return tuple(plans)


def _refuse_rows(name: str, op: CompressedLayer, config: EngineConfig) -> None:
    side = geometry(op).pool
    need = local_rows(op.outputs, 1, config)
    raise CapacityError(
        f"layer {name!r} gives {op.outputs} channels, {need} to a PE, windows of {side} × {side} "
        f"pixels: its ring of {config.accumulators} accumulators, and entries that name "
        f"{config.named_rows} rows, are too small; give accumulators={_power(side**2 * need)}"
    )


def _power(value: int) -> int:
    return 1 << max(0, value - 1).bit_length()


def _slots(op: CompressedLayer | Pool, plan: LayerPlan, config: EngineConfig) -> int:
    rows = local_rows(geometry(op).rows, plan.teams, config)
    return min(MOST_SLOTS, config.accumulators // (plan.side**2 * rows))


def entries(op: CompressedLayer | Pool, teams: int, config: EngineConfig) -> np.ndarray:
    """Entries of a layer in each PE of a team, int64 ``[pes // teams]``."""
    own = config.pes // teams
    if isinstance(op, Pool):
        return np.zeros(own, np.int64)
    return np.bincount(op.row_of % own, minlength=own)


def _fullest(model: CompressedModel, plans: Sequence[LayerPlan], config: EngineConfig) -> int:
    total = np.zeros(config.pes, np.int64)
    for node, plan in zip(model.graph.nodes, plans, strict=True):
        total += np.tile(entries(node.op, plan.teams, config), plan.teams)
    return int(total.max())


def needs(
    model: CompressedModel, plans: Sequence[LayerPlan], config: EngineConfig
) -> dict[str, int]:
    """What a network takes of each capacity of this many PEs, run so."""
    layers = [
        (node.op, plan, local_rows(node.op.outputs, plan.teams, config))
        for node, plan in zip(model.graph.nodes, plans, strict=True)
        if isinstance(node.op, CompressedLayer)
    ]
    return {
        "layers": len(model.graph.nodes),
        "columns": sum(-(-op.columns // config.block) * config.block for op, *_ in layers),
        "entries": _fullest(model, plans, config),
        "codebook": sum(len(op.codebook) for op, *_ in layers),
        "codes": max((len(op.codebook) for op, *_ in layers), default=1),
        "accumulators": max((plan.side**2 * rows for _, plan, rows in layers), default=1),
        "entry_rows": max((rows for *_, rows in layers), default=1),
        "maps": places(model, config)[1],
        "scales": sum(rows for op, _, rows in layers if op.scales is not None),
        "accumulator_bits": max(
            [24, *model.accumulator_bits(), *(o.claimed_bits for o, *_ in layers)]
        ),
    }


def fitted(
    model: CompressedModel, config: EngineConfig, fixed: Collection[str] = ()
) -> EngineConfig:
    """The same engine, with each capacity that `model` does not fit as large as it needs.

    Args:
        fixed: capacities that stay as they are.

    Raises:
        CapacityError: one that is fixed is short, or no engine has as much.
    """
    if not config.maps:
        return config.grown(model, fixed)
    roomy = {"entries": 1 << 20, "entry_rows": 0, "codes": 0}
    free: dict[str, Any] = {name: value for name, value in roomy.items() if name not in fixed}
    if "accumulators" not in fixed:
        # Room for two windows of each layer in as many teams as there can be.
        wanted = [64, config.accumulators]
        for op in (n.op for n in model.graph.nodes if isinstance(n.op, CompressedLayer)):
            shape = geometry(op)
            teams, windows = (config.groups, 2) if math.prod(shape.map) > 1 else (1, 1)
            wanted.append(windows * shape.pool**2 * local_rows(shape.rows, teams, config))
        free["accumulators"] = _power(max(wanted))
    plan = default_plan(model, replace(config, **free))
    need = needs(model, plan, config)
    grown: dict[str, Any] = {
        name: _power(value) if name not in ("layers", "accumulator_bits") else value
        for name, value in need.items()
        if name not in fixed and (value > getattr(config, name) or name in ("entry_rows", "codes"))
    }
    grown["accumulators"] = free.get("accumulators", config.accumulators)
    config = replace(config, **grown)
    check(model, plan, config)
    return config


def check(model: CompressedModel, plans: Sequence[LayerPlan] | None, config: EngineConfig) -> None:
    """Refuse what does not run or does not fit, as the engine does.

    Raises:
        ModelError: what this engine does not run.
        CapacityError: with what is short, the need and what there is.
    """
    if not config.maps:
        model.check_runs()
        config.check(model)
        return
    plans = default_plan(model, config) if plans is None else plans
    have = {"entry_rows": config.named_rows, "codes": config.named_codes}
    short = {
        name: value
        for name, value in needs(model, plans, config).items()
        if value > have.get(name, getattr(config, name))
    }
    if short:
        lacks = [
            f"{name} {need} of {have.get(name, getattr(config, name))}"
            for name, need in short.items()
        ]
        give = [
            f"{name}={_power(need) if name not in ('layers', 'accumulator_bits') else need}"
            for name, need in short.items()
        ]
        raise CapacityError(
            f"the model does not fit an engine of {config.pes} PEs: {', '.join(lacks)}: give "
            f"{' '.join(give)}"
        )


def places(model: CompressedModel, config: EngineConfig) -> tuple[list[int], int]:
    """Where the map of the input and of each node lies, and the values that all of them take.

    A map's place is free again when the last layer that takes it has run. A residual sum goes
    where its skip was, if nothing else takes that: each pixel is read before it is written.
    """
    nodes, shapes = model.graph.nodes, model.graph.shapes()
    line = config.neighbours
    sizes = [-(-math.prod(shape) // line) * line for shape in shapes]
    last = [0] * len(shapes)
    for number, node in enumerate(nodes, start=1):
        for source in node.sources:
            last[source] = number
    last[-1] = len(nodes) + 1
    size = _power(max(sizes))
    while True:
        if found := _placed(nodes, shapes, sizes, last, size):
            return found
        size *= 2


def _placed(nodes, shapes, sizes, last, size) -> tuple[list[int], int] | None:
    """`places` in a memory of `size` values, if they fit: every other map from the end down, so
    that what is free in between stays in one piece."""
    at, top = [0], sizes[0]
    for number, node in enumerate(nodes, start=1):
        if _over_its_skip(number, node, shapes, last):
            at.append(at[node.sources[1]])
            continue
        taken = sorted((at[n], at[n] + sizes[n]) for n in range(number) if last[n] >= number)
        gaps = [
            (low, high)
            for (_, low), (high, _) in pairwise([(0, 0), *taken, (size, size)])
            if high - low >= sizes[number]
        ]
        if not gaps:
            return None
        start = gaps[-1][1] - sizes[number] if number % 2 else gaps[0][0]
        at.append(start)
        top = max(top, start + sizes[number])
    return at, top


def _over_its_skip(number: int, node: Node, shapes: list[Shape], last: list[int]) -> bool:
    """Whether a node writes each pixel where it has read it from its skip, which nothing else takes
    any more."""
    op = node.op
    return (
        len(node.sources) == 2
        and node.sources[0] != node.sources[1]
        and last[node.sources[1]] == number
        and shapes[node.sources[1]] == shapes[number]
        and isinstance(op, CompressedLayer)
        and op.skip is not None
        and op.skip.stride == (1, 1)
        and geometry(op).pool == 1
    )


def lower(
    model: CompressedModel, config: EngineConfig, plans: Sequence[LayerPlan] | None = None
) -> MapProgram:
    """The program that an engine with a map memory makes of a network and a plan.

    Args:
        plans: of each layer and pooling; `default_plan` where there are none.

    Raises:
        ModelError: what no engine runs.
        CapacityError: what this engine does not hold.
    """
    plans = default_plan(model, config) if plans is None else tuple(plans)
    check(model, plans, config)
    at, _ = places(model, config)
    shapes = model.graph.shapes()
    passes, column_base, codebook_base, scale_base = [], 0, 0, 0
    for number, (node, plan) in enumerate(zip(model.graph.nodes, plans, strict=True), start=1):
        op = node.op
        source = at[node.sources[0]]
        if isinstance(op, Pool):
            made = _pool_pass(op, config.neighbours, source, at[number])
        else:
            made = _layer_pass(op, plan, config, source, at[number])
            if op.skip is not None:
                made = _with_skip(made, op, plan, at[node.sources[1]], shapes[node.sources[1]])
            low, high = op.activation.bounds
            made = replace(
                made,
                column_base=column_base,
                codebook_base=codebook_base % config.codebook,
                shift=op.shift,
                low=low,
                high=high,
                sign=op.activation.sign,
                scaled=op.scales is not None,
                # Behind scales that fill their memory begins only what has none: at 0.
                scale_base=scale_base % max(1, config.scales),
            )
            scale_base += made.local_rows * made.scaled
            column_base += -(-op.columns // config.block) * config.block
            codebook_base += len(op.codebook)
        passes.append(_fitting(made, node.name, config))
    return MapProgram(tuple(passes), math.prod(shapes[0]), math.prod(shapes[-1]), at[0], at[-1])


def _pass_over(shape: Geometry, side: int, source: int, sink: int) -> MapPass:
    """What follows from the geometry alone."""
    (k_h, k_w), (s_y, s_x), channels = shape.kernel, shape.stride, shape.channels
    map_row, rows, pooled = shape.width * channels, shape.rows, shape.pool > 1
    height, width = shape.given if pooled else shape.map
    across = side if not pooled else 1  # output pixels from a window to the next
    units_y, units_x = -(-height // across), -(-width // across)
    return MapPass(
        side=side - 1,
        pooled=pooled,
        units_x=units_x,
        units_y=units_y,
        edge_x=side - 1 if pooled else width - (units_x - 1) * side - 1,
        edge_y=side - 1 if pooled else height - (units_y - 1) * side - 1,
        source=source,
        x_first=-shape.left * channels,
        x_step=side * s_x * channels,
        y_first=-shape.top,
        y_step=side * s_y,
        row_first=-shape.top * map_row,
        row_step=side * s_y * map_row,
        column_first=shape.top * k_w * channels,
        column_step=side * s_y * k_w * channels,
        map_row=map_row,
        map_rows=shape.height,
        patch_row=((side - 1) * s_x + k_w) * channels,
        patch_rows=(side - 1) * s_y + k_h,
        kernel_row=k_w * channels,
        kernel_rows=k_h,
        pixel_x=s_x * channels,
        pixel_y=s_y,
        pixel_y_columns=s_y * k_w * channels,
        sink=sink,
        pixel=rows,
        line=width * rows,
        unit_x=across * rows,
        unit_y=(across * width - (units_x - 1) * across) * rows,
        rows=rows,
    )


def _layer_pass(
    op: CompressedLayer, plan: LayerPlan, config: EngineConfig, source: int, sink: int
) -> MapPass:
    shape = geometry(op)
    each = local_rows(op.outputs, plan.teams, config)
    columns = math.prod(shape.kernel) * shape.channels
    groups = op.convolution.groups if op.convolution else 1
    return replace(
        _pass_over(shape, plan.side, source, sink),
        teams=plan.teams.bit_length() - 1,
        skip_column=columns,
        bias=op.bias,
        bias_column=columns,
        bias_exponent=op.bias_exponent,
        local_rows=each,
        slot=plan.side**2 * each,
        slots=_slots(op, plan, config),
        columns=op.columns,
        group_rows=op.outputs // groups,
        group_channels=shape.channels // groups,
    )


def _with_skip(
    made: MapPass, op: CompressedLayer, plan: LayerPlan, source: int, shape: tuple[int, ...]
) -> MapPass:
    assert op.skip is not None
    channels, (s_y, s_x) = op.skip.channels, op.skip.stride
    width = shape[2] if len(shape) == 3 and op.convolution else 1
    skip_x, skip_y = s_x * channels, s_y * width * channels
    return replace(
        made,
        skip=channels,
        skip_source=source,
        skip_x=skip_x,
        skip_y=skip_y,
        skip_unit_x=plan.side * skip_x,
        skip_unit_y=plan.side * (skip_y - (made.units_x - 1) * skip_x),
        bias_column=made.skip_column + channels,
    )


def _pool_pass(op: Pool, lanes: int, source: int, sink: int) -> MapPass:
    shape = geometry(op)
    return replace(
        _pass_over(shape, 1, source, sink),
        kind=PassKind.POOL,
        pixel_y=0,
        pixel_y_columns=0,
        pooled=op.shift is None,
        pixel_x=op.window.channels,
        shift=op.shift or 0,
        columns=0,
        group_channels=lanes if op.window.channels % lanes == 0 else 1,
    )


def _fitting(made: MapPass, name: str, config: EngineConfig) -> MapPass:
    """The pass, whose fields the engine has the bits for.

    Raises:
        ModelError: one that it has not.
    """
    for field, (bits, signed) in widths(config).items():
        if field in ("column_first", "column_step"):  # the engine takes them modulo theirs
            continue
        value = int(getattr(made, field))
        low = -(1 << bits - 1) if signed else 0
        if not low <= value < low + (1 << bits):
            raise ModelError(
                f"layer {name!r} cannot run on this engine: its {field.replace('_', ' ')}, "
                f"{value}, is not {low} to {low + (1 << bits) - 1}"
            )
    assert INT16_MIN <= made.low <= made.high <= INT16_MAX
    return made
