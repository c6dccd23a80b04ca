"""What can be set in each step. Every setting is checked, and readable from TOML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pleach.errors import ConfigError
from pleach.numbers import CODEBOOK_MAX, PES_MAX
from pleach.settings import from_dict, from_toml, nearest


def _check(config, name: str, low, high, kind=float) -> None:
    _check_value(f"{type(config).__name__}.{name}", getattr(config, name), low, high, kind)


def _check_value(name: str, value, low, high, kind) -> None:
    allowed = Real if kind is float else Integral
    if isinstance(value, bool) or not isinstance(value, allowed) or not low <= value <= high:
        what = "a number" if kind is float else "an integer"
        raise ConfigError(f"{name} must be {what} from {low} to {high}, not {value!r}")


def _check_choice(config, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise ConfigError(
            f"{type(config).__name__}.{name} must be one of {', '.join(choices)}, "
            f"not {getattr(config, name)!r}"
        )


def _check_type(config, name: str, kind: type, what: str) -> None:
    if not isinstance(getattr(config, name), kind):
        raise ConfigError(
            f"{type(config).__name__}.{name} must be {what}, not {getattr(config, name)!r}"
        )


def _check_layers(config, low, high, kind) -> None:
    """`layers`: a value for each name; a copy is kept."""
    _check_type(config, "layers", Mapping, "a table of layer names and values")
    for name, value in config.layers.items():
        if not isinstance(name, str):
            raise ConfigError(f"{type(config).__name__}.layers takes names, not {name!r}")
        _check_value(f"{type(config).__name__}.layers[{name!r}]", value, low, high, kind)
    object.__setattr__(config, "layers", dict(config.layers))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run of training or retraining.

    Args:
        epochs: passes over the training inputs.
        batch_size: inputs in a step.
        learning_rate: at the start.
        schedule: ``cosine`` (down to zero), ``step`` (a tenth after one half, a hundredth after
            three quarters) or ``constant``.
        optimizer: ``adam`` or ``sgd`` (momentum 0.9).
        weight_decay: L2 penalty (Han 2015, section 3.1).
        l1: L1 penalty, the loss for a weight of magnitude 1 (same section).
        dropout: share of each hidden activation vector that is dropped.
        rescale_dropout: whether `dropout` is the dense network's and each layer of a pruned one
            takes ``dropout·√(C_ir / C_io)`` of it, with the counts of its connections now and
            before (Han 2015, equation 2).
        input_dropout: the same of the inputs.
        distillation: weight of the dense network's soft targets in the loss, 0 to 1.
        temperature: of those targets.
        freeze: qualified names of layers that are not trained, for instance the convolutions while
            the fully connected layers are (Han 2015, section 3.4).
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    l1: float = 0.0
    dropout: float = 0.0
    rescale_dropout: bool = False
    input_dropout: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    freeze: tuple[str, ...] = ()

    def __post_init__(self):
        _check(self, "epochs", 0, 100_000, int)
        _check(self, "batch_size", 1, 1 << 24, int)
        _check(self, "learning_rate", 0, 100)
        _check_choice(self, "schedule", ("cosine", "step", "constant"))
        _check_choice(self, "optimizer", ("adam", "sgd"))
        _check(self, "weight_decay", 0, 1)
        _check(self, "l1", 0, 1)
        _check(self, "dropout", 0, 0.95)
        _check(self, "input_dropout", 0, 0.95)
        _check(self, "distillation", 0, 1)
        _check(self, "temperature", 0.1, 100)
        _check_type(self, "rescale_dropout", bool, "true or false")
        names = self.freeze
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise ConfigError(
                f'TrainConfig.freeze must be a list of layer names, like ["fc1"], not {names!r}'
            )
        object.__setattr__(self, "freeze", tuple(names))


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """A stage of pruning with retraining (Han 2015, section 3).

    Args:
        density: share of the weights and biases that is kept, of those that there were before any
            neuron was removed.
        quality: if set, the threshold is ``quality`` standard deviations of the layer's weights
            before pruning (Han 2015, section 3.1), and `density` is not used.
        layers: either setting per layer, by qualified name.
        criterion: ``magnitude``, or ``saliency``: what the loss would lose with the weight, to
            second order (LeCun 1990, with the Fisher information for the curvature); it wants
            ``train.optimizer = "adam"``.
        scope: ``layer``, the density holds for each layer, or ``network``, for all together, and
            the criterion says how much of it each layer gets.
        splice: whether what was pruned goes on learning and may come back while the ramp lasts
            (dynamic network surgery, Guo et al. 2016).
        start: the density when the stage begins.
        ramp: epochs of `train` over which the density falls, by a cubic law; after them the mask
            is fixed. 0 prunes at once.
        every: epochs between two prunings on the ramp: the prune-and-retrain rounds of Han 2015
            with several, gradual pruning (Zhu and Gupta 2017) with a small part of one.
        balance: PEs of a column group whose loads are kept even: each gets the same share of a
            layer's weights, row `r` counting to PE ``r % balance`` (ESE, Han 2017, section 4.2);
            for a density per layer. 1 leaves the choice to the criterion. Neurons removed shift the
            rows behind them: with `balance`, leave `remove` off.
        remove: whether neurons that have no input or no output left are removed when it ends.
        train: the retraining.
    """

    density: float = 0.25
    quality: float | None = None
    layers: Mapping[str, float] = field(default_factory=dict)
    criterion: str = "magnitude"
    scope: str = "layer"
    splice: bool = False
    start: float = 1.0
    ramp: float = 30.0
    every: float = 1.0
    balance: int = 1
    remove: bool = True
    train: TrainConfig = TrainConfig(epochs=60, distillation=0.5)

    def __post_init__(self):
        high = 1 if self.quality is None else 100
        _check(self, "density", 0, 1)
        if self.quality is not None:
            _check(self, "quality", 0, high)
        _check_layers(self, 0, high, float)
        _check_type(self, "splice", bool, "true or false")
        _check_type(self, "remove", bool, "true or false")
        _check_type(self, "train", TrainConfig, "a TrainConfig")
        _check_choice(self, "criterion", ("magnitude", "saliency"))
        _check_choice(self, "scope", ("layer", "network"))
        _check(self, "start", 0, 1)
        _check(self, "ramp", 0, 100_000)
        _check(self, "every", 1e-4, 100_000)
        _check(self, "balance", 1, PES_MAX, int)
        if self.balance > 1 and (self.scope == "network" or self.quality is not None):
            raise ConfigError("PruneConfig.balance goes with a density per layer")
        if self.ramp > self.train.epochs:
            raise ConfigError(
                f"PruneConfig.ramp is {self.ramp} epochs of {self.train.epochs} of retraining"
            )
        if self.scope == "network" and (self.layers or self.quality is not None):
            raise ConfigError(
                "PruneConfig.scope = 'network' takes one density, no layers and no quality"
            )
        if self.criterion == "saliency" and self.train.optimizer != "adam":
            raise ConfigError("PruneConfig.criterion = 'saliency' needs train.optimizer = 'adam'")
        if self.criterion == "saliency" and self.quality is not None:
            raise ConfigError("PruneConfig.quality is in deviations: it needs criterion magnitude")
        if self.criterion == "saliency" and not self.ramp:
            raise ConfigError("PruneConfig.criterion = 'saliency' needs a ramp to be measured on")


@dataclass(frozen=True, kw_only=True)
class ShareConfig:
    """Weight sharing and fine-tuning of the shared values (Deep Compression, section 3).

    Args:
        clusters: values in a layer's codebook, 1 to 256.
        layers: the same per layer, by qualified name.
        initialisation: ``linear``, ``density``, ``random`` (Deep Compression, section 3.2) or
            ``optimal`` (the least sum of squares there is).
        reassign: epochs between two reassignments of the weights to the shared values during the
            first two thirds of the fine-tuning; 0 leaves them where k-means put them, as Deep
            Compression does.
        train: the fine-tuning.
    """

    clusters: int = 16
    layers: Mapping[str, int] = field(default_factory=dict)
    initialisation: str = "linear"
    reassign: float = 0.0
    train: TrainConfig = TrainConfig(epochs=10, learning_rate=3e-4, distillation=0.5)

    def __post_init__(self):
        _check(self, "clusters", 1, CODEBOOK_MAX, int)
        _check_layers(self, 1, CODEBOOK_MAX, int)
        _check_type(self, "train", TrainConfig, "a TrainConfig")
        _check(self, "reassign", 0, 100_000)
        _check_choice(self, "initialisation", ("linear", "density", "random", "optimal"))


@dataclass(frozen=True, kw_only=True)
class CompressConfig:
    """The whole path.

    Args:
        prune: its stages; each begins with what the one before left.
        share: the step after them.
        codebook_bits: of the fixed-point codebooks, 8 to 16; of 8 they take a byte a value.
        order: whether hidden neurons are put in the order that makes the file smallest.
        output_scale: ``shared``, one fraction for all outputs, ``each``, one for each, so that
            small outputs beside large ones keep their precision in training, sharing and fixed
            point, or ``auto``: ``each`` where the labels are floats of several outputs.
        accumulator_bits: width for which the compiler proves that nothing overflows; ``auto`` is
            32 for each layer where that does, and as much as it needs where it does not.
        seed: of everything random.

    >>> CompressConfig.from_dict({"share": {"cluster": 8}})
    Traceback (most recent call last):
    pleach.errors.ConfigError: unknown setting share.cluster: did you mean 'clusters'?
    """

    prune: tuple[PruneConfig, ...] = (PruneConfig(),)
    share: ShareConfig = ShareConfig()
    codebook_bits: int = 16
    order: bool = True
    output_scale: str = "auto"
    accumulator_bits: int | str = "auto"
    seed: int = 0

    def __post_init__(self):
        if isinstance(self.prune, PruneConfig):
            object.__setattr__(self, "prune", (self.prune,))
        stages = self.prune
        if not isinstance(stages, list | tuple) or not all(
            isinstance(stage, PruneConfig) for stage in stages
        ):
            raise ConfigError(
                f"CompressConfig.prune must be a PruneConfig or several of them, not {stages!r}"
            )
        object.__setattr__(self, "prune", tuple(stages))
        _check_type(self, "share", ShareConfig, "a ShareConfig")
        _check_type(self, "order", bool, "true or false")
        _check_choice(self, "output_scale", ("auto", "shared", "each"))
        _check(self, "codebook_bits", 8, 16, int)
        if isinstance(self.accumulator_bits, str):
            _check_choice(self, "accumulator_bits", ("auto", "a number of bits"))
        else:
            _check(self, "accumulator_bits", 16, 64, int)
        _check(self, "seed", 0, (1 << 63) - 1, int)

    def with_(
        self,
        *,
        density: float | None = None,
        clusters: int | None = None,
        epochs: int | None = None,
        **unknown: Any,
    ) -> CompressConfig:
        """These settings with the three that matter most, in agreement with the others.

        Args:
            density: share kept at the end, of every layer: for `PruneConfig.layers` and
                `PruneConfig.quality`, too.
            clusters: values in each codebook; for `ShareConfig.layers`, too.
            epochs: of retraining in all stages of pruning. Their ramps and the fine-tuning of
                shared values become shorter or longer with it; 0 trains nothing.

        Raises:
            ConfigError: one out of range, or another setting.

        >>> only_quantised = CompressConfig().with_(density=1, clusters=256, epochs=0)
        >>> short = CompressConfig().with_(epochs=12)
        >>> short.prune[0].train.epochs, short.prune[0].ramp, short.share.train.epochs
        (12, 6.0, 2)
        """
        for name in unknown:
            known = nearest(name, ("density", "clusters", "epochs"))
            raise ConfigError(f"with_ has no setting {name}: {known}")
        stages, share = list(self.prune) or [PruneConfig(density=1.0)], self.share
        if epochs is not None:
            _check_value("epochs", epochs, 0, 100_000, int)
            before = sum(stage.train.epochs for stage in stages)
            if not before:  # nothing to keep the proportions of
                default = PruneConfig()
                stages[-1] = replace(stages[-1], train=default.train, ramp=default.ramp)
                share = replace(
                    share, train=replace(share.train, epochs=ShareConfig().train.epochs)
                )
                before = default.train.epochs
            factor = epochs / before
            for n, stage in enumerate(stages):
                count = round(stage.train.epochs * factor)
                ramp = min(stage.ramp * factor, count)
                stages[n] = replace(stage, ramp=ramp, train=replace(stage.train, epochs=count))
            share = replace(
                share, train=replace(share.train, epochs=math.ceil(share.train.epochs * factor))
            )
        if density is not None:
            stages[:-1] = [replace(s, density=max(s.density, density)) for s in stages[:-1]]
            stages[-1] = replace(stages[-1], density=density, quality=None, layers={})
        if clusters is not None:
            share = replace(share, clusters=clusters, layers={})
        return replace(self, prune=tuple(stages), share=share)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> CompressConfig:
        """Settings not in `table` keep their defaults; an unknown one is a ConfigError."""
        return from_dict(cls(), table)

    @classmethod
    def from_toml(cls, path: str | Path) -> CompressConfig:
        """The settings in a TOML file; its tables are named as the fields are.

        Raises:
            ConfigError: no such file, not TOML, or a setting that does not exist or is wrong.
        """
        return from_toml(cls(), path)
