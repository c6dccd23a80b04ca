"""What a network is to give, and how far it is from that. Numpy only: no torch here."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pleach.arrays import as_array
from pleach.errors import ConfigError, DataError


def as_numbers(values: Any, what: str) -> np.ndarray:
    """`values`, an array, a list or a tensor of any device, as an array of numbers.

    Raises:
        DataError: rows of different lengths, or no numbers.
    """
    try:
        array = as_array(values)
    except ValueError as error:
        raise DataError(f"{what} are no array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} must be numbers, not {array.dtype}")
    return array


def as_targets(labels: Any, count: int, outputs: int) -> np.ndarray:
    """Classes, int64 ``(count,)``, or what each output is to be, float64 ``(count, outputs)``.

    Integers, one an input, are classes: 0 to ``outputs - 1``, of one output 0 and 1. Floats,
    ``(count, outputs)``, of one output ``(count,)`` too, are targets.

    Args:
        labels: an array, a list or a tensor.
        count: inputs that there are.
        outputs: of the network.

    Raises:
        DataError: another shape, length or kind, a class that has no output, or a target that is
            not finite.

    >>> as_targets([2, 0], 2, 3)
    array([2, 0])
    >>> as_targets([[2], [0]], 2, 3)
    Traceback (most recent call last):
    pleach.errors.DataError: labels are int64 of shape (2, 1) for 3 outputs: classes are integers of
    shape (2,), targets floats of shape (2, 3)
    """
    array = as_numbers(labels, "labels")
    if array.ndim == 0 or len(array) != count:
        got = "one number" if array.ndim == 0 else f"{len(array)} labels"
        raise DataError(f"{got} for {count} inputs")
    classes = array.dtype.kind != "f"
    if not count:
        raise DataError("no inputs and no labels")
    fits = array.shape == (count,) if classes else math.prod(array.shape[1:]) == outputs
    if classes and outputs == 1 and array.shape == (count, 1):
        array, fits = array[:, 0], True
    if not fits:
        column = not classes and array.size == count
        hint = "; integers make classes: .astype('int64')" if column else ""
        raise DataError(
            f"labels are {array.dtype} of shape {array.shape} for {outputs} "
            f"output{'s' * (outputs > 1)}: classes are integers of shape ({count},), targets "
            f"floats of shape ({count}, {outputs})"
            f"{hint}"
        )
    if not classes:
        check_finite(array, "labels")
        return array.astype(np.float64).reshape(count, outputs)
    most = max(outputs, 2) - 1
    if array.min() < 0 or array.max() > most:
        few = ": classes start at 0" if array.min() == 1 and array.max() == most + 1 else ""
        if outputs == 1:
            few = ", which tells 0 from 1; numbers to be met are floats"
        raise DataError(
            f"labels {array.min()} to {array.max()}, {outputs} output{'s' * (outputs > 1)}{few}"
        )
    return array.astype(np.int64)


def check_finite(array: np.ndarray, what: str) -> None:
    """Refuse a NaN or an infinity.

    Raises:
        DataError: with the place of the first.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise DataError(f"{what} hold {array[tuple(place)]} at {place}, which is not finite")


def classes_of(outputs: np.ndarray) -> np.ndarray:
    """The class that outputs, ``(n, classes)``, tell: that of the largest, of equal ones the lower;
    of one output 1 where it is above 0 and 0 elsewhere.

    >>> classes_of(np.array([[0.5], [0.0]])).tolist(), classes_of(np.array([[1, 3, 3]])).tolist()
    ([1, 0], [1])
    """
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(int)


def wrong_percent(outputs: Any, labels: Any) -> float:
    """Share of outputs, ``(n, classes)``, whose largest is not the label's, in per cent.

    Ties go to the lower class. One output tells class 1 where it is above 0, class 0 elsewhere.
    Outputs of several fractions are to be given as real numbers (`CompressedModel.dequantise`).

    Raises:
        DataError: labels of another shape, length or kind, or outputs that are not finite.

    >>> wrong_percent(np.array([[0, 1], [1, 0]]), np.array([1, 1]))
    50.0
    >>> wrong_percent(np.array([[0.5], [0.0]]), np.array([1, 1]))
    50.0
    """
    outputs = _outputs(outputs)
    labels = as_targets(labels, *outputs.shape)
    if labels.ndim > 1:
        raise DataError(f"labels are {labels.dtype} of shape {labels.shape}: classes are integers")
    return float(100 * np.mean(classes_of(outputs) != labels))


