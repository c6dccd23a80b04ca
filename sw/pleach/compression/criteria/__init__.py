"""What is pruned first: each criterion is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

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
    "criterion",
]


class Criterion(ABC):
    """How important each weight and bias is.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
        needs: what of the training it has to see. Whoever needs anything is asked for scores from
            the first step on, so it wants a ramp.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""
    needs: ClassVar[frozenset[Observe]] = frozenset()

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

    def check(self, stage: PruningStage) -> None:  # noqa: B027 - need not be there
        """Refuse settings that it does not go with.

        Raises:
            ConfigError: says which.
        """


CRITERIA = Kinds(Criterion, __name__)
criterion = CRITERIA.register
