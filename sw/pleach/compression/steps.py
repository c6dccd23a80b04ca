"""The steps that there are: prune, share, factorise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compression.activations import ACTIVATIONS, LowBit
from pleach.compression.config import CompressConfig, PruneConfig, ShareConfig, TrainConfig
from pleach.compression.criteria import CRITERIA
from pleach.compression.factorise import FACTORISERS, Factoriser
from pleach.compression.latent import input_moments, latent_, stepping
from pleach.compression.masks import masks_of
from pleach.compression.observe import Observations, Observe, PrunableLayer, prunable
from pleach.compression.prune import prune_
from pleach.compression.quantisers import QUANTISERS, Projection
from pleach.compression.remove import remove_neurons_
from pleach.compression.share import reassign_, share_
from pleach.compression.step import Context, Plan, Step
from pleach.errors import ConfigError, ModelError
from pleach.model import Activation
from pleach.models import Network, copied, layers_of, ours, put_function_
from pleach.settings import by_layer


@dataclass(frozen=True)
class Prune(Step):
    """A stage of pruning with retraining.

    Args:
        settings: of it.
        name: of the stage.
        place: of the settings, for errors.
    """

    settings: PruneConfig = field(default_factory=PruneConfig)
    name: str = "pruned"
    place: str = "prune"

    def check(self, plan: Plan) -> None:
        by_layer(plan.names, 0, self.settings.layers, f"{self.place}.layers")
        plan.check_train(self.settings.train, f"{self.place}.train")
        if plan.shared:
            raise ConfigError(f"the step {self.name!r} comes after one that shares: prune first")
        criterion = CRITERIA.of(self.settings.criterion, "criterion")
        if Observe.CLASSES in criterion.needs and not plan.classes:
            raise ConfigError(
                f"{self.place}.criterion = {criterion.kind!r} needs the classes of the training "
                "inputs: give labels that are integers"
            )
        layers = prunable(plan.module, plan.shape)
        criterion.check_layers(layers)
        self.settings.allocation.check_layers(layers)
        plan.pruned = True
        for layer in plan.layers:
            if parametrize.is_parametrized(layer.module) and not masks_of(layer.module):
                raise ModelError(
                    f"layer {layer.name!r} is shared already, and pruning comes before sharing: "
                    "pleach.finish takes it as it is, or make its tensors plain with "
                    "torch.nn.utils.parametrize.remove_parametrizations"
                )

    def run(self, context: Context) -> None:
        criterion = CRITERIA.of(self.settings.criterion, "criterion")
        with Observations(context.module, criterion, samples=context.samples) as seen:
            narrow = narrowing(context.module, self.settings, seen)
            context.train(self.name, self.settings.train, narrow)
        if self.settings.remove:
            remove_neurons_(context.module)


def narrowing(
    student: nn.Module, stage: PruneConfig, seen: Observations
) -> Callable[[float, torch.optim.Optimizer], None]:
    """What is to be done before each step of training: prune when a round of the ramp is over."""
    rounds = max(1, math.ceil(stage.ramp / stage.every))
    done = 0

    def narrow(epochs: float, optimizer: torch.optim.Optimizer) -> None:
        nonlocal done
        if epochs:
            seen.step()
        due = rounds if epochs >= stage.ramp else int(epochs / stage.every)
        if due > done:
            prune_(student, stage, progress=due / rounds, optimizer=optimizer, seen=seen)
            seen.forget()
            done = due

    return narrow


@dataclass(frozen=True)
class Share(Step):
    """Weight sharing with fine-tuning of the shared values.

    Args:
        settings: of it.
        name: of the stage.
        place: of the settings, for errors.
    """

    settings: ShareConfig = field(default_factory=ShareConfig)
    name: str = "shared"
    place: str = "share"

    def check(self, plan: Plan) -> None:
        by_layer(plan.names, 0, self.settings.layers, f"{self.place}.layers")
        plan.check_train(self.settings.train, f"{self.place}.train")
        self._check_values(plan)
        if self.settings.activations is not None:
            plan.module = copied(plan.module)
            low_bit_(plan.module, self.settings.activations, self.place)
        plan.shared = True

    def _check_values(self, plan: Plan) -> None:
        """A set leaves each layer with a bias a value for it."""
        quantiser = QUANTISERS.of(self.settings.quantiser, "quantiser")
        if not isinstance(quantiser, Projection):
            return
        if plan.shared:
            raise ConfigError(
                f"the step {self.name!r} puts weights on the set of {quantiser.kind}, and an "
                "earlier one has shared them: leave that one out"
            )
        values = by_layer(plan.names, self.settings.clusters, self.settings.layers)
        for layer in plan.layers:
            if quantiser.size + (layer.module.bias is not None) > values[layer.name]:
                raise ConfigError(
                    f"{self.place}.clusters is {values[layer.name]} for layer {layer.name!r}: the "
                    f"set of {quantiser.kind} has {quantiser.size} values, and biases need others"
                )
            if quantiser.looks and getattr(layer.module, "groups", 1) > 1:
                raise ConfigError(
                    f"the quantiser {quantiser.kind} looks at what layer {layer.name!r} takes: it "
                    "does not go with a convolution in groups"
                )

    def run(self, context: Context) -> None:
        settings, model = self.settings, context.module
        quantiser = QUANTISERS.of(settings.quantiser, "quantiser")
        projected = isinstance(quantiser, Projection)
        if settings.activations is not None:
            low_bit_(model, settings.activations, self.place)
        if projected:
            self._learn(context, quantiser)
            return
        share_(context.module, self.settings, seed=context.seed)
        if any(p.requires_grad for p in context.module.parameters()):
            reassign = reassignment(context.module, self.settings)
            with low_bit_gradients(model, settings.activations, context.seed):
                context.train(self.name, self.settings.train, reassign)

    def _learn(self, context: Context, projection: Projection) -> None:
        """Train through a projection, then put the weights on its set."""
        model, train = context.module, self.settings.train
        moments = input_moments(model, context.inputs) if projection.looks else None
        latent_(
            model,
            dict.fromkeys((layer.name for layer in layers_of(model)), projection),
            seed=context.seed,
            moments=moments,
        )
        if train.epochs:
            regularisers = (*train.regularisers, *projection.penalties)
            with low_bit_gradients(model, self.settings.activations, context.seed):
                context.train(
                    self.name,
                    replace(train, regularisers=regularisers),
                    stepping(model, train.epochs),
                )
        share_(model, self.settings, seed=context.seed)


def low_bit_(model: nn.Module, kind: LowBit | str | Mapping[str, Any], place: str = "") -> None:
    """Give the hidden layers that have a function one of few bits.

    Raises:
        ConfigError: there is no such layer, or it has few bits already.
    """
    chosen = ACTIVATIONS.of(kind, "activations")
    hidden = [
        layer for layer in prunable(model) if layer.activation != Activation.NONE and not layer.last
    ]
    if not hidden:
        raise ConfigError(
            f"{place}.activations is {chosen.kind}: no hidden layer of the network has a function"
        )
    for layer in hidden:
        put_function_(model, layer.name, chosen.function)


@contextmanager
def low_bit_gradients(
    model: nn.Module, kind: LowBit | str | Mapping[str, Any] | None, seed: int
) -> Iterator[None]:
    """Have the gradients of what layers give in few bits, where the kind says so."""
    generator = torch.Generator().manual_seed(seed)
    change = None
    if kind is not None:
        change = ACTIVATIONS.of(kind, "activations").gradients(generator)
    handles = []

    def hook(module: nn.Module, taken: Any, given: Tensor) -> None:
        if given.requires_grad:
            given.register_hook(change)

    for layer in layers_of(model) if change is not None else ():
        handles.append(layer.module.register_forward_hook(ours(hook)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reassignment(
    student: nn.Module, share: ShareConfig
) -> Callable[[float, torch.optim.Optimizer], None]:
    """What is to be done before each step of the fine-tuning."""
    end = share.train.epochs * 2 / 3
    done = 0

    def reassign(epochs: float, optimizer: torch.optim.Optimizer) -> None:
        nonlocal done
        if share.reassign and epochs < end and int(epochs / share.reassign) > done:
            done = int(epochs / share.reassign)
            reassign_(student)

    return reassign


@dataclass(frozen=True)
class Factorise(Step):
    """Layers made into smaller ones that come near them, with training after it.

    Args:
        factoriser: a kind of `pleach.compression.factorise`: ``svd``, ``tucker2``, ``cp`` …
        layers: qualified names of those that are tried; all where there are none.
        train: the training; None of none.
        name: of the stage.
        place: of the settings, for errors.
    """

    factoriser: Factoriser | str | Mapping[str, Any] = "svd"
    layers: tuple[str, ...] = ()
    train: TrainConfig | None = field(
        default_factory=lambda: TrainConfig(epochs=10, distillation=0.5)
    )
    name: str = "factorised"
    place: str = "factorise"

    def __post_init__(self):
        chosen = FACTORISERS.of(self.factoriser, "Factorise.factoriser")
        object.__setattr__(self, "factoriser", chosen)

    def check(self, plan: Plan) -> None:
        by_layer(plan.names, 0, dict.fromkeys(self.layers, 0), f"{self.place}.layers")
        if plan.pruned or plan.shared:
            done = "shares" if plan.shared else "prunes"
            raise ConfigError(
                f"the step {self.name!r} comes after one that {done}: factorise first"
            )
        plan.module = copied(plan.module)
        self._rewrite(plan.module)
        if self.train is not None:
            plan.check_train(self.train, f"{self.place}.train")

    def run(self, context: Context) -> None:
        factoriser = FACTORISERS.of(self.factoriser, "factoriser")
        moments = input_moments(context.module, context.inputs) if factoriser.looks else None
        self._rewrite(context.module, moments)
        if self.train is not None:
            context.train(self.name, self.train)

    def _rewrite(self, model: nn.Module, moments: Mapping[str, Tensor] | None = None) -> None:
        factorise_(model, self.factoriser, self.layers, moments)


def factorise_(
    model: nn.Module,
    factoriser: Factoriser | str | Mapping[str, Any] = "svd",
    layers: tuple[str, ...] = (),
    moments: Mapping[str, Tensor] | None = None,
) -> list[str]:
    """Put smaller layers in the place of those that `factoriser` can do it for.

    Args:
        layers: qualified names of those that are tried; all where there are none.
        moments: of what the layers take, as `pleach.compression.latent.input_moments` gives them.

    Returns:
        The names of those that were replaced.

    Raises:
        ModelError: a layer that is not supported, or is pruned or shared already.

    >>> model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 2))
    >>> factorise_(model, {"kind": "svd", "rank": 4}), [layer.name for layer in layers_of(model)]
    (['0'], ['0.0', '0.1', '2'])
    """
    chosen = FACTORISERS.of(factoriser, "factoriser")
    found, replaced = layers_of(model), []
    for layer in found:
        if layers and layer.name not in layers:
            continue
        if parametrize.is_parametrized(layer.module):
            raise ModelError(f"layer {layer.name!r} is pruned or shared already: factorise first")
        last = layer is found[-1]
        seen = None if moments is None else moments.get(layer.name)
        small = chosen.factors(
            PrunableLayer(
                layer.name, layer.module, layer.activation, last, layer.geometry, moments=seen
            )
        )
        if small is not None:
            small.train(layer.module.training)
            if isinstance(model, Network):
                model.put_(layer.name, small)
            else:
                owner, _, name = layer.name.rpartition(".")
                model.get_submodule(owner)._modules[name] = small
            replaced.append(layer.name)
    layers_of(model)  # refuses what does not fit in its place
    return replaced


def default_steps(config: CompressConfig) -> tuple[Step, ...]:
    """The steps that settings stand for: the stages of pruning, and sharing."""
    several = len(config.prune) > 1
    prune = (
        Prune(
            stage,
            f"pruned {number}" if several else "pruned",
            f"prune[{number - 1}]" if several else "prune",
        )
        for number, stage in enumerate(config.prune, start=1)
    )
    return (*prune, Share(config.share))