def rmse(outputs: Any, targets: Any) -> float:
    """Root of the mean square of ``outputs - targets``, both ``(n, outputs)``, in their unit.

    Raises:
        DataError: targets of another shape, length or kind, or values that are not finite.

    >>> rmse(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    1.4142135623730951
    """
    outputs = _outputs(outputs)
    targets = as_targets(as_numbers(targets, "targets").astype(np.float64), *outputs.shape)
    return float(np.sqrt(np.mean((outputs - targets) ** 2)))


def nrmse(outputs: Any, targets: Any, deviation: Any = None) -> float:
    """Root of the mean, over the outputs, of (an output's `rmse` / its targets' deviation)²: 0 is
    best, always saying the mean of each target gives 1. It is √(1 − mean R²).

    A target that does not deviate counts in its own unit.

    Args:
        outputs, targets: ``(n, outputs)``.
        deviation: of the targets, ``(outputs,)``; by default that of those given.

    Raises:
        DataError: targets of another shape, length or kind, or values that are not finite.

    >>> nrmse(np.array([[2.0, 0.1], [2.0, 0.3]]), np.array([[1.0, 0.1], [3.0, 0.3]]))
    0.7071067811865476
    """
    outputs = _outputs(outputs)
    targets = as_targets(as_numbers(targets, "targets").astype(np.float64), *outputs.shape)
    return float(np.sqrt(np.mean(_relative(outputs, targets, deviation) ** 2)))


def binary_loss(outputs: Any, targets: Any) -> float:
    """Mean binary cross entropy of logits, ``(n, outputs)``, and targets of 0 to 1.

    >>> binary_loss(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0]]))
    0.6931471805599453
    """
    outputs = _outputs(outputs)
    targets = as_targets(as_numbers(targets, "targets").astype(np.float64), *outputs.shape)
    return float(np.mean(np.logaddexp(0, outputs) - targets * outputs))


