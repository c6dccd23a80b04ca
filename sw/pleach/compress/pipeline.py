"""The whole path: prune, share, fine-tune, calibrate."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pleach.compress.calibrate import RealLayer, calibrate
from pleach.compress.config import CompressConfig, TrainConfig
from pleach.compress.prune import per_layer, prune_
from pleach.compress.share import share_
from pleach.compress.train import as_floats, error_percent, predict, train
from pleach.model import CompressedModel
from pleach.models import layers_of
from pleach.reference import Reference, wrong_percent


@dataclass(frozen=True)
class Stage:
    """How the network stands after a step.

    Args:
        name: ``dense``, ``pruned``, ``shared`` or ``fixed point``.
        error: per cent wrong of the validation inputs; None without them.
        kept: share of weights and biases that are not zero.
        seconds: that the step took.
    """

    name: str
    error: float | None
    kept: float
    seconds: float


def compress(
    model: nn.Module,
    calibration: np.ndarray,
    labels: np.ndarray | None = None,
    config: CompressConfig | None = None,
    *,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    report: Callable[[Stage], None] | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> CompressedModel:
    """Compress a trained nn.Sequential of Linear and ReLU; `model` itself is not changed.

    Args:
        calibration: training inputs, ``(n, …)``, for retraining and for the choice of fractions.
            uint8 is seen as value / 256 and makes a network with uint8 inputs, floats one with
            int16 inputs.
        labels: their classes. Without labels the network is retrained on the dense network's own
            outputs.
        validation: inputs and labels for the errors that `report` gets; they steer nothing.
        report: called after each stage.
        progress: called after each epoch with stage, epoch (from 1), epochs and mean loss.

    Raises:
        ModelError: a network that cannot be represented; names the layer.
        ConfigError: a setting for a layer that the network does not have.
        DataError: arrays that do not match the network.
    """
    config = config or CompressConfig()
    _check_names(model, config)
    student = copy.deepcopy(model).to("cpu", torch.float32).requires_grad_(True)
    inputs = as_floats(student, calibration)
    start = time.monotonic()

    def done(name: str, fixed: CompressedModel | None = None) -> None:
        nonlocal start
        if report is not None:
            seconds = time.monotonic() - start
            report(Stage(name, _error(student, fixed, validation), _kept(student, fixed), seconds))
        start = time.monotonic()

    def retrain(stage: str, settings: TrainConfig, before_epoch=None) -> None:
        train(
            student,
            inputs,
            labels,
            settings,
            seed=config.seed,
            teacher=teacher,
            before_epoch=before_epoch,
            progress=progress and (lambda *epoch: progress(stage, *epoch)),
        )

    done("dense")
    teacher = predict(student, inputs)

    ramp = config.prune.ramp

    def narrow(epoch: int) -> None:
        if epoch < ramp:
            prune_(student, config.prune, progress=(epoch + 1) / ramp)

    if not ramp:
        prune_(student, config.prune)
    retrain("pruned", config.prune.train, narrow)
    done("pruned")

    share_(student, config.share, seed=config.seed)
    retrain("shared", config.share.train)
    done("shared")

    fixed = calibrate(real_layers(student), calibration, accumulator_bits=config.accumulator_bits)
    done("fixed point", fixed)
    return fixed


def real_layers(model: nn.Module) -> list[RealLayer]:
    """The layers of `model`, dense, pruned or shared, as plain arrays."""
    return [
        RealLayer(
            name,
            layer.weight.detach().cpu().numpy(),
            None if layer.bias is None else layer.bias.detach().cpu().numpy(),
            activation,
        )
        for name, layer, activation in layers_of(model)
    ]


def _check_names(model: nn.Module, config: CompressConfig) -> None:

    names = [name for name, _, _ in layers_of(model)]
    per_layer(names, 0, config.prune.layers)
    per_layer(names, 0, config.share.layers)


def _error(student, fixed, validation) -> float | None:
    if validation is None:
        return None
    inputs, labels = validation
    if fixed is None:
        return error_percent(student, inputs, labels)
    return wrong_percent(Reference(fixed).run(fixed.quantise(inputs)), labels)


def _kept(student, fixed) -> float:
    if fixed is not None:
        return sum(layer.kept for layer in fixed.layers) / (fixed.dense_bytes // 4)
    arrays = [a for real in real_layers(student) for a in (real.weight, real.bias) if a is not None]
    return sum(int(np.count_nonzero(a)) for a in arrays) / sum(a.size for a in arrays)
