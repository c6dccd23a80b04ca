"""From real numbers to fixed point, as docs/numerics.md says. Numpy only: no torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pleach.compile.real import MapLayer, RealLayer, mapped, run_real, weights_of
from pleach.errors import DataError, ModelError
from pleach.model import (
    Activation,
    AveragePool,
    CompressedLayer,
    CompressedModel,
    Graph,
    InputType,
    Node,
    Pool,
    accumulator_bits,
)
from pleach.model.network import map_order
from pleach.numbers import (
    ACCUMULATOR_BITS_MAX,
    CODEBOOK_MAX,
    EXPONENT_MAX,
    FRACTIONS,
    INT16,
    INT16_MAX,
    SCALE_FRACTION,
    SCALED_BITS_MAX,
    SHIFT_MAX,
    UINT8_FRACTION,
)
from pleach.reference.maps import batch_size

LARGEST_FRACTION = EXPONENT_MAX  # 1.0 has to fit int16: it is the bias column's activation
LEAST_MAGNITUDE = 2**7
MARGIN = 1.5
#: bits behind the point that a bias has beside weights that are small integers
FINE = 7
BATCH = 4096


@dataclass(frozen=True)
class _Given:
    """What a node of the network takes, in integers.

    Args:
        fraction, magnitude: fraction bits and the largest magnitude.
        scale: what a value stands for is that integer's number times this; 1 but behind a mean,
            whose division is in part left to the layers that take it, and behind a function whose
            steps are no power of two.
    """

    fraction: int
    magnitude: int
    scale: float = 1.0


class _TooFine(Exception):
    """The skip of a layer has a finer fraction than its sums; `args` is the layer's name."""


def calibrate(
    network: Sequence[RealLayer] | Graph,
    inputs: np.ndarray,
    *,
    accumulator_bits: int | str = "auto",
    codebook_bits: int = 16,
) -> CompressedModel:
    """Choose the fractions and turn every layer and operator into integers.

    Args:
        network: layers one after the other, or a graph of `RealLayer` and of operators of real
            numbers. Layers are pruned and shared: at most 256 distinct values other than zero each.
            What stands between them becomes layers and poolings of the file
            (`pleach.compile.real.mapped`).
        inputs: calibration inputs, ``(n, inputs)``. uint8 stands for value / 256 and makes a
            network with uint8 inputs; floats make one with int16 inputs.
        accumulator_bits: that no order of accumulation may overflow. ``auto`` is, for each layer,
            32, or the least above that leaves its largest weight the least integer allowed.
        codebook_bits: that a codebook value takes, 8 to 16.

    Raises:
        ModelError: too many distinct values, or too few bits left for them; names the layer.
        DataError: inputs of another width or type, or not finite.
    """
    inputs = _rows(inputs)
    graph = network if isinstance(network, Graph) else _chain(network)
    if graph is None or not inputs.size or inputs.shape[1] != math.prod(graph.shape):
        raise DataError(f"calibration inputs of shape {inputs.shape} do not fit the network")
    graph.shapes()
    if inputs.dtype == np.uint8:
        input_type, fraction = InputType.UINT8, UINT8_FRACTION
    elif np.issubdtype(inputs.dtype, np.floating):
        if not np.isfinite(inputs).all():
            raise DataError("calibration inputs hold values that are not finite")
        input_type, fraction = InputType.INT16, fraction_for(float(np.abs(inputs).max()))
    else:
        raise DataError(f"calibration inputs must be uint8 or float, not {inputs.dtype}")
    bits = (accumulator_bits, codebook_bits)
    apart: frozenset[str] = frozenset()
    while True:
        try:
            fixed = _fixed(
                mapped(graph, apart), inputs, _Given(fraction, input_type.magnitude), bits
            )
            break
        except _TooFine as error:
            apart |= {*error.args}
    model = CompressedModel.of(fixed, input_type=input_type, input_fraction=fraction)
    weights = weights_of([node.op for node in graph.nodes])
    if sum(layer.size for layer in model.layers) != weights:
        model = replace(model, original=weights)
    return model


