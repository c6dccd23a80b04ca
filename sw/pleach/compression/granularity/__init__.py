"""What is pruned as one: each granularity is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from pleach.compression.kinds import Kinds
from pleach.compression.observe import PrunableLayer
from pleach.compression.stage import PruningStage

__all__ = ["GRANULARITIES", "Granularity", "PrunableLayer", "granularity"]


class Granularity(ABC):
    """Which elements of a layer are kept or pruned together.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""

    @abstractmethod
    def groups(self, layer: PrunableLayer) -> dict[str, Tensor] | None:
        """The number of each element's group, int64, by part, of the shapes of the layer's tensors.

        A group is as important as its elements are on average. A part that is left out is not
        pruned, so an empty result leaves the layer whole. None makes each element a group of its
        own.
        """

    def check(self, stage: PruningStage) -> None:  # noqa: B027 - need not be there
        """Refuse settings that it does not go with.

        Raises:
            ConfigError: says which.
        """


GRANULARITIES = Kinds(Granularity, __name__)
granularity = GRANULARITIES.register
