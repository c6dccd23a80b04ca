"""How many bits hidden layers give: each way is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from pleach.compression.kinds import Kinds
from pleach.model import Activation

__all__ = ["ACTIVATIONS", "LowBit", "activation"]


class LowBit(ABC):
    """The function that hidden layers have in the place of their own.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""

    @property
    @abstractmethod
    def function(self) -> Activation:
        """Bounds with a step, or a sign: it passes the gradient straight through between them."""

    def gradients(self, generator: torch.Generator) -> Callable[[Tensor], Tensor] | None:
        """What becomes of the gradient of what a layer gives, of a batch; None: nothing."""
        return None


ACTIVATIONS = Kinds(LowBit, __name__)
activation = ACTIVATIONS.register