def _fixed(graph: Graph, inputs: np.ndarray, given: _Given, bits: tuple[int | str, int]) -> Graph:
    """What `mapped` gives, in integers.

    Args:
        given: of the network's input.
        bits: `accumulator_bits` and `codebook_bits`.

    Raises:
        _TooFine: a sum is to be a layer of its own.
    """
    peaks = iter(_largest_outputs(graph, map_order(inputs, graph.shape)))
    done: list[CompressedLayer | Pool] = []

    def fix(node: Node, *taken: _Given) -> _Given:
        peak, scale = next(peaks), 1.0
        if isinstance(node.op, MapLayer):
            op = _fix(node.op, taken, peak, *bits)
            scale = _grid(node.op.activation)[1]
        elif isinstance(node.op, AveragePool):
            op = Pool(node.op.window, _mean_shift(peak, taken[0].fraction, node.op.window.size))
            scale = taken[0].scale * (1 << op.shift) / node.op.window.size
        else:
            op, scale = Pool(node.op.window), taken[0].scale
        done.append(op)
        return _Given(
            op.out_fraction(*(each.fraction for each in taken)),
            op.out_magnitude(*(each.magnitude for each in taken)),
            scale,
        )

    for node, _, made in graph.walk(given, fix):
        last = node, made.scale
    if last[1] != 1:
        raise ModelError(f"node {last[0].name!r} gives the network's output: it has no steps")
    ops = iter(done)
    return graph.with_ops(lambda _: next(ops))


def _mean_shift(peak: float, fraction: int, size: int) -> int:
    """The least shift of a window's sum with which the largest mean, and half as much again, fits
    int16.

    >>> _mean_shift(1.0, 14, 64), _mean_shift(0.1, 8, 4)
    (6, 0)
    """
    largest = math.ldexp(MARGIN * peak, fraction) * size
    return max(0, math.ceil(math.log2(largest / INT16_MAX))) if largest else 0


def fraction_for(largest: float) -> int:
    """Largest fraction, at most 14, at which `largest` and half as much again fits int16.

    >>> fraction_for(1.0), fraction_for(21_000.0), fraction_for(22_000.0), fraction_for(0.0)
    (14, 0, -1, 14)
    """
    if largest <= 0:
        return LARGEST_FRACTION
    fraction = min(LARGEST_FRACTION, math.floor(math.log2(INT16_MAX / (MARGIN * largest))))
    return max(FRACTIONS[0], fraction)


def _rows(inputs: np.ndarray) -> np.ndarray:
    """``(n, …)`` as ``(n, features)``."""
    inputs = np.asarray(inputs)
    return inputs.reshape(len(inputs), math.prod(inputs.shape[1:]))


def _chain(layers: Sequence[RealLayer]) -> Graph | None:
    """The graph of layers one after the other; none of no layer."""
    nodes = [Node(layer.name, layer, (number,)) for number, layer in enumerate(layers)]
    return Graph(tuple(nodes), (layers[0].values_in,)) if layers else None


def _largest_outputs(graph: Graph, inputs: np.ndarray) -> list[float]:
    """The largest magnitude that each node puts out, pooled.

    Args:
        graph: what `mapped` gives.
        inputs: in the order of its maps.
    """
    largest = [0.0] * len(graph.nodes)
    layers = [node.op for node in graph.nodes if isinstance(node.op, MapLayer)]
    step = batch_size(((len(layer.weight), layer.convolution) for layer in layers), BATCH)
    for start in range(0, len(inputs), step):
        batch = inputs[start : start + step].astype(np.float32)
        if inputs.dtype == np.uint8:
            batch /= 1 << UINT8_FRACTION
        found = graph.walk(batch.T, lambda node, *values: run_real(node.op, *values))
        for index, (_, _, given) in enumerate(found):
            largest[index] = max(largest[index], float(np.abs(given).max()))
    for node, peak in zip(graph.nodes, largest, strict=True):
        if not math.isfinite(peak):
            what = "layer" if isinstance(node.op, MapLayer) else "node"
            raise ModelError(f"{what} {node.name!r}: its outputs are not finite")
    return largest


def _grid(activation: Activation) -> tuple[int | None, float]:
    """The fraction of what comes in steps, at which a step is the integer 1, and what a value
    stands for beside that fraction; None and 1 where it has none.

    >>> _grid(Activation(-1, 1, step=1)), _grid(Activation(0, 1, step=1 / 3))
    ((0, 1.0), (2, 1.3333333333333333))
    """
    if not activation.unit:
        return None, 1.0
    fraction = -round(math.log2(activation.unit))
    return fraction, math.ldexp(activation.unit, fraction)


def _row_scales(layer: MapLayer, factor: float) -> tuple[np.ndarray | None, float]:
    """The scales of a layer's rows as integers, and the power of two that its weights are to be
    multiplied by for it.

    Args:
        factor: that all rows have beside their own.
    """
    if layer.scales is None:
        return None, 1.0
    scales = layer.scales.astype(np.float64) * factor
    largest = float(np.abs(scales).max())
    if not math.isfinite(largest) or not largest:
        raise ModelError(f"layer {layer.name!r}: the largest scale of a row is {largest}")
    power = math.ceil(math.log2(largest * (1 << SCALE_FRACTION) / (INT16_MAX + 0.5)))
    return np.rint(np.ldexp(scales, SCALE_FRACTION - power)).astype(np.int16), 2.0**power


