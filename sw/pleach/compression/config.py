"""What can be set in each step. Every setting is checked, and readable from TOML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pleach.compression.activations import ACTIVATIONS, LowBit
from pleach.compression.allocation import ALLOCATIONS, Allocation
from pleach.compression.checks import (
    check_choice,
    check_integer,
    check_layers,
    check_names,
    check_number,
    check_type,
    check_value,
)
from pleach.compression.criteria import CRITERIA, Criterion
from pleach.compression.granularity import GRANULARITIES, Granularity
from pleach.compression.kinds import Kinds
from pleach.compression.normalise import CHOICES
from pleach.compression.observe import OF_STEPS
from pleach.compression.quantisers import QUANTISERS, Projection, Quantiser
from pleach.compression.regularisers import REGULARISERS, Regulariser
from pleach.compression.schedules import SCHEDULES, Schedule
from pleach.errors import ConfigError
from pleach.numbers import CODEBOOK_MAX, PES_MAX
from pleach.settings import READS_ITSELF, from_dict, from_toml, nearest

T = TypeVar("T")
#: what a setting takes that names a kind: the name, a table with ``kind``, or the thing itself
Table = Mapping[str, Any]
DEVICES = re.compile(r"cpu|auto|cuda(:\d+)?")


def _choose(config: object, name: str, kinds: Kinds[T]) -> T:
    """What a name or a table in that field stands for; the config keeps it in its place."""
    value = kinds.of(getattr(config, name), f"{type(config).__name__}.{name}")
    object.__setattr__(config, name, value)
    return value


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
        regularisers: further penalties, each a kind of `pleach.compression.regularisers`.
        dropout: share of each hidden activation vector that is dropped.
        rescale_dropout: whether `dropout` is the dense network's and each layer of a pruned one
            takes ``dropout·√(C_ir / C_io)`` of it, with the counts of its connections now and
            before (Han 2015, equation 2).
        input_dropout: the same of the inputs.
        distillation: weight of the dense network's soft targets in the loss, 0 to 1.
        temperature: of those targets.
        freeze: qualified names of layers that are not trained, for instance the convolutions while
            the fully connected layers are (Han 2015, section 3.4).
        normalise: layers behind which there is a batch normalisation as long as it trains, folded
            into them at the end: ``folded``, those that one was folded into when the network was
            read; ``all`` but the last, for a network whose file has them folded already; ``none``.
            Layers whose values are shared have none.
        device: where it runs: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``, CUDA where there is one.
            The network is moved there and back. The same seed gives the same weights on one kind of
            CPU; what a GPU sums may differ in the last bits from run to run.
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    l1: float = 0.0
    regularisers: tuple[Regulariser | str | Table, ...] = field(default=(), metadata=READS_ITSELF)
    dropout: float = 0.0
    rescale_dropout: bool = False
    input_dropout: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    freeze: tuple[str, ...] = ()
    normalise: str = "folded"
    device: str = "cpu"

    def __post_init__(self):
        check_integer(self, "epochs", 0, 100_000)
        check_integer(self, "batch_size", 1, 1 << 24)
        check_number(self, "learning_rate", 0, 100)
        check_choice(self, "schedule", ("cosine", "step", "constant"))
        check_choice(self, "optimizer", ("adam", "sgd"))
        check_number(self, "weight_decay", 0, 1)
        check_number(self, "l1", 0, 1)
        check_number(self, "dropout", 0, 0.95)
        check_number(self, "input_dropout", 0, 0.95)
        check_number(self, "distillation", 0, 1)
        check_number(self, "temperature", 0.1, 100)
        check_type(self, "rescale_dropout", bool, "true or false")
        check_names(self, "freeze")
        check_choice(self, "normalise", CHOICES)
        found = REGULARISERS.several(self.regularisers, "TrainConfig.regularisers")
        object.__setattr__(self, "regularisers", found)
        if not isinstance(self.device, str) or not DEVICES.fullmatch(self.device):
            raise ConfigError(
                f"TrainConfig.device must be one of cpu, auto, cuda, cuda:0, not {self.device!r}"
            )

    @property
    def penalties(self) -> tuple[Regulariser, ...]:
        """All regularisers, those of `l1` and `weight_decay` first."""
        named = {"l1": self.l1, "weight_decay": self.weight_decay}
        return (
            *(REGULARISERS.of({"kind": k, "strength": x}, k) for k, x in named.items() if x),
            *REGULARISERS.several(self.regularisers, "regularisers"),
        )


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """A stage of pruning with retraining (Han 2015, section 3).

    Args:
        density: share of the weights and biases that is kept, of those that there were before any
            neuron was removed.
        quality: if set, the threshold is ``quality`` standard deviations of the layer's weights
            before pruning (Han 2015, section 3.1), and `density` is not used.
        layers: either setting per layer, by qualified name.
        criterion: what is pruned first, a kind of `pleach.compression.criteria`: ``magnitude``;
            ``saliency``, what the loss would lose with the weight, to second order (LeCun 1990,
            with the Fisher information for the curvature; it wants ``train.optimizer = "adam"``);
            ``taylor``, the same to first order (Molchanov et al. 2019); ``apoz``, how seldom a
            channel gives 0 (Hu et al. 2016).
        granularity: what is pruned as one, a kind of `pleach.compression.granularity`: ``element``,
            or ``channel``, a neuron or filter with its bias (Li et al. 2017).
        scope: who keeps how much, a kind of `pleach.compression.allocation`: ``layer``, the density
            holds for each layer, or ``network``, for all together, and the criterion says how much
            of it each layer gets.
        schedule: how the density falls, a kind of `pleach.compression.schedules`: ``cubic`` (Zhu
            and Gupta 2017).
        splice: whether what was pruned goes on learning and may come back while the ramp lasts
            (Guo et al. 2016); the schedule ``surgery`` sets it.
        start: the density when the stage begins.
        ramp: epochs of `train` over which the density falls; after them the mask is fixed. 0 prunes
            at once.
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
    criterion: Criterion | str | Table = field(default="magnitude", metadata=READS_ITSELF)
    granularity: Granularity | str | Table = field(default="element", metadata=READS_ITSELF)
    scope: Allocation | str | Table = field(default="layer", metadata=READS_ITSELF)
    schedule: Schedule | str | Table = field(default="cubic", metadata=READS_ITSELF)
    splice: bool = False
    start: float = 1.0
    ramp: float = 30.0
    every: float = 1.0
    balance: int = 1
    remove: bool = True
    train: TrainConfig = TrainConfig(epochs=60, distillation=0.5)

    def __post_init__(self):
        check_number(self, "density", 0, 1)
        if self.quality is not None:
            check_number(self, "quality", 0, 100)
        check_integer(self, "balance", 1, PES_MAX)
        check_type(self, "splice", bool, "true or false")
        check_type(self, "remove", bool, "true or false")
        check_type(self, "train", TrainConfig, "a TrainConfig")
        check_number(self, "start", 0, 1)
        check_number(self, "ramp", 0, 100_000)
        check_number(self, "every", 1e-4, 100_000)
        criterion = _choose(self, "criterion", CRITERIA)
        scope = _choose(self, "scope", ALLOCATIONS)
        granularity = _choose(self, "granularity", GRANULARITIES)
        if _choose(self, "schedule", SCHEDULES).splices:
            object.__setattr__(self, "splice", True)
        check_layers(self, 0, self.allocation.most, float)
        if self.balance > 1 and (scope.kind != "layer" or self.quality is not None):
            raise ConfigError("PruneConfig.balance goes with a density per layer")
        if self.ramp > self.train.epochs:
            raise ConfigError(
                f"PruneConfig.ramp is {self.ramp} epochs of {self.train.epochs} of retraining"
            )
        scope.check(self)
        self.allocation.check(self)
        criterion.check(self)
        granularity.check(self)
        if self.splice and type(criterion).survivors is not Criterion.survivors:
            raise ConfigError(
                f"PruneConfig.criterion = {criterion.kind!r} changes the weights that stay to make "
                "up for those that go: with splice = true these would come back"
            )
        granularities = criterion.granularities
        if granularities and granularity.kind not in granularities:
            said = " or ".join(f"{each!r}" for each in granularities)
            raise ConfigError(
                f"PruneConfig.criterion = {criterion.kind!r} does not go with the granularity "
                f"{granularity.kind!r}: set granularity = {said}"
            )
        if criterion.needs & OF_STEPS and not self.ramp:
            raise ConfigError(
                f"PruneConfig.criterion = {criterion.kind!r} needs a ramp to be measured on"
            )

    @property
    def allocation(self) -> Allocation:
        """`scope`, or what `quality` or `balance` stand for."""
        if self.quality is not None:
            return ALLOCATIONS.of({"kind": "threshold", "quality": self.quality}, "quality")
        if self.balance > 1:
            return ALLOCATIONS.of({"kind": "balance", "pes": self.balance}, "balance")
        return ALLOCATIONS.of(self.scope, "scope")


