"""What training is held to besides its loss: each regulariser is a file here or a user's class."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from pleach.compression.kinds import Kinds

__all__ = ["REGULARISERS", "Regulariser", "regulariser"]


class Regulariser(ABC):
    """A penalty, or a change after each step or epoch; whichever it has, it overrides.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""

    @property
    def decay(self) -> float:
        """The weight decay that the optimiser is given for it."""
        return 0.0

    def check(self, model: nn.Module) -> None:  # noqa: B027 - need not be there
        """Refuse a network that it has no use for, before any training.

        Raises:
            ConfigError: says why.
        """

    def begin(self, model: nn.Module) -> Regulariser:
        """What a training goes on with: itself, or, of a regulariser that remembers something from
        step to step (a dual variable, a running mean), an object that does."""
        return self

    def penalty(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        """What is added to the loss of a step, a scalar; None: nothing.

        Args:
            model: the network; `layers_of` has its layers.
            parameters: what is trained of it.
        """
        return None

    def gradients(self, parameters: Sequence[nn.Parameter]) -> None:  # noqa: B027 - as below
        """Change the gradients of a step before the optimiser sees them, with gradients off."""

    def after_step(self, model: nn.Module, rate: float) -> None:  # noqa: B027 - need not be there
        """Change the network after a step, with gradients off.

        Args:
            rate: the learning rate of the step.
        """

    def after_epoch(self, model: nn.Module) -> None:  # noqa: B027 - need not be there
        """Change the network after an epoch, with gradients off."""


REGULARISERS = Kinds(Regulariser, __name__)
regulariser = REGULARISERS.register
