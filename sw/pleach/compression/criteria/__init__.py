"""What is pruned first: each criterion is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from pleach.compression.allocation import Candidates
from pleach.compression.kinds import Kinds
from pleach.compression.observe import Batch, Observations, Observe, PrunableLayer
from pleach.compression.stage import PruningStage

__all__ = [
    "CRITERIA",
    "Batch",
    "Criterion",
    "Observations",
    "Observe",
    "PrunableLayer",
    "PruningStage",
    "Search",
    "criterion",
]

#: scores of the groups of each layer, in the shapes of `Candidates.held`
Scores = list[tuple[Tensor, ...]]


class Criterion(ABC):
    """How important each weight and bias is.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
        needs: what it has to see. Whoever needs anything of the steps of a training is asked for
            scores from the first step on, so it wants a ramp; what needs samples does not.
        granularities: those that it goes with, by name; all where there are none.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""
    needs: ClassVar[frozenset[Observe]] = frozenset()
    granularities: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor] | None:
        """The importance of each element, by part, of the shapes of `PrunableLayer.tensors`.

        Scores are compared within a layer, or over all of them where one density is for the whole
        network. An element of score 0 is pruned in any case. None leaves the layer as it is, where
        nothing is known of it yet.

        Raises:
            ConfigError: what it needs is not there.
        """

    def observe(self, layer: PrunableLayer, batch: Batch) -> dict[str, Tensor]:
        """What of a step of training is averaged until the next pruning, by names of its own;
        `Observations.mean` gives the averages. Only called with `needs`."""
        return {}

    def survivors(
        self, layer: PrunableLayer, kept: Mapping[str, Tensor], seen: Observations
    ) -> Mapping[str, Tensor] | None:
        """What the weights and biases become that stay, by part; None: they keep their values.

        Args:
            kept: which of them stay, bool, by part; the layer still computes with those that go.
        """
        return None

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


class Search(Criterion):
    """A criterion that tries masks of the whole network on samples, and takes the best."""

    needs = frozenset({Observe.SAMPLES})

    @property
    @abstractmethod
    def samples(self) -> int:
        """How many of them; a field of that name."""

    @property
    @abstractmethod
    def seed(self) -> int:
        """Of what is drawn; a field of that name."""

    @abstractmethod
    def search(
        self,
        layers: Sequence[Candidates],
        cost: Callable[[Scores], float],
        draw: Callable[[], Scores],
    ) -> Scores:
        """The best scores that it finds.

        Args:
            layers: without scores.
            cost: the loss on samples of the network with the masks that scores lead to.
            draw: scores from 0 to 1 at random, other ones each time.
        """

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        """Of whatever has not been pruned; the search is over all layers."""
        return {part: torch.ones_like(tensor) for part, tensor in layer.tensors.items()}


CRITERIA = Kinds(Criterion, __name__)
criterion = CRITERIA.register
