"""A plain training loop: seeded, in memory, fast on a few cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pleach.compression.config import TrainConfig
from pleach.compression.prune import per_layer
from pleach.errors import DataError
from pleach.models import channels_last, layers_of, sample_shape
from pleach.reference import wrong_percent

UINT8_FRACTION = 8
# The order of a float sum, and so its last bit, may depend on the count of threads: it is part of
# the recipe, not of the machine. One, because batches are small: a second thread saves a quarter of
# the time on an idle machine, and on a busy one the two wait for each other, ten times as long.
THREADS = 1
EVALUATION_BATCH = 4096

# epoch (from 1), epochs, mean loss
Progress = Callable[[int, int, float], None]


def as_floats(model: nn.Module, inputs: np.ndarray | Tensor) -> Tensor:
    """What the network sees, float32: ``(inputs, features)``, or ``(inputs, channels, height,
    width)`` where it starts with a Conv2d; uint8 is taken as value / 256.

    Raises:
        DataError: wrong width, not numbers, or not finite.
    """
    array = np.asarray(inputs)
    first, shape = layers_of(model, array.shape[1:])[0], sample_shape(model, array.shape[1:])
    if array.ndim < 2 or not len(array) or math.prod(array.shape[1:]) != first.values_in:
        raise DataError(
            f"inputs of shape {array.shape}: layer {first.name!r} takes {first.values_in} a "
            "sample, and one sample at least is needed"
        )
    floats = array.reshape(len(array), *shape).astype(np.float32)
    if array.dtype == np.uint8:
        floats /= 1 << UINT8_FRACTION
    elif not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"inputs must be uint8 or float, not {array.dtype}")
    elif not np.isfinite(floats).all():
        raise DataError("inputs hold values that are not finite")
    return torch.from_numpy(floats)


def predict(model: nn.Module, inputs: np.ndarray | Tensor) -> Tensor:
    """The network's outputs in evaluation mode, float32, ``(inputs, outputs)``."""
    inputs = as_floats(model, inputs)
    training = model.training
    model.eval()
    with pinned_threads(), channels_last(model), torch.no_grad():
        outputs = torch.cat([model(batch).flatten(1) for batch in inputs.split(EVALUATION_BATCH)])
    model.train(training)
    return outputs


def error_percent(model: nn.Module, inputs: np.ndarray | Tensor, labels: np.ndarray) -> float:
    """Share of `inputs` whose largest output is not the label's, in per cent."""
    return wrong_percent(predict(model, inputs).numpy(), labels)


def train(
    model: nn.Module,
    inputs: np.ndarray | Tensor,
    labels: np.ndarray | None = None,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    teacher: Tensor | None = None,
    before_step: Callable[[float, torch.optim.Optimizer], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Train `model` in place.

    The loss is the cross entropy with `labels`, mixed with that to the soft targets of `teacher`
    by ``config.distillation`` (Hinton 2015, section 2). Without labels it is the mean squared
    distance to the teacher's outputs. The same seed gives the same weights on the same kind of
    processor; torch's own generator is neither read nor moved.

    Args:
        inputs: uint8 or float, ``(inputs, features)``.
        labels: class of each input.
        teacher: outputs of another network for the same inputs, ``(inputs, outputs)``.
        before_step: called with the epochs done, a fraction, and the optimiser; also after the last
            step.
        progress: called after each epoch.

    Raises:
        ConfigError: a name in ``config.freeze`` that is no layer.
        DataError: neither labels nor a teacher, or arrays that do not match.
    """
    config = config or TrainConfig()
    frozen = _frozen(model, config.freeze)
    inputs = as_floats(model, inputs)
    if labels is None and teacher is None:
        raise DataError("training needs labels or a teacher")
    for name, array in (("labels", labels), ("teacher outputs", teacher)):
        if array is not None and len(array) != len(inputs):
            raise DataError(f"{len(array)} {name} for {len(inputs)} inputs")
    classes = layers_of(model, inputs.shape[1:])[-1].values_out
    if labels is not None:
        labels = np.asarray(labels)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"labels must be integers, one an input, not {labels.dtype}")
        labels = torch.from_numpy(labels.astype(np.int64))
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise DataError(f"labels {int(labels.min())} to {int(labels.max())}, {classes} outputs")
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in frozen]
    if config.optimizer == "adam":
        optimizer = torch.optim.Adam(
            parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    else:
        optimizer = torch.optim.SGD(
            parameters, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay
        )
    steps = math.ceil(len(inputs) / config.batch_size)
    training = model.training
    model.train()
    with (
        pinned_threads(),
        channels_last(model),
        _dropout(model, config, generator),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(seed)  # for Dropout modules of the model's own
        for epoch in range(config.epochs):
            order = torch.randperm(len(inputs), generator=generator)
            total = 0.0
            for step, chosen in enumerate(order.split(config.batch_size)):
                if before_step is not None:
                    before_step(epoch + step / steps, optimizer)
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * _rate(
                        config.schedule, (epoch + step / steps) / config.epochs
                    )
                loss = _loss(
                    model(_drop(inputs[chosen], config.input_dropout, generator)).flatten(1),
                    None if labels is None else labels[chosen],
                    None if teacher is None else teacher[chosen],
                    config,
                )
                if config.l1:
                    loss = loss + config.l1 * sum(p.abs().sum() for p in parameters)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(chosen)
            if progress is not None:
                progress(epoch + 1, config.epochs, total / len(inputs))
        if before_step is not None:
            before_step(float(config.epochs), optimizer)
    model.train(training)


@contextmanager
def pinned_threads(count: int = THREADS) -> Iterator[None]:
    """Give torch `count` threads, and back what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rate(schedule: str, done: float) -> float:
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if schedule == "step":
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
    return 1.0


def _loss(outputs: Tensor, labels: Tensor | None, soft: Tensor | None, config) -> Tensor:
    if labels is None:
        return functional.mse_loss(outputs, soft)
    loss = functional.cross_entropy(outputs, labels)
    if soft is None or not config.distillation:
        return loss
    heat = config.temperature
    distance = functional.kl_div(
        functional.log_softmax(outputs / heat, dim=1),
        functional.softmax(soft / heat, dim=1),
        reduction="batchmean",
    )
    # Soft gradients shrink with the square of the temperature (Hinton 2015, section 2).
    return (1 - config.distillation) * loss + config.distillation * heat * heat * distance


def _frozen(model: nn.Module, names: tuple[str, ...]) -> set[int]:
    """The ids of the parameters of the layers called `names`."""
    layers = {layer.name: layer.module for layer in layers_of(model)}
    per_layer(list(layers), 0, dict.fromkeys(names, 0))
    return {id(p) for name in names for p in layers[name].parameters()}


@contextmanager
def _dropout(model: nn.Module, config: TrainConfig, generator: torch.Generator) -> Iterator[None]:
    """Drop what hidden layers pass to Linear ones, without a change to the model."""
    hooks = []
    modules = [layer.module for layer in layers_of(model)]
    for before, module in pairwise(modules) if config.dropout else ():
        if isinstance(module, nn.Linear):
            size = before.weight.numel()

            def drop(_, args, before=before, size=size):
                share = config.dropout
                if config.rescale_dropout:
                    share *= math.sqrt(int(before.weight.count_nonzero()) / size)
                return (_drop(args[0], share, generator),)

            hooks.append(module.register_forward_pre_hook(drop))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _drop(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    if not share:
        return values
    return (
        values * torch.empty_like(values).bernoulli_(1 - share, generator=generator) / (1 - share)
    )