@dataclass(frozen=True, eq=False)
class _Terms:
    """A layer in real numbers as it becomes integers.

    Args:
        parts: its columns: weights, skip and bias, as far as there are such.
        scales: of its rows, integers.
        small: where weights are a few small integers times a power of two: the least fraction at
            which they are, and one that is better for the biases.
    """

    parts: list[np.ndarray]
    scales: np.ndarray | None
    small: tuple[int, int] | None
    bias_exponent: int


def _terms(layer: MapLayer, taken: Sequence[_Given], unit: float, most: int) -> _Terms:
    """What is to be rounded.

    Args:
        taken: of its source, and of its skip where it has one.
        unit: what its outputs stand for beside their fraction.
        most: of a codebook value.
    """
    source, input_fraction = taken[0], taken[0].fraction
    bias_exponent = min(max(input_fraction, 0), EXPONENT_MAX)
    # What all rows are multiplied by is theirs where they have scales, and the weights' otherwise.
    scales, power = _row_scales(layer, source.scale / unit)
    gain = source.scale / unit if scales is None else power
    own = 1 / unit if scales is None else power / source.scale
    parts, small = [layer.weight.astype(np.float64) * gain], None
    bias = None if layer.bias is None else layer.bias.astype(np.float64)[:, None] * own
    if layer.skip is not None:
        # As integers the weights of the skip make up for its other fraction.
        lift = input_fraction - taken[1].fraction
        parts.append(np.ldexp(layer.skip_weight.astype(np.float64) * taken[1].scale / unit, lift))
    if scales is not None and (found := _small(parts[0], bias, input_fraction, most)):
        *small, bias_exponent = found
    if bias is not None:
        # The bias is a column of activation 2^bias_exponent, which is 1.0 unless that cannot be
        # written with this input fraction.
        parts.append(np.ldexp(bias, input_fraction - bias_exponent))
    return _Terms(parts, scales, tuple(small) if small else None, bias_exponent)


def _small(
    weight: np.ndarray, bias: np.ndarray | None, input_fraction: int, most: int
) -> tuple[int, int, int] | None:
    """`_Terms.small`, and the exponent of the bias that goes with it."""
    values = np.unique(weight[weight != 0])
    if not len(values):
        return None
    first = 1 - int(np.frexp(np.abs(values).max())[1])  # there the largest is 1 to 2
    tried = range(first, first + most.bit_length())
    exact = next((n for n in tried if not (np.ldexp(values, n) % 1).any()), None)
    if exact is None or np.abs(integers := np.ldexp(values, exact)).max() > most:
        return None
    room = math.floor(math.log2(most / np.abs(integers).max()))
    own = 0.0 if bias is None else float(np.abs(bias).max())
    fraction = exact + min(room, max(0, FINE - input_fraction) if own else 0)
    for exponent in range(EXPONENT_MAX):
        if math.ldexp(own, input_fraction - exponent + fraction) <= most:
            return exact, fraction, exponent
    return exact, fraction, EXPONENT_MAX


