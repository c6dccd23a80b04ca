"""The whole path: prune, share, fine-tune, calibrate."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compile.calibrate import calibrate
from pleach.compile.order import ordered
from pleach.compression.config import CompressConfig
from pleach.compression.masks import check_weights, masks_of, over, parts_of, size_of
from pleach.compression.step import Context, Plan, StageProgress, Step, checked
from pleach.compression.steps import default_steps
from pleach.compression.taken import taken
from pleach.compression.teachers import Teacher
from pleach.compression.teachers.model import ModelTeacher
from pleach.compression.train import Loss, as_floats, exclusive, objective, predict
from pleach.errors import (
    ConfigError,
    DataError,
    GuessWarning,
    ModelError,
    PleachError,
    PleachWarning,
    TrainingError,
)
from pleach.format import dumps
from pleach.metrics import (
    ERROR,
    Metric,
    as_numbers,
    as_targets,
    check_finite,
    doubt,
    for_targets,
    in_doubt,
    named,
)
from pleach.model import CompressedModel
from pleach.models import Layer, empty_model, graph_of, layers_of, real_graph
from pleach.reference import Reference
from pleach.report import Stage

Arrays = np.ndarray | Tensor
Measure = str | Metric | Callable[[np.ndarray, np.ndarray], float]

# An output that small beside the others has a fraction of its own that the file can hold.
MOST_EXPONENT = 64

#: calibration inputs whose fixed-point outputs are compared with their labels
FIXED_LOOKED_AT = 1000
GUESS_HELP = (
    "are the network's layers, their order and functions, and the scale of its inputs those that "
    "it was trained with?"
)
LOST_HELP = (
    "keep more of its weights (density), let more values differ (clusters), or retrain it longer "
    "(epochs; of few inputs an epoch is few steps)"
)
FIXED_HELP = (
    "inputs or outputs of very different size share a fraction; scale such features alike, and "
    "let each output have a fraction of its own (output_scale each)"
)


def compress(
    model: nn.Module,
    calibration: np.ndarray | Tensor,
    labels: np.ndarray | Tensor | None = None,
    config: CompressConfig | None = None,
    *,
    loss: Loss | None = None,
    metric: Measure | None = None,
    validation: tuple[np.ndarray | Tensor, np.ndarray | Tensor] | None = None,
    teacher: Teacher | nn.Module | Callable[[Tensor], Tensor | np.ndarray] | None = None,
    steps: Sequence[Step] | None = None,
    report: Callable[[Stage], None] | None = None,
    progress: StageProgress | None = None,
) -> CompressedModel:
    """Compress a trained network, as `layers_of` takes it; `model` itself is not changed.

    The steps change a copy one after the other; what they leave is put into fixed point. Whatever
    can be refused is refused before the first epoch. Threads take turns.

    Args:
        calibration: training inputs, ``(n, …)``, for retraining and for the choice of fractions.
            uint8 is seen as value / 256 and makes a network with uint8 inputs, floats one with
            int16 inputs.
        labels: their classes, or what each output is to be (`pleach.metrics.as_targets`). Without
            labels the network is retrained on the teacher's outputs.
        loss: of the retraining, as `train` takes it; by default the one for the labels.
        metric: of the validation: ``error_pct``, ``rmse``, ``nrmse``, or a function of real
            outputs and labels. By default the one for the labels; of a loss of one's own where the
            labels are neither classes nor targets, the loss.
        validation: inputs and labels for the figures that `report` gets; they steer nothing.
        teacher: what the network's outputs are to be like, by ``distillation``: any module, or a
            function of a batch of inputs, as float32. By default the network as it is now.
        steps: what is done, in that order, each a `pleach.compression.Step`. By default the stages
            of ``config.prune`` and ``config.share``; a list of one's own is done in their place.
        report: called after each stage.
        progress: called after each epoch with stage, epoch (from 1), epochs and mean loss.

    Raises:
        ModelError: a network that cannot be represented; names the layer.
        ConfigError: a setting for a layer that the network does not have, or other settings than
            `CompressConfig`.
        DataError: arrays, or a teacher, that do not match the network.
        TrainingError: what failed later; it has the network as it stood and the stages.

    Warns:
        GuessWarning: the network, or an output of a regression, is hardly better than a guess
            before anything is done to it.
        PleachWarning: so is what is left in the end, where it was not before.
    """
    config = CompressConfig() if config is None else config
    if not isinstance(config, CompressConfig):
        raise ConfigError(f"settings are a CompressConfig, not {type(config).__name__}")
    done = default_steps(config) if steps is None else checked(steps)
    if teacher is not None and not isinstance(teacher, Teacher):
        teacher = ModelTeacher(model=teacher)
    shape = as_numbers(calibration, "inputs").shape[1:]
    with exclusive(), torch.inference_mode(False):
        return _compress(
            taken(model, shape), calibration, labels, config, done, loss, metric, validation,
            teacher, report, progress,
        )  # fmt: skip


def _compress(
    student: nn.Module,
    calibration: Arrays,
    labels: Arrays | None,
    config: CompressConfig,
    steps: tuple[Step, ...],
    loss: Loss | None,
    metric: Measure | None,
    validation: tuple[Arrays, Arrays] | None,
    teacher: Teacher | None,
    report: Callable[[Stage], None] | None,
    progress: StageProgress | None,
) -> CompressedModel:
    inputs = as_floats(student, calibration)
    shape = tuple(inputs.shape[1:])
    outputs = graph_of(student, shape).outputs
    original = _original(student)
    if labels is not None:
        loss, labels = objective(loss, labels, len(inputs), outputs)
    elif loss is not None:
        raise DataError("a loss needs labels")
    check_steps(student, shape, steps, labels is not None and labels.dtype.kind in "iu")
    soft = None if teacher is None else _taught(teacher, student, inputs, outputs)
    scale = _Scale(student, shape)
    measured = _Measured(student, scale, calibration, loss, metric, validation, outputs)
    stages = _Stages(student, original, measured, report)
    stages.done("dense")
    dense = predict(student, inputs)
    # Floats for another loss than the squared error need be nothing that outputs are to be like.
    given = labels if labels is None or labels.dtype.kind != "f" or loss == "mse" else None
    doubtful, guessing = _doubt(dense, given)
    if guessing:
        warnings.warn(f"{guessing}: {GUESS_HELP}", GuessWarning, stacklevel=3)
    soft = dense if soft is None else soft
    context = Context(student, inputs, labels, loss, soft, None, config.seed, progress, teacher)
    targets = labels is not None and labels.dtype.kind == "f" and outputs > 1
    if config.output_scale == "each" or (config.output_scale == "auto" and targets):
        _scale_outputs(context, scale, dense)

    stage = "dense"
    try:
        for step in steps:
            stage = step.name
            step.run(context)
            stages.done(stage)
        gone, lost = _doubt(predict(student, inputs) / scale.factors, given, doubtful)
        if lost:
            warnings.warn(f"after compression {lost}: {LOST_HELP}", PleachWarning, stacklevel=3)

        stage = "fixed point"
        fixed = _fixed(student, calibration, config, original, scale.exponents)
        dumps(fixed)  # what no file holds is refused while there is a network to hand out
        if given is not None and given.dtype.kind == "f":
            few = slice(None, None, -(-len(inputs) // FIXED_LOOKED_AT))
            words = fixed.quantise(as_numbers(calibration, "calibration inputs")[few])
            left = torch.from_numpy(fixed.dequantise(Reference(fixed).run(words)))
            if lost := _doubt(left, given[few], {*doubtful, *gone})[1]:
                warnings.warn(f"in fixed point {lost}: {FIXED_HELP}", PleachWarning, stacklevel=3)
        stages.done(stage, fixed)
    except (PleachError, PleachWarning, MemoryError) as error:  # a warning made an error, too
        scale.undo()
        raise TrainingError(
            f"{stage}: {error or type(error).__name__}; what was trained is the error's .network, "
            "for pleach.finish or to go on with",
            student,
            stages.list,
        ) from error
    return fixed


class _Stages:
    """The stages so far, each reported with what the network is then."""

    def __init__(
        self,
        student: nn.Module,
        original: int,
        measured: _Measured,
        report: Callable[[Stage], None] | None,
    ):
        self._student, self._original = student, original
        self._measured, self._report = measured, report
        self._start = time.monotonic()
        self.list: list[Stage] = []

    def done(self, name: str, fixed: CompressedModel | None = None) -> None:
        if self._report is not None:
            seconds = time.monotonic() - self._start
            kept = _kept(self._student, fixed) / self._original
            figure = self._measured(self._student, fixed)
            self.list.append(Stage(name, figure, kept, seconds, self._measured.name))
            self._report(self.list[-1])
        self._start = time.monotonic()


def _taught(teacher: Teacher, student: nn.Module, inputs: Tensor, outputs: int) -> Tensor:
    """What a teacher of the user's gives, checked; and that there is what it is to be followed
    in."""
    following = teacher.follow(student)
    if following is not None:
        few = inputs[:2].clone()
        try:
            with torch.enable_grad():
                few = following.before(few)
                following.penalty(few, student(few).flatten(1), lambda given: given.square().sum())
        finally:
            following.end()
    soft = teacher.outputs(inputs)
    if tuple(soft.shape) != (len(inputs), outputs):
        raise DataError(
            f"the teacher gives outputs of the shape {tuple(soft.shape)}, the network "
            f"{(len(inputs), outputs)}"
        )
    check_finite(soft.numpy(), "the teacher's outputs")
    return soft


def _scale_outputs(context: Context, scale: _Scale, dense: Tensor) -> None:
    """Train on outputs of one size; of a regression each counts alike, whatever its size."""
    scale.choose(dense)
    context.unscale = 1 / scale.factors
    if context.loss in ("mse", None):
        spread = torch.from_numpy(context.labels) if context.loss == "mse" else context.teacher
        spread = spread.std(0, correction=0).float()
        spread[spread == 0] = 1
        context.unscale, context.teacher = context.unscale / spread, context.teacher / spread
        if context.labels is not None:
            context.labels = context.labels / spread.numpy()


def finish(
    model: nn.Module,
    calibration: np.ndarray | Tensor,
    *,
    accumulator_bits: int | str = "auto",
    codebook_bits: int = 16,
    order: bool = True,
    output_scale: str = "shared",
) -> CompressedModel:
    """A network that is pruned and shared already, from whatever loop, as integers.

    It carries masks and shared weights of `prune_` and `share_` or of torch.nn.utils.prune, or is
    plain: zeros are what was pruned. Each layer has 256 distinct weights and biases at most, zeros
    apart. Nothing is trained, and `model` is not changed.

    Args:
        calibration: inputs like those it will get, ``(n, …)``, for the choice of fractions. uint8
            is seen as value / 256 and makes a network with uint8 inputs, floats one with int16
            inputs.
        accumulator_bits, codebook_bits, order: as in `CompressConfig`.
        output_scale: ``each`` output has a fraction of its own, or one is ``shared``. A codebook
            then has each of its values once for each exponent.

    Raises:
        ConfigError: a setting out of range.
        ModelError: a network that cannot be represented; names the layer.
        DataError: inputs that do not match the network.

    >>> from pleach.compression import ShareConfig, share_
    >>> model = nn.Sequential(nn.Linear(8, 4))
    >>> share_(model, ShareConfig(clusters=4))
    >>> finish(model, np.ones((1, 8), np.float32)).layers[0].kept
    36
    """
    config = CompressConfig(
        accumulator_bits=accumulator_bits,
        codebook_bits=codebook_bits,
        order=order,
        output_scale=output_scale,
    )
    student = taken(model, as_numbers(calibration, "inputs").shape[1:])
    inputs = as_floats(student, calibration)
    layers = layers_of(student, inputs.shape[1:])
    check_weights(layers)
    original = _original(student)
    with exclusive():
        scale = _Scale(student, inputs.shape[1:])
        if config.output_scale == "each":
            scale.choose(predict(student, inputs))
        return _fixed(student, calibration, config, original, scale.exponents)


def _original(student: nn.Module) -> int:
    """Weights and biases before neurons were removed."""
    modules = [layer.module for layer in layers_of(student)]
    return sum(size_of(module, part) for module in modules for part in parts_of(module))


def _fixed(student, calibration, config: CompressConfig, original: int, exponents):
    calibration = as_numbers(calibration, "calibration inputs")
    fixed = calibrate(
        real_graph(student, calibration.shape[1:]),
        calibration,
        accumulator_bits=config.accumulator_bits,
        codebook_bits=config.codebook_bits,
    )
    fixed = replace(fixed, original=original, output_exponents=exponents)
    return ordered(fixed) if config.order else fixed


class _Scale:
    """Powers of two that make the outputs of a network one size while it is trained and shared.

    An output's row of the last layer, and with it the output, is as large as the others'; its
    fraction in the file makes up for it.

    Attributes:
        exponents: of the rows of the last layer; none before `choose`, or where all are 0.
        factors: what the outputs are multiplied by, ``(outputs,)``.
    """

    def __init__(self, student: nn.Module, shape: Sequence[int]):
        self._student, self._shape = student, shape
        self.exponents: tuple[int, ...] = ()
        self.factors = torch.ones(graph_of(student, shape).outputs)

    @property
    def _last(self) -> Layer:
        return layers_of(self._student, self._shape)[-1]

    def choose(self, outputs: Tensor) -> None:
        """Scale the last layer so that the largest of each row's `outputs` is within a factor of
        two of the largest of all."""
        if not isinstance(graph_of(self._student, self._shape).nodes[-1].op, Layer):
            return  # the last node has no rows: its outputs share a fraction
        rows = self._last.outputs
        largest = outputs.abs().amax(0).reshape(rows, -1).amax(1).double()
        ratio = torch.where(largest > 0, largest.max() / largest, 1.0)
        exponents = ratio.log2().floor().clamp(0, MOST_EXPONENT)
        if exponents.any():
            self.exponents = tuple(exponents.int().tolist())
            self.factors = (2.0**exponents).repeat_interleave(len(self.factors) // rows).float()
            self._multiply(2.0**exponents)

    def undo(self) -> None:
        """Give the network its own outputs back."""
        if self.exponents:
            self._multiply(2.0 ** -torch.tensor(self.exponents).double())
            self.exponents, self.factors = (), torch.ones_like(self.factors)

    def _multiply(self, factors: Tensor) -> None:
        module = self._last.module
        for part in parts_of(module):
            if parametrize.is_parametrized(module, part):
                if not masks_of(module):  # a shared codebook knows no rows
                    parametrize.remove_parametrizations(module, part)
            masked = masks_of(module).get(part)
            tensor = getattr(module, part)
            tensor = tensor if masked is None else over(module, part).original
            with torch.no_grad():
                tensor.mul_(factors.to(tensor).reshape(-1, *[1] * (tensor.ndim - 1)))


class _Measured:
    """The figure of the validation inputs, checked before any work."""

    def __init__(self, student, scale, calibration, loss, metric, validation, outputs: int):
        self._inputs, self._scale = None, scale
        self._metric = ERROR if metric is None else named(metric)
        if validation is None:
            return
        try:
            self._inputs, labels = validation
        except (TypeError, ValueError):
            raise DataError("validation is a pair, inputs and labels") from None
        count = len(as_floats(student, self._inputs))
        kinds = [
            "uint8" if as_numbers(x, "inputs").dtype == np.uint8 else "floats"
            for x in (calibration, self._inputs)
        ]
        if kinds[0] != kinds[1]:
            raise DataError(f"validation inputs are {kinds[1]}, the calibration's {kinds[0]}")
        if loss is None:  # no labels to train on: those of the validation say what they are
            loss, self._labels = objective(None, labels, count, outputs)
        else:
            _, self._labels = objective(loss, labels, count, outputs)
        if metric is None:
            self._metric = self._default(loss, labels, count, outputs)

    def _default(self, loss, labels, count: int, outputs: int) -> Metric:
        if isinstance(loss, str):
            return for_targets(self._labels, outputs, loss)
        try:
            self._labels = as_targets(labels, count, outputs)
            return for_targets(self._labels, outputs)
        except DataError:
            pass

        def own(found: np.ndarray, labels: np.ndarray) -> float:
            wanted = torch.from_numpy(labels)
            wanted = wanted.float() if wanted.is_floating_point() else wanted
            return float(loss(torch.from_numpy(found).float(), wanted))

        return Metric("loss", "", own)

    @property
    def name(self) -> str:
        return self._metric.name

    def __call__(self, student: nn.Module, fixed: CompressedModel | None) -> float | None:
        if self._inputs is None:
            return None
        if fixed is None:
            found = (predict(student, self._inputs) / self._scale.factors).numpy()
        else:
            inputs = fixed.quantise(as_numbers(self._inputs, "inputs"))
            found = fixed.dequantise(Reference(fixed).run(inputs))
        return self._metric(found.astype(np.float64), self._labels)


def _doubt(
    outputs: Tensor, labels: np.ndarray | None, known: Collection[int] = ()
) -> tuple[list[int], str | None]:
    """The outputs for the calibration inputs that are in doubt, and what `doubt` says of them."""
    if not bool(outputs.isfinite().all()):
        raise ModelError("the network's outputs for the calibration inputs are not finite")
    try:
        if labels is not None:
            found = outputs.numpy()
            return in_doubt(found, labels), doubt(found, labels, known)
    except DataError:  # labels for a loss of one's own
        pass
    return [], None


def check_steps(
    student: nn.Module, shape: tuple[int, ...], steps: Sequence[Step], classes: bool
) -> None:
    """Refuse what no training makes representable, and whatever a step refuses.

    Args:
        shape: of an input.
        classes: whether the labels are.

    Raises:
        ConfigError, ModelError: as `compress`.
    """
    check_weights(layers_of(student, shape))
    plan = Plan(student, shape, classes=classes)
    for step in steps:
        step.check(plan)
    dumps(empty_model(plan.module, plan.shape))


def _kept(student, fixed) -> int:
    """Weights and biases that are not zero."""
    if fixed is not None:
        return sum(layer.kept for layer in fixed.layers)
    modules = [layer.module for layer in layers_of(student)]
    tensors = [t for module in modules for t in (module.weight, module.bias) if t is not None]
    return sum(int(t.count_nonzero()) for t in tensors)
