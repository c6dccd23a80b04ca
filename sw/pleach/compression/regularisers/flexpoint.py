"""Training in 16 bits with a shared exponent (Köster et al. 2017, Flexpoint)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer
from pleach.compression.regularisers import Regulariser, regulariser


@regulariser("flexpoint")
@dataclass(frozen=True, kw_only=True)
class Flexpoint(Regulariser):
    """After each step every parameter is a tensor of integers of ``mantissa`` bits times one power
    of two, which Autoflex predicts from the largest magnitudes of the last steps.
    Gradients are rounded alike; activations and the optimiser's state are not.

    Use it to see what a network loses when it is trained in few bits; what is compressed then is
    rounded as any network is.

    Args:
        mantissa: bits of a number, its sign among them; the paper has 16.
        history: steps that are looked back at.
    """

    source = "Köster et al. 2017, arXiv:1711.02213, section 3"

    mantissa: int = 16
    history: int = 16

    def __post_init__(self):
        check_integer(self, "mantissa", 4, 24)
        check_integer(self, "history", 1, 4096)

    def begin(self, model: nn.Module) -> Regulariser:
        return _Running(self)


class Exponent:
    """Autoflex: the power of two of a tensor.

    Args:
        mantissa: bits of a number, its sign among them.
        history: steps that are looked back at.
        first: the tensor, which it begins with.

    Attributes:
        scale: what a mantissa of 1 stands for.
    """

    ALPHA, BETA, GAMMA = 2.0, 3.0, 100.0

    def __init__(self, mantissa: int, history: int, first: Tensor):
        self.most = (1 << (mantissa - 1)) - 1
        self._seen: deque[float] = deque(maxlen=history)
        self.scale = self._fitting(float(first.abs().max()))

    def _fitting(self, largest: float) -> float:
        """The least scale at which so large a number has a mantissa."""
        return 2.0 ** math.ceil(math.log2(max(largest, 2.0**-60) / (self.most + 1)))

    def rounded(self, tensor: Tensor) -> Tensor:
        """The tensor in integers times the scale; then the scale of the next one."""
        whole = (tensor / self.scale).round()
        largest = float(whole.abs().max())
        found = whole.clamp(-self.most, self.most) * self.scale
        if largest >= self.most:  # it does not fit: what was seen before says nothing any more
            self._seen.clear()
            largest *= 2
        self._seen.append(largest * self.scale)
        seen = torch.tensor(self._seen, dtype=torch.float64)
        spread = float(seen.std(correction=0))
        predicted = self.ALPHA * (
            float(seen.max()) + self.BETA * spread + self.GAMMA * self.scale / (self.most + 1)
        )
        self.scale = self._fitting(predicted)
        return found


class _Running(Regulariser):
    kind = "flexpoint"

    def __init__(self, settings: Flexpoint):
        self.settings = settings
        self._of: dict[tuple[int, str], Exponent] = {}

    def _round(self, tensor: Tensor, parameter: nn.Parameter, what: str) -> None:
        key = id(parameter), what
        if key not in self._of:
            self._of[key] = Exponent(self.settings.mantissa, self.settings.history, tensor)
        tensor.copy_(self._of[key].rounded(tensor))

    def gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                self._round(parameter.grad, parameter, "gradient")

    def after_step(self, model: nn.Module, rate: float) -> None:
        for parameter in model.parameters():
            if parameter.requires_grad:
                self._round(parameter, parameter, "value")
