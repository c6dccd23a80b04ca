"""From real numbers to fixed point, as docs/numerics.md says. Numpy only: no torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pleach.errors import DataError, ModelError
from pleach.model import (
    Activation,
    Add,
    AveragePool,
    Clip,
    CompressedLayer,
    CompressedModel,
    Concat,
    Convolution,
    Graph,
    InputType,
    Node,
    Op,
    Rescale,
    Shape,
    accumulator_bits,
    takers,
)
from pleach.numbers import (
    ACCUMULATOR_BITS_MAX,
    CODEBOOK_MAX,
    EXPONENT_MAX,
    FRACTIONS,
    INT16,
    INT16_MAX,
    SHIFT_MAX,
    UINT8_FRACTION,
)
from pleach.reference.maps import VALUES, batch_size, max_pool, weighted_sums

LARGEST_FRACTION = EXPONENT_MAX  # 1.0 has to fit int16: it is the bias column's activation
LEAST_MAGNITUDE = 2**7
MARGIN = 1.5
BATCH = 4096


@dataclass(frozen=True, eq=False)
class RealLayer:
    """A layer in real numbers.

    Args:
        name: qualified name.
        weight: ``(outputs, columns)``, zero where pruned.
        bias: ``(outputs,)`` or None.
        activation: function after it.
        convolution: how the weights are laid over maps; None where it is fully connected.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray | None
    activation: Activation
    convolution: Convolution | None = None

    @property
    def values_in(self) -> int:
        """Activations that it takes."""
        return self.convolution.inputs if self.convolution else self.weight.shape[1]

    def out_shape(self, *inputs: Shape) -> Shape:
        """``(outputs,)``, or ``(outputs, height, width)``, pooled."""
        pooled = self.convolution.pooled if self.convolution else ()
        return (len(self.weight), *pooled)

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """``[values_in, n]`` to ``[values_out, n]``, pooled."""
        count = inputs.shape[1]
        outputs = weighted_sums(self.weight, inputs, self.convolution)
        if self.bias is not None:
            outputs += self.bias[:, None]
        if self.activation == Activation.RELU:
            outputs = np.maximum(outputs, 0)
        if self.convolution is not None:
            maps = outputs.reshape(len(self.weight), *self.convolution.map, count)
            outputs = max_pool(maps, self.convolution)
        return outputs.reshape(-1, count)


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
    if inputs.dtype == np.uint8:
        input_type, fraction = InputType.UINT8, UINT8_FRACTION
    elif np.issubdtype(inputs.dtype, np.floating):
        if not np.isfinite(inputs).all():
            raise DataError("calibration inputs hold values that are not finite")
        input_type, fraction = InputType.INT16, fraction_for(float(np.abs(inputs).max()))
    else:
        raise DataError(f"calibration inputs must be uint8 or float, not {inputs.dtype}")
    peaks = iter(_largest_outputs(graph, inputs))
    done: list[CompressedLayer | Op] = []

    def fix(node: Node, *taken: tuple[int, int]) -> tuple[int, int]:
        """From fraction and magnitude of what a node takes to those of what it gives."""
        fractions, magnitudes = zip(*taken, strict=True)
        peak = next(peaks)
        if isinstance(node.op, RealLayer):
            op = _fix(node.op, *taken[0], peak, accumulator_bits, codebook_bits)
        else:
            op = _fix_operator(node, fractions, peak)
        done.append(op)
        return op.out_fraction(*fractions), op.out_magnitude(*magnitudes)

    for _ in graph.walk((fraction, input_type.magnitude), fix):
        pass
    ops = iter(done)
    fixed = graph.with_ops(lambda _: next(ops))
    return CompressedModel.of(fixed, input_type=input_type, input_fraction=fraction)


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

    Of what only clamps take it is that after them: what they cut off may saturate before.
    """
    largest = [0.0] * len(graph.nodes)
    layers = [node.op for node in graph.nodes if isinstance(node.op, RealLayer)]
    step = batch_size(((len(layer.weight), layer.convolution) for layer in layers), BATCH)
    for node, shape in zip(graph.nodes, graph.shapes()[1:], strict=True):
        if not isinstance(node.op, RealLayer):
            step = max(1, min(step, VALUES // math.prod(shape)))
    for start in range(0, len(inputs), step):
        batch = inputs[start : start + step].astype(np.float32)
        if inputs.dtype == np.uint8:
            batch /= 1 << UINT8_FRACTION
        found = graph.walk(batch.T, lambda node, *values: node.op.run(*values))
        for index, (_, _, given) in enumerate(found):
            largest[index] = max(largest[index], float(np.abs(given).max()))
    for node, peak in zip(graph.nodes, largest, strict=True):
        if not math.isfinite(peak):
            what = "layer" if isinstance(node.op, RealLayer) else "node"
            raise ModelError(f"{what} {node.name!r}: its outputs are not finite")
    for number in range(len(graph.nodes) - 1, 0, -1):
        users = takers(graph.nodes, number)
        if all(isinstance(graph.nodes[user - 1].op, Clip) for user in users):
            largest[number - 1] = max(largest[user - 1] for user in users)
    return largest


def _fix_operator(node: Node, inputs: tuple[int, ...], peak: float) -> Op:
    """An operator in integers.

    Args:
        inputs: fractions of what it takes.
        peak: largest magnitude that it puts out.

    Raises:
        ModelError: fractions too far apart; names the node.
    """
    op = node.op
    if isinstance(op, Clip):
        low, high = (
            int(np.clip(np.rint(np.ldexp(bound, inputs[0])), *INT16)) for bound in (op.low, op.high)
        )
        return Clip(low, high)
    if not isinstance(op, Add | Concat | AveragePool):
        return op
    common = max(inputs)
    gain = op.gain if isinstance(op, AveragePool) else 0
    output = min(common + gain, fraction_for(peak))
    try:
        lifts = tuple(common - fraction for fraction in inputs)
        return replace(op, rescale=Rescale(lifts, common + gain - output, output))
    except ModelError as error:
        raise ModelError(
            f"node {node.name!r}: it takes numbers of {', '.join(map(str, inputs))} fraction bits "
            f"and gives {output}: scale the layers before it alike ({error})"
        ) from None


def _fix(
    layer: RealLayer,
    input_fraction: int,
    magnitude: int,
    peak: float,
    bits: int | str,
    codebook_bits: int,
) -> CompressedLayer:
    """The layer in integers, with the largest weight fraction that the accumulator allows."""
    bias_exponent = min(max(input_fraction, 0), EXPONENT_MAX)
    matrix = layer.weight.astype(np.float64)
    if layer.bias is not None:
        # The bias is a column of activation 2^bias_exponent, which is 1.0 unless that cannot be
        # written with this input fraction.
        column = np.ldexp(layer.bias.astype(np.float64), input_fraction - bias_exponent)
        matrix = np.column_stack([matrix, column])
    flat = matrix.T.ravel()
    positions = np.flatnonzero(flat)
    values, codes = np.unique(flat[positions], return_inverse=True)
    if len(values) > CODEBOOK_MAX:
        raise ModelError(
            f"layer {layer.name!r} has {len(values)} distinct weights, "
            f"a codebook holds {CODEBOOK_MAX}: "
            "share its weights first (share_)"
        )
    if not np.isfinite(values).all():
        raise ModelError(f"layer {layer.name!r}: a weight is not finite")
    output_fraction = fraction_for(peak)

    def at(weight_fraction: int) -> CompressedLayer:
        quantised = np.rint(np.ldexp(values, weight_fraction)).astype(np.int16)
        codebook, merged = np.unique(quantised, return_inverse=True)
        kept = quantised[codes] != 0
        # Zero is not a weight: what rounds to it is dropped, and its code with it.
        codebook, place = codebook[codebook != 0], np.cumsum(codebook != 0) - 1
        fraction = min(output_fraction, weight_fraction + input_fraction)
        return CompressedLayer(
            name=layer.name,
            inputs=layer.weight.shape[1],
            outputs=layer.weight.shape[0],
            bias=layer.bias is not None,
            positions=positions[kept],
            codes=place[merged[codes]][kept],
            codebook=codebook,
            shift=weight_fraction + input_fraction - fraction,
            activation=layer.activation,
            convolution=layer.convolution,
            bias_exponent=bias_exponent,
            output_fraction=fraction,
        )

    if not len(values):
        return at(output_fraction - input_fraction)
    # As large as the codebook's width allows, and as a shift of 47 does where all weights are tiny.
    largest = float(np.abs(values).max())
    most = 2 ** (codebook_bits - 1) - 1
    least = min(LEAST_MAGNITUDE, (most + 1) // 2)
    weight_fraction = math.floor(math.log2((most + 0.5) / largest))
    if np.rint(np.ldexp(largest, weight_fraction)) > most:
        weight_fraction -= 1
    weight_fraction = min(weight_fraction, SHIFT_MAX + output_fraction - input_fraction)
    start, reached, width = weight_fraction, 0, 0
    widths = range(32, ACCUMULATOR_BITS_MAX + 1) if isinstance(bits, str) else (bits,)
    for width in widths:
        weight_fraction = start
        while (fixed := at(weight_fraction)).kept and accumulator_bits(fixed, magnitude) > width:
            weight_fraction -= 1
        reached = round(math.ldexp(largest, weight_fraction))
        if reached >= least:
            return fixed
    enough = math.ceil(math.log2((least - 0.5) / largest))
    if enough > start:
        raise ModelError(
            f"layer {layer.name!r}: its largest weight {largest:.4g} would be the integer "
            f"{reached} with the largest shift, {SHIFT_MAX}; {least} is the least allowed: "
            "scale the layer's weights up and the next layer's down"
        )
    needed = accumulator_bits(at(enough), magnitude)
    raise ModelError(
        f"layer {layer.name!r}: {width}-bit accumulators leave its largest weight {largest:.4g} "
        f"the integer {reached} (weight fraction {weight_fraction}, {start} without the limit), "
        f'{least} is the least allowed: set accumulator_bits = {needed}, or "auto"'
    )