def _fix(
    layer: MapLayer, taken: Sequence[_Given], peak: float, bits: int | str, codebook_bits: int
) -> CompressedLayer:
    """The layer in integers, with the largest weight fraction that the accumulator allows.

    Args:
        taken: of its source, and of its skip where it has one.
        peak: the largest magnitude that it puts out.
    """
    magnitudes = [each.magnitude for each in taken]
    most = 2 ** (codebook_bits - 1) - 1
    grid, unit = _grid(layer.activation)
    terms = _terms(layer, taken, unit, most)
    parts, scales, small = terms.parts, terms.scales, terms.small
    sign = layer.activation.sign and grid is not None
    matrix = np.hstack(parts)
    column, row = np.nonzero(matrix.T)
    values, codes = np.unique(matrix[row, column], return_inverse=True)
    if len(values) > CODEBOOK_MAX:
        raise ModelError(
            f"layer {layer.name!r} has {len(values)} distinct weights, "
            f"a codebook holds {CODEBOOK_MAX}: "
            "share its weights first (share_)"
        )
    if not np.isfinite(values).all():
        raise ModelError(f"layer {layer.name!r}: a weight is not finite")
    output_fraction = fraction_for(peak) if grid is None else grid
    product = taken[0].fraction + SCALE_FRACTION * (scales is not None)
    plain = CompressedLayer(
        name=layer.name,
        inputs=layer.weight.shape[1],
        outputs=layer.weight.shape[0],
        bias=layer.bias is not None,
        positions=[],
        codes=[],
        codebook=[],
        shift=0,
        activation=Activation.NONE,
        convolution=layer.convolution,
        skip=layer.skip,
        bias_exponent=terms.bias_exponent,
        output_fraction=output_fraction,
    )
    positions = plain.position_of(column, row)

    def at(weight_fraction: int) -> CompressedLayer:
        quantised = np.rint(np.ldexp(values, weight_fraction)).astype(np.int16)
        codebook, merged = np.unique(quantised, return_inverse=True)
        kept = quantised[codes] != 0
        # Zero is not a weight: what rounds to it is dropped, and its code with it.
        codebook, place = codebook[codebook != 0], np.cumsum(codebook != 0) - 1
        fraction = min(output_fraction, weight_fraction + product)
        if grid is not None and fraction != grid:
            raise ModelError(f"layer {layer.name!r}: its weights are too large for its steps")
        return replace(
            plain,
            positions=positions[kept],
            codes=place[merged[codes]][kept],
            codebook=codebook,
            # The sign of a sum is that of its multiples.
            shift=0 if sign else weight_fraction + product - fraction,
            activation=_integer(layer.activation, fraction, unit),
            output_fraction=fraction,
            scales=None if sign else scales,
        )

    if not len(values):
        return at(output_fraction - product)
    # As large as the codebook's width allows, and as a shift of 47 does where all weights are tiny.
    # What joins maps are powers of two, and exact: they may be larger and smaller.
    ones = [float(parts[place].max()) for place in layer.ones]
    own = [part for place, part in enumerate(parts) if place not in layer.ones]
    largest = max((float(np.abs(part).max(initial=0)) for part in own), default=0.0)
    least = min(LEAST_MAGNITUDE, (most + 1) // 2)
    if not largest:
        largest, most, least = max(ones), INT16_MAX, 1
    weight_fraction = min([_fitting(largest, most), *(_fitting(one, INT16_MAX) for one in ones)])
    if small is not None:
        exact, weight_fraction = small
        largest = float(np.abs(parts[0]).max())
        least = round(math.ldexp(largest, exact))
    weight_fraction = min(weight_fraction, SHIFT_MAX + output_fraction - product)
    start, reached, width = weight_fraction, 0, 0
    limit = ACCUMULATOR_BITS_MAX if scales is None else SCALED_BITS_MAX
    widths = range(32, limit + 1) if isinstance(bits, str) else (min(bits, limit),)
    for width in widths:
        weight_fraction = start
        while (fixed := at(weight_fraction)).kept and accumulator_bits(fixed, *magnitudes) > width:
            weight_fraction -= 1
        reached = round(math.ldexp(largest, weight_fraction))
        if reached >= least:
            if ones and math.ldexp(min(ones), weight_fraction) < 1:
                raise _too_fine(layer, taken)
            return fixed
    enough = math.ceil(math.log2((least - 0.5) / largest))
    if enough > start:
        raise ModelError(
            f"layer {layer.name!r}: its largest weight {largest:.4g} would be the integer "
            f"{reached} with the largest shift, {SHIFT_MAX}; {least} is the least allowed: "
            "scale the layer's weights up and the next layer's down"
        )
    needed = accumulator_bits(at(enough), *magnitudes)
    if scales is not None:
        raise ModelError(
            f"layer {layer.name!r}: its rows have scales, for which accumulators have "
            f"{width} bits at most, and it needs {needed}: have a scale for the whole layer, or "
            "smaller activations before it"
        )
    raise ModelError(
        f"layer {layer.name!r}: {width}-bit accumulators leave its largest weight {largest:.4g} "
        f"the integer {reached} (weight fraction {weight_fraction}, {start} without the limit), "
        f'{least} is the least allowed: set accumulator_bits = {needed}, or "auto"'
    )


def _fitting(largest: float, most: int) -> int:
    """The largest weight fraction at which `largest` is no more than `most`."""
    fraction = math.floor(math.log2((most + 0.5) / largest))
    return fraction - int(round(math.ldexp(largest, fraction)) > most)


def _integer(activation: Activation, fraction: int, unit: float) -> Activation:
    """A function with its bounds as integers of that fraction, which stand for `unit` times it."""
    bounds = (
        None if bound is None else int(np.clip(np.rint(np.ldexp(bound / unit, fraction)), *INT16))
        for bound in (activation.low, activation.high)
    )
    return Activation(*bounds, sign=activation.sign)


def _too_fine(layer: MapLayer, taken: Sequence[_Given]) -> Exception:
    """Why a layer cannot take what it joins at the fraction of its sums."""
    if layer.sum:
        return _TooFine(layer.sum)
    return ModelError(
        f"node {layer.name!r}: it joins numbers of "
        f"{' and '.join(str(each.fraction) for each in taken)} fraction bits: scale the layers "
        "before it alike"
    )
