"""Gradients of −1, 0 and 1 between workers (Wen et al. 2017, TernGrad)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from pleach.compression.checks import check_integer, check_number
from pleach.compression.regularisers import Regulariser, regulariser


@regulariser("ternary_gradients")
@dataclass(frozen=True, kw_only=True)
class TernaryGradients(Regulariser):
    """``s·sign(g)·b`` in the place of a gradient, ``b`` 1 with the probability ``|g| / s`` and 0
    otherwise, ``s`` the largest of the parameter's: in the mean it is the gradient.

    Where torch.distributed has several workers, ``s`` is the largest of all of them, and each gets
    the mean of what all drew: of a number only 2 bits need travel. Every worker trains the same
    network on samples of its own, as many as the others.

    Use it where workers are joined by a slow network. On one machine alone it shows what the noise
    costs.

    Args:
        clip: gradients are cut off at so many of their standard deviations (section 3.3); 0 cuts
            nothing off.
        seed: of the draw; each worker adds its number.
    """

    source = "Wen et al. 2017, arXiv:1705.07878, sections 3.1 to 3.4"

    clip: float = 2.5
    seed: int = 0

    def __post_init__(self):
        check_number(self, "clip", 0, 1e6)
        check_integer(self, "seed", 0, (1 << 31) - 1)

    def begin(self, model: nn.Module) -> Regulariser:
        return _Running(self)


class _Running(Regulariser):
    kind = "ternary_gradients"

    def __init__(self, settings: TernaryGradients):
        self.workers = distributed.get_world_size() if _several() else 1
        own = distributed.get_rank() if _several() else 0
        self.clip = settings.clip
        self.generator = torch.Generator().manual_seed(settings.seed + own)

    def gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is None:
                continue
            gradient = clipped(parameter.grad, self.clip)
            scale = gradient.abs().max()
            if self.workers > 1:
                distributed.all_reduce(scale, distributed.ReduceOp.MAX)
            drawn = ternary(gradient, scale, self.generator)
            if self.workers > 1:
                distributed.all_reduce(drawn)
            parameter.grad.copy_(drawn.to(scale) * scale / self.workers)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def clipped(gradient: Tensor, deviations: float) -> Tensor:
    """Cut off at so many standard deviations; at none where that is 0."""
    if not deviations or gradient.numel() < 2:
        return gradient
    limit = deviations * float(gradient.std(correction=0))
    return gradient.clamp(-limit, limit) if limit else gradient


def ternary(gradient: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
    """−1, 0 and 1, int8, whose mean times the scale is the gradient."""
    dice = torch.rand(gradient.shape, generator=generator).to(gradient)
    drawn = (dice * scale < gradient.abs()).to(torch.int8)
    return drawn * gradient.sign().to(torch.int8)
