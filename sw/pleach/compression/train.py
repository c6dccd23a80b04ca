"""A plain training loop: seeded, in memory, fast on a few cores."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from pleach.compression.config import TrainConfig
from pleach.compression.masks import check_weights
from pleach.compression.normalise import Normalisation, normalising
from pleach.compression.sparse import SparseNetwork, held
from pleach.compression.teachers import Follow
from pleach.errors import ConfigError, DataError, TrainingError
from pleach.metrics import as_numbers, as_targets, check_finite, wrong_percent
from pleach.models import channels_last, graph_of, layers_of, ours, sample_shape
from pleach.models.layers import IGNORED
from pleach.numbers import UINT8_FRACTION
from pleach.settings import by_layer

# The order of a float sum, and so its last bit, may depend on the count of threads: it is part of
# the recipe, not of the machine. One, because batches are small: on a busy machine two threads
# mostly wait for each other.
THREADS = 1
EVALUATION_BATCH = 4096
LISTED_BATCH = 512  # of lists: their maps stay in the cache
DROPOUTS = tuple(kind for kind in IGNORED if kind is not nn.Identity)
ALPHA = 1.7580993408473766  # of alpha dropout: SELU's scale times its alpha
_TURN = threading.RLock()

# epoch (from 1), epochs, mean loss
Progress = Callable[[int, int, float], None]
Loss = str | Callable[[Tensor, Tensor], Tensor]


def as_floats(model: nn.Module, inputs: np.ndarray | Tensor) -> Tensor:
    """What the network sees, float32: ``(inputs, features)``, or ``(inputs, channels, height,
    width)`` where it starts with a Conv2d; uint8 is taken as value / 256.

    Raises:
        DataError: wrong width, not numbers, or not finite.
    """
    array = as_numbers(inputs, "inputs")
    shape = sample_shape(model, array.shape[1:])
    takes = math.prod(shape)
    if array.ndim < 2 or not len(array) or math.prod(array.shape[1:]) != takes:
        first = layers_of(model, array.shape[1:])[0]
        raise DataError(
            f"inputs of shape {array.shape}: layer {first.name!r} takes {takes} a "
            "sample, and one sample at least is needed"
        )
    floats = array.reshape(len(array), *shape).astype(np.float32)
    if array.dtype == np.uint8:
        floats /= 1 << UINT8_FRACTION
    elif not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"inputs must be uint8 or float, not {array.dtype}")
    check_finite(floats, "inputs")
    return torch.from_numpy(floats)


def predict(model: nn.Module, inputs: np.ndarray | Tensor) -> Tensor:
    """The network's outputs in evaluation mode, float32, ``(inputs, outputs)``.

    Raises:
        DataError: inputs that do not match.
        ModelError: weights that are not finite.
    """
    inputs = as_floats(model, inputs)
    shape = inputs.shape[1:]
    check_weights(layers_of(model, shape))
    like = next(model.parameters(), inputs)
    forward, batch_size = model, EVALUATION_BATCH
    if held(model, shape):
        forward, batch_size = SparseNetwork(model, shape), LISTED_BATCH
    training = model.training
    model.eval()
    try:
        with exclusive(), channels_last(model), torch.no_grad():
            outputs = torch.cat(
                [forward(batch.to(like)).flatten(1) for batch in inputs.split(batch_size)]
            )
    finally:
        model.train(training)
    return outputs.to("cpu", torch.float32)


def error_percent(
    model: nn.Module, inputs: np.ndarray | Tensor, labels: np.ndarray | Tensor
) -> float:
    """Share of `inputs` whose largest output is not the label's, in per cent; see
    `pleach.metrics.wrong_percent`."""
    return wrong_percent(predict(model, inputs).numpy(), labels)


def train(
    model: nn.Module,
    inputs: np.ndarray | Tensor,
    labels: np.ndarray | Tensor | None = None,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    teacher: Tensor | None = None,
    loss: Loss | None = None,
    unscale: Tensor | None = None,
    before_step: Callable[[float, torch.optim.Optimizer], None] | None = None,
    follow: Callable[[nn.Module], Follow | None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Train `model` in place.

    The loss is that of `objective`, mixed with the distance to the soft targets of `teacher` by
    ``config.distillation`` (Hinton 2015, section 2); of a loss of one's own and of ``mse`` it is
    the mean squared distance to the teacher's outputs. Without labels that alone is the loss. The
    same seed gives the same weights on the same kind of processor; torch's own generator is neither
    read nor moved. Threads take turns.

    Args:
        inputs: uint8 or float, ``(inputs, features)``.
        labels: class of each input, or what each output is to be: `pleach.metrics.as_targets`.
        teacher: outputs of another network for the same inputs, ``(inputs, outputs)``, as the loss
            sees them.
        loss: ``cross_entropy``, ``binary`` (of logits), ``mse``, or a function of outputs,
            ``(n, outputs)``, and labels, ``(n, …)``, that gives a scalar tensor. By default the one
            for the labels.
        unscale: factors of the outputs, ``(outputs,)``: the loss sees outputs times these.
        before_step: called with the epochs done, a fraction, and the optimiser; also after the last
            step.
        follow: what a teacher wants of the training besides (`Teacher.follow`).
        progress: called after each epoch.

    Raises:
        ConfigError: a name in ``config.freeze`` that is no layer, or no such loss.
        DataError: neither labels nor a teacher, or arrays that do not match.
        ModelError: weights that are not finite.
        TrainingError: the loss or a weight is not finite any more; it says in which epoch, and the
            network is as it was before that one.
    """
    config = config or TrainConfig()
    frozen = _frozen(model, config.freeze)
    inputs = as_floats(model, inputs)
    layers = layers_of(model, inputs.shape[1:])
    check_weights(layers)
    if labels is None and teacher is None:
        raise DataError("training needs labels or a teacher")
    if teacher is not None and len(teacher) != len(inputs):
        raise DataError(f"{len(teacher)} teacher outputs for {len(inputs)} inputs")
    if not any(p.requires_grad and id(p) not in frozen for p in model.parameters()):
        raise ConfigError("every layer is frozen: there is nothing to train")
    targets = None
    if labels is not None:
        loss, targets = objective(
            loss, labels, len(inputs), graph_of(model, inputs.shape[1:]).outputs
        )
        targets = torch.from_numpy(targets)
    elif loss is not None:
        raise DataError("a loss needs labels")
    for each in config.penalties:
        each.check(model)
    # Before any hook of ours: it computes nothing that a hook would change.
    listed = not config.dropout and config.device == "cpu" and held(model, inputs.shape[1:])
    training = model.training
    model.train()
    try:
        with (
            exclusive(),
            torch.enable_grad(),
            _on_device(model, config.device),
            channels_last(model),
            _following(model, follow) as following,
            normalising(model, layers, inputs, config.normalise, frozen) as normalised,
        ):
            parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in frozen]
            sparse = None
            if listed and not normalised:
                sparse = SparseNetwork(model, inputs.shape[1:])
            forward = sparse if sparse is not None and following is None else model
            samples = _Samples(forward, inputs, targets, teacher, unscale, loss, config, following)
            samples = samples.to(parameters[0])
            # Whatever looks at the loss as torch computes it goes without.
            alone = following is None and not config.penalties and not config.input_dropout
            if config.optimizer != "adam" or not all(p.is_contiguous() for p in parameters):
                alone = False
            lists = sparse if alone else None
            _epochs(
                model, samples, parameters, config, seed, before_step, progress, lists, normalised
            )
    finally:
        model.train(training)


