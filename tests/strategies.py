"""Hypothesis strategies and seeded generators for compressed models."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    InputType,
    Skip,
)


def random_layer(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    *,
    density: float = 0.2,
    codebook: int = 8,
    bias: bool = True,
    activation: Activation = Activation.RELU,
    shift: int | None = None,
    name: str = "fc1",
    empty_columns: float = 0.0,
) -> CompressedLayer:
    """A layer with a random mask; weights of both signs and of very different frequency."""
    columns = inputs + bias
    mask = rng.random((columns, outputs)) < density
    mask[rng.random(columns) < empty_columns] = False
    positions = np.flatnonzero(mask)
    skew = rng.random(codebook) ** 3 + 1e-3
    codes = rng.choice(codebook, len(positions), p=skew / skew.sum())
    used, codes = np.unique(codes, return_inverse=True)
    values = rng.permutation(np.arange(-2000, 2000, dtype=np.int16))[: len(used)]
    return CompressedLayer(
        name=name,
        inputs=inputs,
        outputs=outputs,
        bias=bias,
        positions=positions,
        codes=codes,
        codebook=values,
        shift=int(rng.integers(0, 16)) if shift is None else shift,
        activation=activation,
        bias_exponent=int(rng.integers(0, 9)),
        output_fraction=int(rng.integers(-3, 12)),
    )


def random_part(
    rng: np.random.Generator,
    convolution: Convolution | None,
    outputs: int,
    skip: Skip | None = None,
    *,
    inputs: int = 0,
    scales: np.ndarray | None = None,
    **layer,
) -> CompressedLayer:
    """A layer of a network that is no chain: over maps, with a skip, with scales.

    Args:
        inputs: of a fully connected one.
    """
    inputs = convolution.columns if convolution else inputs
    groups = convolution.groups if convolution else 1
    bias = layer.pop("bias", True)
    columns = inputs // groups + (skip.channels if skip else 0) + bias
    made = random_layer(rng, columns, outputs, bias=False, **layer)
    return replace(
        made, inputs=inputs, bias=bias, convolution=convolution, skip=skip, scales=scales
    )


def random_model(
    rng: np.random.Generator,
    widths: list[int],
    *,
    input_type: InputType = InputType.UINT8,
    **layer,
) -> CompressedModel:
    """A chain of random layers, ReLU between them and none at the end."""
    last = len(widths) - 2
    return CompressedModel(
        tuple(
            random_layer(
                rng,
                widths[i],
                widths[i + 1],
                name=f"fc{i + 1}",
                activation=Activation.NONE if i == last else Activation.RELU,
                **layer,
            )
            for i in range(last + 1)
        ),
        input_type,
        8,
    )


def random_inputs(
    rng: np.random.Generator, model: CompressedModel, count: int, density: float = 0.5
) -> np.ndarray:
    """Inputs of the model's type, ``[count, inputs]``, a share of them not zero."""
    info = np.iinfo(model.input_type.dtype)
    values = rng.integers(info.min, info.max + 1, (count, model.inputs)).astype(info.dtype)
    values[rng.random(values.shape) >= density] = 0
    return values


@st.composite
def models(draw, max_width: int = 24, max_layers: int = 3) -> CompressedModel:
    """Small models of every kind: dense to empty, one code to many, with and without bias."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    widths = draw(st.lists(st.integers(1, max_width), min_size=2, max_size=max_layers + 1))
    return random_model(
        rng,
        widths,
        input_type=draw(st.sampled_from(InputType)),
        density=draw(st.sampled_from([0.0, 0.02, 0.2, 0.7, 1.0])),
        codebook=draw(st.sampled_from([1, 2, 5, 16, 256])),
        bias=draw(st.booleans()),
        empty_columns=draw(st.sampled_from([0.0, 0.5])),
    )
