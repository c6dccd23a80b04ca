"""A network in fixed point without any training, with the figures of before and after."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from pleach.compression.config import CompressConfig, ShareConfig
from pleach.compression.pipeline import FIXED_HELP, finish
from pleach.compression.share import share_
from pleach.compression.train import predict
from pleach.errors import ConfigError, GuessWarning, PleachWarning
from pleach.metrics import BINARY, doubt, for_targets, in_doubt
from pleach.model import CompressedModel
from pleach.models import Layer, graph_of, layers_of
from pleach.numbers import CODEBOOK_MAX
from pleach.reference import Reference
from pleach.report import Stage


def quantise(
    model: nn.Module,
    calibration: np.ndarray,
    config: CompressConfig | None = None,
    *,
    validation: tuple[np.ndarray, np.ndarray],
    clusters: int | None = None,
    loss: str | None = None,
    report: Callable[[Stage], None] = lambda stage: None,
    progress: Callable[[str], None] = lambda stage: None,
) -> CompressedModel:
    """The network as it is in fixed point, its weights shared where `clusters` says so.

    As `finish`, between figures of the dense network and of what is left. `model` gets the shared
    weights.

    Args:
        calibration: training inputs, ``(n, …)``, for the choice of fractions.
        config: its seed, widths, order and output scale.
        validation: inputs and labels for the figures.
        clusters: values in each layer's codebook; None where the weights are shared already.
        loss: that the labels are for, where they do not tell.
        report: called with the stages ``dense`` and ``fixed point``.
        progress: called with what begins.

    Raises:
        ConfigError: a layer has more values than a codebook holds.
        ModelError, DataError: as `finish`.

    Warns:
        GuessWarning: the network is hardly better than a guess.
        PleachWarning: so is what is left, where it was not before.
    """
    config = config or CompressConfig()
    tests, labels = validation
    layers = layers_of(model, calibration.shape[1:])
    outputs = graph_of(model, calibration.shape[1:]).outputs
    metric = for_targets(labels, outputs, loss)
    start = time.monotonic()
    if clusters is None:
        _check_shared(layers)
    parts = [(layer.module.weight, layer.module.bias) for layer in layers]
    tensors = [tensor for pair in parts for tensor in pair if tensor is not None]
    size = sum(tensor.numel() for tensor in tensors)

    def done(name: str, kept: int, found: np.ndarray) -> None:
        nonlocal start
        seconds = time.monotonic() - start
        report(Stage(name, metric(found, labels), kept / size, seconds, metric.name))
        start = time.monotonic()

    dense = predict(model, tests).numpy()
    done("dense", sum(int(tensor.count_nonzero()) for tensor in tensors), dense)
    known = None  # logits of floats are not to be like them
    if metric is not BINARY:
        known = in_doubt(dense, labels)
        if said := doubt(dense, labels):
            warnings.warn(said, GuessWarning, stacklevel=2)
    if clusters is not None:
        progress("sharing")
        share_(model, ShareConfig(clusters=clusters, initialisation="optimal"), seed=config.seed)
    progress("fixed point")
    targets = labels.dtype.kind == "f" and outputs > 1
    scale = "each" if config.output_scale == "auto" and targets else config.output_scale
    fixed = finish(
        model,
        calibration,
        accumulator_bits=config.accumulator_bits,
        codebook_bits=config.codebook_bits,
        order=config.order,
        output_scale=scale,
    )
    real = fixed.dequantise(Reference(fixed).run(fixed.quantise(tests)))
    done("fixed point", sum(layer.kept for layer in fixed.layers), real)
    if known is not None and (said := doubt(real, labels, known)):
        more = "share more values (--clusters); " if clusters is not None else ""
        warnings.warn(f"after compression {said}: {more}{FIXED_HELP}", PleachWarning, stacklevel=2)
    return fixed


def _check_shared(layers: Sequence[Layer]) -> None:
    for layer in layers:
        parts = [t.flatten() for t in (layer.module.weight, layer.module.bias) if t is not None]
        distinct = int(torch.cat(parts).unique().count_nonzero())
        if distinct > CODEBOOK_MAX:
            raise ConfigError(
                f"layer {layer.name!r} has {distinct:,} distinct weights and biases, a file holds "
                f"{CODEBOOK_MAX}: --clusters {CODEBOOK_MAX} shares them, without --as-is they are "
                "retrained too"
            )
