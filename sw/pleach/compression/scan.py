"""How much each layer can lose: the scan by which thresholds are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from pleach.compression.config import PruneConfig
from pleach.compression.prune import prune_
from pleach.compression.taken import taken
from pleach.compression.train import predict
from pleach.errors import ConfigError
from pleach.files import check_figure, new_figure, write_figure
from pleach.metrics import Metric, as_numbers, as_targets, for_targets, named
from pleach.models import layers_of

DENSITIES = (0.8, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02)


@dataclass(frozen=True)
class Sensitivity:
    """A layer's curve.

    Args:
        layer: qualified name.
        densities: shares kept of this layer alone.
        errors: at each without retraining: per cent wrong, of a regression `rmse` or, of
            several outputs, `nrmse`.
    """

    layer: str
    densities: tuple[float, ...]
    errors: tuple[float, ...]

    def least(self, most_error: float) -> float:
        """The least density whose error, and that of all above it, is at most `most_error`; 1
        where there is none."""
        least = 1.0
        for density, error in sorted(zip(self.densities, self.errors, strict=True), reverse=True):
            if error > most_error:
                break
            least = density
        return least


def sensitivity(
    model: nn.Module,
    inputs: np.ndarray | Tensor,
    labels: np.ndarray | Tensor,
    densities: Sequence[float] = DENSITIES,
    *,
    metric: str | Metric | Callable[[np.ndarray, np.ndarray], float] | None = None,
    stage: PruneConfig | None = None,
    progress: Callable[[str, float, float], None] | None = None,
) -> list[Sensitivity]:
    """Prune each layer alone, without retraining (Han 2015, figure 6).

    Choose inputs that are neither trained on nor kept for the final figure.

    Args:
        inputs, labels: what the error is measured on (`pleach.metrics.as_targets`).
        densities: shares of a layer's weights and biases to keep.
        metric: as in `compress`; by default the one for the labels.
        stage: criterion and granularity, magnitude of single weights by default: with
            ``filter_norm`` and ``channel`` it is the scan of Li et al. 2017, section 3.2.
        progress: called with layer, density and error as each is measured.

    Raises:
        ConfigError: no densities, or one outside 0 to 1.
        DataError: inputs or labels that do not match.
        ModelError: a layer that is not supported, or whose weights are not finite.

    >>> from pleach.models import mlp
    >>> inputs, labels = np.eye(4, dtype=np.float32), np.arange(4)
    >>> [curve.layer for curve in sensitivity(mlp([4, 5, 4]), inputs, labels, [0.5])]
    ['fc1', 'fc2']
    """
    densities = tuple(densities)
    if not densities:
        raise ConfigError("a sensitivity scan needs one density at least")
    curves, stage = [], stage or PruneConfig()
    student = taken(model, as_numbers(inputs, "inputs").shape[1:])
    names = [layer.name for layer in layers_of(student)]
    for name in names:
        errors = []
        for density in densities:
            pruned = taken(student)
            # Only this layer is masked at all: the others are kept whole.
            others = dict.fromkeys(names, 1.0)
            settings = replace(stage, density=density, layers=others | {name: density})
            prune_(pruned, settings)
            outputs = predict(pruned, inputs).numpy()
            targets = as_targets(labels, *outputs.shape)
            chosen = for_targets(targets, outputs.shape[1]) if metric is None else named(metric)
            errors.append(chosen(outputs, targets))
            if progress is not None:
                progress(name, density, errors[-1])
        curves.append(Sensitivity(name, densities, tuple(errors)))
    return curves


def plot(
    curves: Sequence[Sensitivity],
    path: str | Path,
    *,
    dense: float | None = None,
    metric: str = "error, %",
) -> None:
    """Draw the curves into a .png, .svg or .pdf file; wants matplotlib.

    Args:
        dense: error of the network as it was, drawn as a line.
        metric: what the errors are.

    Raises:
        ConfigError: another suffix.
        NotInstalledError: matplotlib is not.
    """
    check_figure(path := Path(path))
    figure = new_figure(figsize=(6, 4))
    axes = figure.subplots()
    for curve in curves:
        axes.plot([100 * d for d in curve.densities], curve.errors, marker="o", label=curve.layer)
    if dense is not None:
        axes.axhline(dense, color="grey", linestyle=":", label="dense")
    axes.set(xscale="log", yscale="log", xlabel="kept, %", ylabel=metric)
    axes.legend()
    write_figure(figure, path)
