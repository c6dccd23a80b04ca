"""One layer made into smaller ones: each factoriser is a file here or a class of a user's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from pleach.compression.kinds import Kinds
from pleach.compression.observe import PrunableLayer

__all__ = [
    "FACTORISERS",
    "Factoriser",
    "PrunableLayer",
    "bias_of",
    "conv",
    "factoriser",
    "least_rank",
    "linear",
]


class Factoriser(ABC):
    """Layers that together compute nearly what one did, with fewer weights.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
        looks: whether ``layer.moments`` is wanted, the mean of ``x xᵀ`` over what the layer takes.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""
    looks: ClassVar[bool] = False

    @abstractmethod
    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        """What takes the layer's place, Linear and Conv2d layers, one ReLU at most after each but
        the last; None leaves it as it is.

        The layers are called after the one that they replace and their names or places in the
        Sequential: ``fc1.0``, ``fc1.1``. What needs no gradient is not trained, and a `Mask` over a
        weight keeps its zeros.
        """


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer of these tensors, ``(rows, columns)`` and ``(rows,)``; torch's generator is not
    moved."""
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias=bias is not None, device="meta")
    return _with(layer, weight, bias)


def conv(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, ...] = (1, 1),
    padding: str | tuple[int, ...] = (0, 0),
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution of these tensors, ``(rows, channels / groups, height, width)`` and
    ``(rows,)``."""
    rows, channels, height, width = weight.shape
    layer = nn.Conv2d(
        channels * groups,
        rows,
        (height, width),
        _pair(stride),
        padding if isinstance(padding, str) else _pair(padding),
        groups=groups,
        bias=bias is not None,
        device="meta",
    )
    return _with(layer, weight, bias)


def _pair(both: tuple[int, ...]) -> tuple[int, int]:
    return both[0], both[1]


def _with(layer, weight: Tensor, bias: Tensor | None):
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone().to(weight))
    return layer


def bias_of(layer: PrunableLayer) -> Tensor | None:
    """A copy of the layer's bias, float64; None where it has none."""
    bias = layer.module.bias
    return None if bias is None else bias.detach().double()


def least_rank(values: Tensor, energy: float) -> int:
    """The least rank that keeps a share of the sum of squares.

    Args:
        values: singular values, falling.

    >>> import torch
    >>> least_rank(torch.tensor([3.0, 1.0, 0.1]), 0.95)
    2
    """
    kept = values.square().cumsum(0)
    return 1 + int((kept[:-1] < energy * float(kept[-1])).sum())


FACTORISERS = Kinds(Factoriser, __name__)
factoriser = FACTORISERS.register
