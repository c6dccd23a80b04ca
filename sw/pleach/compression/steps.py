"""The steps that there are: prune, share, factorise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from pleach.compression.config import CompressConfig, PruneConfig, ShareConfig, TrainConfig
from pleach.compression.criteria import CRITERIA
from pleach.compression.factorise import FACTORISERS, Factoriser
from pleach.compression.masks import masks_of
from pleach.compression.observe import Observations, Observe, PrunableLayer, prunable
from pleach.compression.prune import prune_
from pleach.compression.remove import remove_neurons_
from pleach.compression.share import reassign_, share_
from pleach.compression.step import Context, Plan, Step
from pleach.errors import ConfigError, ModelError
from pleach.models import Network, copied, layers_of
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
        plan.shared = True

    def run(self, context: Context) -> None:
        share_(context.module, self.settings, seed=context.seed)
        if any(p.requires_grad for p in context.module.parameters()):
            reassign = reassignment(context.module, self.settings)
            context.train(self.name, self.settings.train, reassign)


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
        factoriser: a kind of `pleach.compression.factorise`: ``svd``.
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
        self._rewrite(context.module)
        if self.train is not None:
            context.train(self.name, self.train)

    def _rewrite(self, model: nn.Module) -> None:
        factorise_(model, self.factoriser, self.layers)


def factorise_(
    model: nn.Module,
    factoriser: Factoriser | str | Mapping[str, Any] = "svd",
    layers: tuple[str, ...] = (),
) -> list[str]:
    """Put smaller layers in the place of those that `factoriser` can do it for.

    Args:
        layers: qualified names of those that are tried; all where there are none.

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
        small = chosen.factors(PrunableLayer(layer.name, layer.module, layer.activation, last))
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
