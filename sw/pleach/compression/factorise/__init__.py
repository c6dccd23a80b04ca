"""One layer made into two smaller ones: each factoriser is a file here or a class of a user's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from pleach.compression.kinds import Kinds
from pleach.compression.observe import PrunableLayer

__all__ = ["FACTORISERS", "Factoriser", "PrunableLayer", "factoriser"]


class Factoriser(ABC):
    """Layers that together compute nearly what one did, with fewer weights.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""

    @abstractmethod
    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        """What takes the layer's place, Linear and Conv2d layers; None leaves it as it is.

        The layers are called after the one that they replace and their names or places in the
        Sequential: ``fc1.0``, ``fc1.1``.
        """


FACTORISERS = Kinds(Factoriser, __name__)
factoriser = FACTORISERS.register
