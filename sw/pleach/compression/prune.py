"""Pruning: masks over the weights of least importance, whatever training loop goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from pleach.compression.allocation import Allocation, Candidates, Progress
from pleach.compression.config import PruneConfig
from pleach.compression.criteria import CRITERIA, Criterion, Scores, Search
from pleach.compression.granularity import GRANULARITIES, Granularity
from pleach.compression.masks import Mask, check_weights, masked_
from pleach.compression.normalise import NORMALISED
from pleach.compression.observe import OF_STEPS, Observations, Observe, PrunableLayer
from pleach.compression.schedules import SCHEDULES
from pleach.errors import ConfigError, PleachError
from pleach.models import layers_of
from pleach.settings import by_layer

T = TypeVar("T")


def prune_(
    model: nn.Module,
    config: PruneConfig | None = None,
    *,
    progress: float = 1.0,
    optimizer: torch.optim.Optimizer | None = None,
    seen: Observations | None = None,
) -> None:
    """Mask the weights and biases of least importance in each Linear and Conv2d layer of `model`.

    Weights that survive keep their values. One that is masked, by torch.nn.utils.prune too, stays
    masked, its gradient is zero, so the user's training loop needs no change; with
    ``config.splice`` it goes on learning behind its mask and may come back. The bias is one more
    input column: it is ranked with the weights of its layer.

    Args:
        progress: 0 to 1, how far the schedule has come; 1 is the target. With ``cubic`` the density
            at `t` is ``target + (start − target)·(1 − t)³`` (Zhu and Gupta 2017, equation 1), a
            threshold is the target's times ``1 − (1 − t)³``.
        optimizer: what trains the model; ``config.criterion = "saliency"`` takes the mean square
            of each gradient from its state (Adam's second moment). Before its first step nothing
            is known, and nothing is masked.
        seen: what the criterion has seen of the training, for one that needs gradients or
            activations.

    Raises:
        ConfigError: a layer in ``config.layers`` that the model does not have, or a criterion
            that is not shown what it needs.
        ModelError: a layer that is not supported, whose weights are shared already, or are not
            finite.

    >>> model = nn.Sequential(nn.Linear(9, 1))
    >>> prune_(model, PruneConfig(density=0.3))
    >>> int(model[0].weight.count_nonzero() + model[0].bias.count_nonzero())
    3
    """
    config = config or PruneConfig()
    check_weights(layers_of(model))
    criterion = CRITERIA.of(config.criterion, "criterion")
    granularity = GRANULARITIES.of(config.granularity, "granularity")
    allocation = config.allocation
    if seen is None:
        if criterion.needs & (OF_STEPS | {Observe.SAMPLES}) - {Observe.OPTIMIZER}:
            raise ConfigError(
                f"the criterion {criterion.kind} needs what it has seen: prune_(…, seen=…)"
            )
        seen = Observations(model, criterion)
    seen.renew()
    layers = seen.layers()
    criterion.check_layers(layers)
    default = allocation.target(config.density)
    targets = by_layer([layer.name for layer in layers], default, config.layers)
    seen.optimizer = optimizer or seen.optimizer
    share = min(max(progress, 0.0), 1.0)
    way = Progress(config.start, SCHEDULES.of(config.schedule, "schedule").remaining(share))
    with torch.no_grad():
        found = []
        for layer in layers:
            masks = masked_(layer.name, layer.module, splice=config.splice)
            scores = _scores(criterion, layer, seen)
            if scores is not None and not config.splice:  # what was masked before stays so
                scores = {part: scores[part] * mask.mask for part, mask in masks.items()}
            grouping = _Grouping(layer, masks, granularity)
            if layer.module in NORMALISED and grouping.bias_alone:
                grouping.spare("bias")
            uses = seen.uses(layer) if allocation.measures else None
            each = grouping.candidates(scores, targets[layer.name], config)
            found.append((grouping, replace(each, uses=uses)))
        found = [(grouping, each) for grouping, each in found if grouping.masks]
        if isinstance(criterion, Search):
            found = _searched(criterion, found, allocation, way, seen)
        kept = allocation.keep([each for _, each in found], way)
        for (grouping, each), chosen in zip(found, kept, strict=True):
            if chosen is not None:
                masks = grouping.kept(chosen, each)
                _settle(criterion, grouping, masks, seen)


def _settle(
    criterion: Criterion, grouping: _Grouping, kept: dict[str, Tensor], seen: Observations
) -> None:
    """Mask all but what is kept of a layer, and give that the values that the criterion says."""
    layer = grouping.layer
    whole = {p: torch.ones_like(t, dtype=torch.bool) for p, t in layer.tensors.items()} | kept
    values = _asked(criterion, layer, lambda: criterion.survivors(layer, whole, seen))
    for part, mask in grouping.masks.items():
        mask.mask.copy_(kept[part])
    for part, value in (values or {}).items():
        tensor = layer.tensors[part]
        tensor.copy_(torch.where(whole[part], value, tensor))


def _searched(
    criterion: Search,
    found: Sequence[tuple[_Grouping, Candidates]],
    allocation: Allocation,
    way: Progress,
    seen: Observations,
) -> list[tuple[_Grouping, Candidates]]:
    """The candidates with the best scores that a search finds."""
    layers = [each for _, each in found]

    def with_(scores: Scores) -> list[Candidates]:
        # What is masked already has the score 0, in the shapes of the groups.
        return [
            replace(
                each, scores=tuple(s * (old > 0) for s, old in zip(own, each.ranked, strict=True))
            )
            for each, own in zip(layers, scores, strict=True)
        ]

    def cost(scores: Scores) -> float:
        tried = with_(scores)
        with _kept_masks([mask for grouping, _ in found for mask in grouping.masks.values()]):
            for (grouping, _), each, kept in zip(
                found, tried, allocation.keep(tried, way), strict=True
            ):
                for part, mask in grouping.kept(kept or (), each).items() if kept else ():
                    grouping.masks[part].mask.copy_(mask)
            return seen.loss(criterion.samples)

    generator = torch.Generator().manual_seed(criterion.seed)

    def draw() -> Scores:
        return [
            tuple(torch.rand(h.shape, generator=generator).to(h) for h in each.held)
            for each in layers
        ]

    best = with_(criterion.search(layers, cost, draw))
    return [(grouping, each) for (grouping, _), each in zip(found, best, strict=True)]


@contextmanager
def _kept_masks(masks: Sequence[Mask]) -> Iterator[None]:
    """Have masks as they are now again at the end."""
    before = [mask.mask.clone() for mask in masks]
    try:
        yield
    finally:
        for mask, old in zip(masks, before, strict=True):
            mask.mask.copy_(old)


def _scores(
    criterion: Criterion, layer: PrunableLayer, seen: Observations
) -> dict[str, Tensor] | None:
    """What the criterion says of a layer, looked at: it may be a user's own.

    Raises:
        ConfigError: it failed, or gave something else than a number for each element.
    """
    scores = _asked(criterion, layer, lambda: criterion.scores(layer, seen))
    if scores is None:
        return None
    where = _where(criterion, layer)
    for part, tensor in layer.tensors.items():
        score = scores.get(part) if isinstance(scores, dict) else None
        if not isinstance(score, Tensor) or score.shape != tensor.shape:
            raise ConfigError(
                f"{where}: scores must hold a tensor of shape {tuple(tensor.shape)} for {part!r}"
            )
        if bool(score.isnan().any()):
            raise ConfigError(f"{where}: a score for {part!r} is not a number")
    return scores


def _where(criterion: Criterion, layer: PrunableLayer) -> str:
    return f"the criterion {criterion.kind}, of layer {layer.name!r}"


def _asked(criterion: Criterion, layer: PrunableLayer, question: Callable[[], T]) -> T:
    """What a criterion answers; it may be a user's own.

    Raises:
        ConfigError: it failed.
    """
    try:
        return question()
    except PleachError:
        raise
    except Exception as error:
        where = _where(criterion, layer)
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error


class _Grouping:
    """The elements of a layer, by part, and the groups that they are kept or pruned in."""

    def __init__(self, layer: PrunableLayer, masks: dict[str, Mask], granularity: Granularity):
        self._groups = granularity.groups(layer)
        self.layer = layer
        self.masks = masks
        if self._groups is not None:
            self.masks = {part: mask for part, mask in masks.items() if part in self._groups}
            if self.masks:
                self._flat = torch.cat([self._groups[part].flatten() for part in self.masks])
                self._sizes = torch.bincount(self._flat)

    @property
    def bias_alone(self) -> bool:
        """Whether biases are kept or pruned without any weight."""
        if "bias" not in self.masks:
            return False
        groups = self._groups
        return groups is None or not bool(torch.isin(groups["bias"], groups["weight"]).any())

    def spare(self, part: str) -> None:
        """Leave a part as it is, and count it nowhere."""
        self.masks = {name: mask for name, mask in self.masks.items() if name != part}
        if self._groups is not None and self.masks:
            self._flat = torch.cat([self._groups[name].flatten() for name in self.masks])
            self._sizes = torch.bincount(self._flat)

    def candidates(
        self, scores: dict[str, Tensor] | None, target: float, config: PruneConfig
    ) -> Candidates:
        masks = list(self.masks.values())
        ranked = None if scores is None else tuple(scores[part] for part in self.masks)
        held = tuple(mask.mask for mask in masks)
        sizes = None
        if self._groups is not None and masks:
            sizes = (self._sizes,)
            held = (self._mean(held),)
            ranked = ranked and (self._mean(ranked),)
        return Candidates(
            name=self.layer.name,
            layer=self.layer,
            target=target,
            scores=ranked,
            sizes=sizes,
            held=held,
            total=sum(mask.size for mask in masks),
            deviations=tuple(mask.deviation for mask in masks[: len(held)]),
            splice=config.splice,
        )

    def _mean(self, parts: tuple[Tensor, ...]) -> Tensor:
        """The mean of each group."""
        values = torch.cat([part.flatten() for part in parts])
        totals = values.new_zeros(len(self._sizes)).index_add_(0, self._flat, values)
        return totals / self._sizes.clamp(min=1)

    def kept(self, chosen: Sequence[Tensor], candidates: Candidates) -> dict[str, Tensor]:
        """Which elements stay, by part, of the groups that are chosen; what was masked before stays
        so."""
        chosen = [k & (s > 0) for k, s in zip(chosen, candidates.ranked, strict=True)]
        if self._groups is not None:
            return {
                part: chosen[0][self._groups[part]] & (mask.splice | (mask.mask > 0))
                for part, mask in self.masks.items()
            }
        return dict(zip(self.masks, chosen, strict=True))
