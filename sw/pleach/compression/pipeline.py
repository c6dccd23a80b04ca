"""The whole path: prune, share, fine-tune, calibrate."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from pleach.compression.calibrate import RealLayer, calibrate
from pleach.compression.config import CompressConfig, PruneConfig, ShareConfig, TrainConfig
from pleach.compression.order import ordered
from pleach.compression.prune import per_layer, prune_
from pleach.compression.remove import remove_neurons_
from pleach.compression.share import reassign_, share_
from pleach.compression.train import as_floats, error_percent, predict, train
from pleach.errors import ConfigError, ModelError
from pleach.model import CompressedModel
from pleach.models import layers_of
from pleach.reference import Reference, wrong_percent


@dataclass(frozen=True)
class Stage:
    """How the network stands after a step.

    Args:
        name: ``dense``, ``pruned``, ``shared`` or ``fixed point``.
        error: per cent wrong of the validation inputs; None without them.
        kept: share of the network's weights and biases that are not zero.
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
    """Compress a trained network, as `layers_of` takes it; `model` itself is not changed.

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
        ConfigError: a setting for a layer that the network does not have, or other settings than
            `CompressConfig`.
        DataError: arrays that do not match the network.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a network is a torch module, not {type(model).__name__}")
    config = CompressConfig() if config is None else config
    if not isinstance(config, CompressConfig):
        raise ConfigError(f"settings are a CompressConfig, not {type(config).__name__}")
    _check_names(model, config)
    student = copy.deepcopy(model).to("cpu", torch.float32).requires_grad_(True)
    inputs = as_floats(student, calibration)
    original = sum(parameter.numel() for parameter in student.parameters())
    start = time.monotonic()

    def done(name: str, fixed: CompressedModel | None = None) -> None:
        nonlocal start
        if report is not None:
            seconds = time.monotonic() - start
            kept = _kept(student, fixed) / original
            report(Stage(name, _error(student, fixed, validation), kept, seconds))
        start = time.monotonic()

    def retrain(stage: str, settings: TrainConfig, before_step=None) -> None:
        train(
            student,
            inputs,
            labels,
            settings,
            seed=config.seed,
            teacher=teacher,
            before_step=before_step,
            progress=progress and (lambda *epoch: progress(stage, *epoch)),
        )

    done("dense")
    teacher = predict(student, inputs)

    for number, stage in enumerate(config.prune, start=1):
        name = "pruned" if len(config.prune) == 1 else f"pruned {number}"
        retrain(name, stage.train, _schedule(student, stage))
        if stage.remove:
            remove_neurons_(student)
        done(name)

    share_(student, config.share, seed=config.seed)
    retrain("shared", config.share.train, _reassignment(student, config.share))
    done("shared")

    fixed = calibrate(
        real_layers(student, inputs.shape[1:]),
        calibration,
        accumulator_bits=config.accumulator_bits,
        codebook_bits=config.codebook_bits,
    )
    fixed = replace(fixed, original=original)
    if config.order:
        fixed = ordered(fixed)
    done("fixed point", fixed)
    return fixed


def _schedule(student: nn.Module, stage: PruneConfig) -> Callable:
    """What is to be done before each step of a stage: prune when a round of its ramp is over."""
    rounds = max(1, math.ceil(stage.ramp / stage.every))
    done = 0

    def narrow(epochs: float, optimizer: torch.optim.Optimizer) -> None:
        nonlocal done
        due = rounds if epochs >= stage.ramp else int(epochs / stage.every)
        if due > done:
            prune_(student, stage, progress=due / rounds, optimizer=optimizer)
            done = due

    return narrow


def _reassignment(student: nn.Module, share: ShareConfig) -> Callable:
    """What is to be done before each step of the fine-tuning."""
    end = share.train.epochs * 2 / 3
    done = 0

    def reassign(epochs: float, optimizer: torch.optim.Optimizer) -> None:
        nonlocal done
        if share.reassign and epochs < end and int(epochs / share.reassign) > done:
            done = int(epochs / share.reassign)
            reassign_(student)

    return reassign


def real_layers(model: nn.Module, shape: Sequence[int] | None = None) -> list[RealLayer]:
    """The layers of `model`, dense, pruned or shared, as plain arrays; `shape` is an input's."""
    return [
        RealLayer(
            layer.name,
            layer.module.weight.detach().cpu().flatten(1).numpy(),
            None if layer.module.bias is None else layer.module.bias.detach().cpu().numpy(),
            layer.activation,
            layer.convolution,
        )
        for layer in layers_of(model, shape)
    ]


def _check_names(model: nn.Module, config: CompressConfig) -> None:
    names = [layer.name for layer in layers_of(model)]
    for stage in config.prune:
        per_layer(names, 0, stage.layers)
    per_layer(names, 0, config.share.layers)


def _error(student, fixed, validation) -> float | None:
    if validation is None:
        return None
    inputs, labels = validation
    if fixed is None:
        return error_percent(student, inputs, labels)
    return wrong_percent(Reference(fixed).run(fixed.quantise(inputs)), labels)


def _kept(student, fixed) -> int:
    """Weights and biases that are not zero."""
    if fixed is not None:
        return sum(layer.kept for layer in fixed.layers)
    modules = [layer.module for layer in layers_of(student)]
    tensors = [t for module in modules for t in (module.weight, module.bias) if t is not None]
    return sum(int(t.count_nonzero()) for t in tensors)
