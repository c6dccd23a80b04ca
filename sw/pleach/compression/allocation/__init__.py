"""How much of each layer is kept: each allocation is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pleach.compression.kinds import Kinds
from pleach.compression.observe import PrunableLayer
from pleach.compression.stage import PruningStage

__all__ = [
    "ALLOCATIONS",
    "Allocation",
    "Candidates",
    "Progress",
    "PruningStage",
    "allocation",
    "largest",
    "uncut",
]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The groups of one layer, each kept or pruned as one.

    Args:
        name: of the layer.
        target: its figure in the settings at the end, a density where the allocation has no other.
        scores: importance of each group, by part where each element is one, ``(rows, …)``; the
            groups of the whole layer in one tensor, ``(groups,)``, where they are larger. 0 of what
            is gone already. None: nothing is known of the layer yet.
        sizes: elements in each group, in the shapes of `scores`; None of one each.
        held: 1 where a group is not masked now, 0 where it is, in the shapes of `scores`.
        total: elements before neurons were removed.
        deviations: standard deviation of the layer's weights before any was pruned, for each of
            `scores`.
        splice: whether what is masked may come back.
        layer: the layer itself, where there is one.
        uses: how often a weight meets an activation for one input, where the allocation measures.
    """

    name: str
    target: float
    scores: tuple[Tensor, ...] | None
    sizes: tuple[Tensor, ...] | None
    held: tuple[Tensor, ...]
    total: int
    deviations: tuple[float, ...]
    splice: bool
    layer: PrunableLayer | None = None
    uses: float | None = None

    @property
    def ranked(self) -> tuple[Tensor, ...]:
        """The scores, of a layer that has some."""
        return self.scores or ()


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Args:
        start: density when it began.
        remaining: share of the way that is left, 1 to 0, by its schedule.
    """

    start: float
    remaining: float

    def density(self, target: float) -> float:
        """The density that is due on the way to `target`."""
        return target + (self.start - target) * self.remaining


class Allocation(ABC):
    """Who keeps how much.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
        most: the largest figure that ``PruneConfig.layers`` takes.
        measures: whether it looks at `Candidates.uses`.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""
    most: ClassVar[float] = 1
    measures: ClassVar[bool] = False

    @abstractmethod
    def keep(
        self, layers: Sequence[Candidates], progress: Progress
    ) -> list[tuple[Tensor, ...] | None]:
        """For each layer which of its groups stay, bool, in the shapes of `Candidates.scores`;
        None leaves its masks as they are. `largest` does the choosing."""

    def target(self, density: float) -> float:
        """The figure of a layer that ``layers`` does not name."""
        return density

    def check(self, stage: PruningStage) -> None:  # noqa: B027 - need not be there
        """Refuse settings that it does not go with.

        Raises:
            ConfigError: says which.
        """

    def check_layers(self, layers: Sequence[PrunableLayer]) -> None:  # noqa: B027 - as above
        """Refuse a network that it does not go with, before any training.

        Raises:
            ConfigError: says which layer.
        """


def largest(
    layers: Sequence[Candidates], density: float, classes: int = 1
) -> list[tuple[Tensor, ...]]:
    """Which groups of all `layers` together are the most important.

    Args:
        layers: with scores.
        density: share of their elements that stay.
        classes: each class of rows keeps the same share, row ``r`` being of class ``r % classes``.
    """
    scores = [score for layer in layers for score in layer.ranked]
    count = round(density * sum(layer.total for layer in layers))
    if any(layer.sizes is not None for layer in layers):
        sizes = [
            size
            for layer in layers
            for size in (
                layer.sizes or [torch.ones_like(s, dtype=torch.int64) for s in layer.ranked]
            )
        ]
        kept = iter(_largest_groups(scores, sizes, count))
    else:
        kept = iter(_largest(scores, count, classes))
    return [tuple(next(kept) for _ in layer.ranked) for layer in layers]


def uncut(
    layers: Sequence[Candidates], kept: Sequence[tuple[Tensor, ...] | None]
) -> list[tuple[Tensor, ...] | None]:
    """Of a layer that would lose all of its groups the best one stays too, so that the network is
    not cut in two; a layer that is one group, or whose groups are single weights, may go."""
    found = list(kept)
    for place, layer in enumerate(layers):
        chosen = found[place]
        if chosen is None or layer.sizes is None or len(layer.ranked[0]) < 2:
            continue
        if not bool(chosen[0].any()) and bool(layer.ranked[0].any()):
            best = torch.zeros_like(chosen[0])
            best[layer.ranked[0].argmax()] = True
            found[place] = (best,)
    return found


def _largest(scores: list[Tensor], count: int, classes: int = 1) -> list[Tensor]:
    """Where the `count` largest of all scores are; with `classes`, an equal share of them in each
    class of rows."""
    if classes > 1:
        kept = [torch.zeros_like(score, dtype=torch.bool) for score in scores]
        for first in range(min(classes, len(scores[0]))):
            own = [score[first::classes] for score in scores]
            share = sum(s.numel() for s in own) / sum(s.numel() for s in scores)
            for whole, part in zip(kept, _largest(own, round(count * share)), strict=True):
                whole[first::classes] = part
        return kept
    joined = torch.cat([score.flatten() for score in scores])
    kept = torch.zeros_like(joined, dtype=torch.bool)
    kept[joined.topk(min(count, len(joined))).indices] = True
    return _split(kept, scores)


def _largest_groups(scores: list[Tensor], sizes: list[Tensor], count: int) -> list[Tensor]:
    """Where the largest of all scores are whose groups have `count` elements at most together; one
    is kept in any case, if one is to be kept at all."""
    joined = torch.cat([score.flatten() for score in scores])
    if not len(joined):
        return scores
    order = joined.argsort(descending=True, stable=True)
    elements = torch.cat([size.flatten() for size in sizes])[order].cumsum(0)
    kept = torch.zeros_like(joined, dtype=torch.bool)
    kept[order[elements <= count]] = True
    kept[order[: min(count, 1)]] = True
    return _split(kept, scores)


def _split(joined: Tensor, like: list[Tensor]) -> list[Tensor]:
    parts = joined.split([each.numel() for each in like])
    return [part.view_as(each) for part, each in zip(parts, like, strict=True)]


ALLOCATIONS = Kinds(Allocation, __name__)
allocation = ALLOCATIONS.register