@dataclass(frozen=True)
class Metric:
    """A figure that says how far outputs are from their targets; 0 is best.

    Args:
        name: in JSON and tables.
        unit: after the figure, ``"%"`` or nothing.
        of: real outputs, float64 ``(n, outputs)``, and targets to the figure.
        about: what a figure without a unit is.
    """

    name: str
    unit: str
    of: Callable[[np.ndarray, np.ndarray], float]
    about: str = ""

    def __call__(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        return float(self.of(outputs, targets))

    def text(self, value: float) -> str:
        """The figure with its unit.

        >>> ERROR.text(2.0), RMSE.text(0.012345)
        ('2.00 %', '0.01235')
        """
        return f"{value:.2f} {self.unit}" if self.unit else f"{value:.4g}"

    @property
    def title(self) -> str:
        """What is measured, over figures.

        >>> ERROR.title, RMSE.title
        ('error, %', "rmse (in the targets' unit)")
        """
        return f"error, {self.unit}" if self.unit else self.name + self._about

    def said(self, value: float) -> str:
        """The figure with its name and what it is.

        >>> ERROR.said(2.0), NRMSE.said(0.25)
        ('2.00 % error', "nrmse 0.25 (in each target's deviation; 1 is always saying the mean)")
        """
        text = self.text(value)
        return f"{text} error" if self.unit else f"{self.name} {text}{self._about}"

    @property
    def _about(self) -> str:
        return f" ({self.about})" if self.about else ""


ERROR = Metric("error_pct", "%", wrong_percent)
RMSE = Metric("rmse", "", rmse, "in the targets' unit")
NRMSE = Metric("nrmse", "", nrmse, "in each target's deviation; 1 is always saying the mean")
BINARY = Metric("loss", "", binary_loss, "binary cross entropy")
METRICS = {metric.name: metric for metric in (ERROR, RMSE, NRMSE)}
#: those of `for_targets`
BY_NAME = METRICS | {BINARY.name: BINARY}


def for_targets(targets: np.ndarray, outputs: int, loss: Any = None) -> Metric:
    """The figure for `targets`, as `as_targets` gives them: per cent wrong of classes, of one
    output the root mean square, of several `nrmse`, in the deviations of these `targets` even
    where only some of them are compared; of floats for the loss ``binary`` that loss.

    >>> for_targets(np.array([0, 1]), 2).name, for_targets(np.array([[0.5]]), 1).name
    ('error_pct', 'rmse')
    >>> for_targets(np.ones((1, 2)), 2).name, for_targets(np.ones((1, 2)), 2, "binary").name
    ('nrmse', 'loss')
    """
    targets = as_targets(targets, len(targets), outputs)
    if targets.ndim == 1:
        return ERROR
    if loss == "binary":
        return BINARY
    if outputs == 1:
        return RMSE
    return replace(NRMSE, of=partial(nrmse, deviation=targets.std(axis=0)))


def named(metric: str | Metric | Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    """A metric by its name, or a function of outputs and targets as one.

    Raises:
        ConfigError: no such name, or neither.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str) and metric in METRICS:
        return METRICS[metric]
    if callable(metric):
        return Metric(getattr(metric, "__name__", type(metric).__name__), "", metric)
    raise ConfigError(
        f"a metric is {', '.join(METRICS)} or a function of outputs and targets, not {metric!r}"
    )


def in_doubt(outputs: np.ndarray, targets: np.ndarray) -> list[int]:
    """Outputs that are hardly better than a guess: of classes all or none, of a regression each by
    itself.

    The guess is the class that is the commonest, or the mean of an output's targets. An output that
    is the same for all inputs is never better than that.

    >>> in_doubt(np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.0, 1.5], [1.0, 0.5]]))
    [1]
    """
    targets = as_targets(targets, *outputs.shape)
    if targets.ndim == 1:
        guess = _guess(targets)
        wrong = guess and wrong_percent(outputs, targets) >= 0.75 * guess
        return list(range(outputs.shape[1])) if wrong else []
    far = (_relative(_outputs(outputs), targets) >= 0.95) & (targets.std(axis=0) > 0)
    return [int(output) for output in np.flatnonzero(far)]


def doubt(outputs: np.ndarray, targets: np.ndarray, known: Collection[int] = ()) -> str | None:
    """What to say of a network that is hardly better than a guess, as `in_doubt` tells; None of one
    that is, or whose outputs in doubt are all among `known`.

    A network whose layers were read in another order, or whose inputs are scaled otherwise than in
    training, is like that.

    >>> doubt(np.eye(4), np.array([1, 2, 3, 0]))
    'the network is wrong for 100.0 % of its inputs, and always saying the same for 75.0 %'
    >>> doubt(np.eye(4), np.arange(4))
    >>> doubt(np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.0, 1.5], [1.0, 0.5]]))
    'output 1 (from 0; always 1) is 1 off its targets in their deviation, and always saying their
    mean is 1 off'
    """
    found = [output for output in in_doubt(outputs, targets) if output not in known]
    if not found:
        return None
    targets = as_targets(targets, *outputs.shape)
    if targets.ndim == 1:
        return (
            f"the network is wrong for {wrong_percent(outputs, targets):.1f} % of its inputs, and "
            f"always saying the same for {_guess(targets):.1f} %"
        )
    outputs = _outputs(outputs)
    if outputs.shape[1] == 1:
        return (
            f"the network is {rmse(outputs, targets):.4g} off its targets in root mean square, and "
            f"always saying their mean {targets.std():.4g}"
        )
    off, said = _relative(outputs, targets), []
    for output in found[:5]:
        same = np.ptp(outputs[:, output]) == 0
        always = f"; always {outputs[0, output]:.4g}" if same else ""
        said.append(
            f"output {output} (from 0{always}) is {off[output]:.4g} off its targets in their "
            "deviation"
        )
    more = f", and {len(found) - 5} more outputs as much" if len(found) > 5 else ""
    return f"{', '.join(said)}{more}, and always saying their mean is 1 off"


def _guess(classes: np.ndarray) -> float:
    """Per cent wrong of always saying the commonest class."""
    return 100 - 100 * np.bincount(classes).max() / len(classes)


def _relative(outputs: np.ndarray, targets: np.ndarray, deviation: Any = None) -> np.ndarray:
    """Root mean square of each output's error, in its targets' deviation where they have one."""
    deviation = targets.std(axis=0) if deviation is None else np.asarray(deviation)
    off = np.sqrt(np.mean((outputs - targets) ** 2, axis=0))
    return off / np.where(deviation > 0, deviation, 1)


def _outputs(outputs: Any) -> np.ndarray:
    """``(n, outputs)``, finite, float64 where they are no integers."""
    outputs = as_numbers(outputs, "outputs")
    if outputs.ndim != 2 or not outputs.size:
        raise DataError(f"outputs have the shape {outputs.shape}, not (n, outputs)")
    check_finite(outputs, "outputs")
    return outputs if outputs.dtype.kind in "iu" else outputs.astype(np.float64)