@contextmanager
def _following(
    model: nn.Module, follow: Callable[[nn.Module], Follow | None] | None
) -> Iterator[Follow | None]:
    """What a teacher wants besides, as long as the training lasts."""
    following = None if follow is None else follow(model)
    try:
        yield following
    finally:
        if following is not None:
            following.end()


@dataclass
class _Samples:
    """What is trained on, and how far outputs are from it; `forward` is the network."""

    forward: Callable[[Tensor], Tensor]
    inputs: Tensor
    targets: Tensor | None
    teacher: Tensor | None
    unscale: Tensor | None
    loss: Loss | None
    config: TrainConfig
    following: Follow | None = None

    def to(self, like: Tensor) -> _Samples:
        """On the device, and of the precision, of a parameter; classes stay integers."""
        targets = self.targets
        if targets is not None:
            targets = targets.to(like) if targets.is_floating_point() else targets.to(like.device)
        teacher, unscale = (None if t is None else t.to(like) for t in (self.teacher, self.unscale))
        return replace(
            self, inputs=self.inputs.to(like), targets=targets, teacher=teacher, unscale=unscale
        )

    def loss_of(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of those samples."""
        inputs = _drop(self.inputs[chosen], self.config.input_dropout, generator)
        following = self.following
        inputs = inputs if following is None else following.before(inputs)
        outputs = self.forward(inputs).flatten(1)
        value = self.distance(outputs, chosen)
        if following is None:
            return value
        targets, soft = self._wanted(chosen)
        more = following.penalty(
            inputs, outputs, lambda given: loss_of(given, targets, soft, self.loss, self.unscale)
        )
        return value if more is None else value + more

    def distance(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The loss of outputs for those samples, without what the teacher wants besides."""
        return _loss(outputs, *self._wanted(chosen), self.config, self.loss, self.unscale)

    def _wanted(self, chosen: Tensor) -> tuple[Tensor | None, Tensor | None]:
        targets = None if self.targets is None else self.targets[chosen]
        return targets, None if self.teacher is None else self.teacher[chosen]


def _epochs(
    model: nn.Module,
    samples: _Samples,
    parameters: list[nn.Parameter],
    config: TrainConfig,
    seed: int,
    before_step: Callable[[float, torch.optim.Optimizer], None] | None,
    progress: Progress | None,
    lists: SparseNetwork | None,
    normalised: list[Normalisation],
) -> None:
    """Train `parameters`: the loop over epochs and steps; through `lists`, if there are any, past
    autograd and torch's optimiser, as soon as they are worth it."""
    generator = torch.Generator().manual_seed(seed)
    following = samples.following
    rows = samples.inputs.flatten(1).numpy() if lists is not None else None
    more = [*(following.parameters if following else []), *(each.gain for each in normalised)]
    optimizer = _optimizer([*parameters, *more], config)
    penalties = [each.begin(model) for each in config.penalties]
    count = len(samples.inputs)
    steps = math.ceil(count / config.batch_size)
    with (
        _dropout(model, config, generator),
        _own_dropout(model, torch.Generator().manual_seed(seed)),
    ):
        good = _snapshot(model, normalised)
        for epoch in range(config.epochs):
            order = torch.randperm(count, generator=generator)
            total = 0.0
            for step, chosen in enumerate(order.split(config.batch_size)):
                if before_step is not None:
                    before_step(epoch + step / steps, optimizer)
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * _rate(
                        config.schedule, (epoch + step / steps) / config.epochs
                    )
                outputs = None
                if lists is not None and rows is not None and lists.worth():
                    outputs = torch.from_numpy(lists.forward(rows, chosen.numpy()))
                    value = samples.distance(outputs.requires_grad_(), chosen)
                else:
                    value = samples.loss_of(chosen, generator)
                for each in penalties:
                    penalty = each.penalty(model, parameters)
                    value = value if penalty is None else value + penalty
                if not math.isfinite(value.item()):
                    _diverged(model, good, epoch, f"the loss is {value.item()}", config)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                if lists is not None and outputs is not None:
                    lists.descend(outputs.grad, optimizer)
                else:
                    with torch.no_grad():
                        for each in penalties:
                            each.gradients(parameters)
                    optimizer.step()
                with torch.no_grad():
                    for each in penalties:
                        each.after_step(model, optimizer.param_groups[0]["lr"])
                total += value.item() * len(chosen)
            mean = total / count
            with torch.no_grad():
                for each in penalties:
                    each.after_epoch(model)
            if not all(bool(p.isfinite().all()) for p in parameters):
                what = f"a weight is not finite, the loss was {mean:.4g}"
                _diverged(model, good, epoch, what, config)
            good = _snapshot(model, normalised)
            if progress is not None:
                progress(epoch + 1, config.epochs, mean)
        if before_step is not None:
            before_step(float(config.epochs), optimizer)


def _optimizer(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    decay = sum(each.decay for each in config.penalties)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, config.learning_rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, config.learning_rate, momentum=0.9, weight_decay=decay)


@contextmanager
def _on_device(model: nn.Module, name: str) -> Iterator[None]:
    """Have the network on a device, and back where its first parameter was.

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    before = next(model.parameters()).device
    if before == torch.device(name):
        yield
        return
    try:
        model.to(torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"TrainConfig.device is {name}: {error}") from error
    try:
        yield
    finally:
        model.to(before)


def _snapshot(model: nn.Module, normalised: Sequence[Normalisation]) -> list[tuple[Tensor, Tensor]]:
    """Parameters and buffers, each with a copy."""
    own = (tensor for each in normalised for tensor in each.tensors)
    return [(t, t.detach().clone()) for t in (*model.parameters(), *model.buffers(), *own)]


def _diverged(
    model: nn.Module,
    good: list[tuple[Tensor, Tensor]],
    epoch: int,
    what: str,
    config: TrainConfig,
) -> NoReturn:
    """Put the network back to `good` and say what happened."""
    with torch.no_grad():
        for tensor, copy in good:
            tensor.copy_(copy)
    raise TrainingError(
        f"epoch {epoch + 1} of {config.epochs}: {what}: training diverges with learning_rate "
        f"{config.learning_rate:g} ({config.optimizer}); a lower one may do. The network is as it "
        "was before that epoch",
        model,
    )


def objective(
    loss: Loss | None, labels: np.ndarray | Tensor, count: int, outputs: int
) -> tuple[Loss, np.ndarray]:
    """The loss, by its name where it has one, and the labels as it takes them.

    Classes are trained with ``cross_entropy``, of one output with ``binary``, floats with ``mse``.
    A loss of one's own gets the labels as they come, integers int64.

    Raises:
        ConfigError: no such loss.
        DataError: labels of another shape, length or kind than it takes.

    >>> objective(None, [0, 1], 2, 2)[0], objective(None, [0, 1], 2, 1)[0]
    ('cross_entropy', 'binary')
    >>> objective(None, [0.5, 1], 2, 1)
    ('mse', array([[0.5],
           [1. ]]))
    """
    if callable(loss):
        array = as_numbers(labels, "labels")
        if array.ndim == 0 or len(array) != count:
            raise DataError(f"labels of shape {array.shape} for {count} inputs")
        check_finite(array, "labels")
        return loss, array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    if loss not in (None, *LOSSES):
        raise ConfigError(
            f"a loss is {', '.join(LOSSES)} or a function of outputs and labels, not {loss!r}"
        )
    if loss == "mse":
        labels = as_numbers(labels, "labels").astype(np.float64)
    targets = as_targets(labels, count, outputs)
    default = "mse" if targets.ndim > 1 else "cross_entropy" if outputs > 1 else "binary"
    loss = loss or default
    if loss == "binary" and default == "mse":
        if targets.min() < 0 or targets.max() > 1:
            raise DataError(f"labels {targets.min():g} to {targets.max():g}: binary takes 0 to 1")
        if outputs == 1 and np.isin(targets, (0, 1)).all():
            targets = targets[:, 0].astype(np.int64)
    elif loss != default:
        raise DataError(
            f"labels {targets.dtype} of shape {targets.shape} for {outputs} outputs are for the "
            f"loss {default}, not {loss}"
        )
    return loss, targets


@contextmanager
def exclusive() -> Iterator[None]:
    """One thread at a time, with torch's threads pinned: torch's generator, its count of threads
    and a model's mode belong to the process."""
    with _TURN, pinned_threads():
        yield


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


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    targets = targets.to(outputs.dtype).reshape(outputs.shape)
    return functional.binary_cross_entropy_with_logits(outputs, targets)


LOSSES = {
    "cross_entropy": functional.cross_entropy,
    "binary": _binary,
    "mse": functional.mse_loss,
}


def loss_of(
    outputs: Tensor,
    targets: Tensor | None,
    soft: Tensor | None,
    loss: Loss | None,
    unscale: Tensor | None,
) -> Tensor:
    """The loss of outputs without what a teacher adds to it; of those alone where there are no
    labels."""
    targets, soft, unscale = (
        None if t is None else t.to(outputs) if t.is_floating_point() else t.to(outputs.device)
        for t in (targets, soft, unscale)
    )
    return _loss(outputs, targets, soft, TrainConfig(), loss, unscale)


def _loss(
    outputs: Tensor,
    targets: Tensor | None,
    soft: Tensor | None,
    config: TrainConfig,
    loss: Loss | None,
    unscale: Tensor | None,
) -> Tensor:
    if unscale is not None:
        outputs = outputs * unscale
    if targets is None or loss is None:
        assert soft is not None  # there are labels or a teacher
        return functional.mse_loss(outputs, soft)
    value = (LOSSES[loss] if isinstance(loss, str) else loss)(outputs, targets)
    if not isinstance(value, Tensor) or value.ndim:
        raise ConfigError(f"a loss must give one number as a tensor, not {value!r:.60}")
    if soft is None or not config.distillation:
        return value
    heat = config.temperature
    if loss not in ("cross_entropy", "binary"):
        distance = functional.mse_loss(outputs, soft)
        return (1 - config.distillation) * value + config.distillation * distance
    if loss == "binary":
        wanted = torch.sigmoid(soft / heat)
        distance = _binary(outputs / heat, wanted) - _binary(soft / heat, wanted)
    else:
        distance = functional.kl_div(
            functional.log_softmax(outputs / heat, dim=1),
            functional.softmax(soft / heat, dim=1),
            reduction="batchmean",
        )
    # Soft gradients shrink with the square of the temperature (Hinton 2015, section 2).
    return (1 - config.distillation) * value + config.distillation * heat * heat * distance


def _frozen(model: nn.Module, names: tuple[str, ...]) -> set[int]:
    """The ids of the parameters of the layers called `names`."""
    if not names:  # nothing is asked of a network that would have to be traced for it
        return set()
    layers = {layer.name: layer.module for layer in layers_of(model)}
    by_layer(list(layers), 0, dict.fromkeys(names, 0))
    return {id(p) for name in names for p in layers[name].parameters()}


@contextmanager
def _dropout(model: nn.Module, config: TrainConfig, generator: torch.Generator) -> Iterator[None]:
    """Drop what hidden layers pass to Linear ones, without a change to the model."""
    hooks = []
    modules = [layer.module for layer in layers_of(model)] if config.dropout else []
    for before, module in pairwise(modules):
        if isinstance(module, nn.Linear):
            size = before.weight.numel()

            def drop(module, args, before=before, size=size):
                if not model.training:
                    return None
                share = config.dropout
                if config.rescale_dropout:
                    share *= math.sqrt(int(before.weight.count_nonzero()) / size)
                return (_drop(args[0], share, generator),)

            hooks.append(module.register_forward_pre_hook(ours(drop)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _own_dropout(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let the model's own Dropout modules draw from `generator`, as they would from torch's: that
    one belongs to the whole process."""
    hooks = []
    for module in model.modules():
        if isinstance(module, DROPOUTS):
            module.eval()  # it passes on what the hook has dropped

            def drop(module, args):
                if not model.training:  # a criterion looks at samples
                    return None
                return (_dropped(module, args[0], generator),)

            hooks.append(module.register_forward_pre_hook(ours(drop)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _dropped(module: _DropoutNd, values: Tensor, generator: torch.Generator) -> Tensor:
    """What a Dropout module makes of `values` in training, bit by bit."""
    if not module.p:
        return values
    noise = torch.empty_like(values, device=generator.device)
    if not isinstance(module, nn.Dropout | nn.AlphaDropout):  # whole channels
        noise = noise.new_empty(*values.shape[:2], *[1] * (values.ndim - 2))
    noise = noise.bernoulli_(1 - module.p, generator=generator).to(values.device)
    if not isinstance(module, nn.AlphaDropout | nn.FeatureAlphaDropout):
        return values * (noise.div_(1 - module.p) if module.p < 1 else noise)
    scale = 1 / math.sqrt((ALPHA * ALPHA * module.p + 1) * (1 - module.p)) if module.p < 1 else 0
    return values * (noise * scale) + ((noise - 1) * (ALPHA * scale) + ALPHA * scale * module.p)


def _drop(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    if not share:
        return values
    kept = torch.empty_like(values, device=generator.device)
    kept = kept.bernoulli_(1 - share, generator=generator).to(values.device)
    return values * kept / (1 - share)