@dataclass(frozen=True, kw_only=True)
class ShareConfig:
    """Weight sharing and fine-tuning of the shared values (Deep Compression, section 3).

    Args:
        clusters: values in a layer's codebook, 1 to 256.
        layers: the same per layer, by qualified name.
        quantiser: where the values come from, a kind of `pleach.compression.quantisers`:
            ``kmeans``, or ``powers_of_two`` (Zhou et al. 2017), which are not trained on.
        initialisation: of k-means, a short form of ``{ kind = "kmeans", initialisation = … }``:
            ``linear``, ``density``, ``random`` (Deep Compression, section 3.2) or ``optimal`` (the
            least sum of squares there is).
        reassign: epochs between two reassignments of the weights to the shared values during the
            first two thirds of the fine-tuning; 0 leaves them where k-means put them, as Deep
            Compression does.
        activations: if set, hidden layers get a function of few bits, a kind of
            `pleach.compression.activations`.
        train: the fine-tuning; of a quantiser that is a projection the training through it.
    """

    clusters: int = 16
    layers: Mapping[str, int] = field(default_factory=dict)
    quantiser: Quantiser | str | Table = field(default="kmeans", metadata=READS_ITSELF)
    initialisation: InitVar[str | None] = None
    reassign: float = 0.0
    activations: LowBit | str | Table | None = field(default=None, metadata=READS_ITSELF)
    train: TrainConfig = TrainConfig(epochs=10, learning_rate=3e-4, distillation=0.5)

    def __post_init__(self, initialisation: str | None):
        quantiser = _choose(self, "quantiser", QUANTISERS)
        if initialisation is not None:
            if quantiser.kind != "kmeans":
                raise ConfigError(
                    "ShareConfig.initialisation is of the quantiser kmeans, it does not go with "
                    f"{quantiser.kind}"
                )
            table = {"kind": "kmeans", "initialisation": initialisation}
            object.__setattr__(self, "quantiser", QUANTISERS.of(table, "initialisation"))
        check_integer(self, "clusters", 1, CODEBOOK_MAX)
        check_layers(self, 1, CODEBOOK_MAX, int)
        check_type(self, "train", TrainConfig, "a TrainConfig")
        check_number(self, "reassign", 0, 100_000)
        if self.activations is not None:
            _choose(self, "activations", ACTIVATIONS)
        if self.reassign and isinstance(quantiser, Projection):
            raise ConfigError(
                "ShareConfig.reassign moves weights between shared values, with "
                f"{quantiser.kind} they learn behind its set: leave it out"
            )


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
        check_type(self, "share", ShareConfig, "a ShareConfig")
        check_type(self, "order", bool, "true or false")
        check_choice(self, "output_scale", ("auto", "shared", "each"))
        check_integer(self, "codebook_bits", 8, 16)
        if isinstance(self.accumulator_bits, str):
            check_choice(self, "accumulator_bits", ("auto", "a number of bits"))
        else:
            check_integer(self, "accumulator_bits", 16, 64)
        check_integer(self, "seed", 0, (1 << 63) - 1)

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
            check_value("epochs", epochs, 0, 100_000, int)
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
            scope = ALLOCATIONS.of(stages[-1].scope, "scope")
            scope = scope if scope.target(density) == density else "layer"
            stages[-1] = replace(stages[-1], density=density, quality=None, layers={}, scope=scope)
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
