"""A convolution between two of 1 × 1 (Kim et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_number, check_value
from pleach.compression.factorise import (
    Factoriser,
    PrunableLayer,
    bias_of,
    conv,
    factoriser,
    least_rank,
)
from pleach.errors import ConfigError
from pleach.numbers import SIZE_MAX

ROUNDS = 20


@factoriser("tucker2")
@dataclass(frozen=True, kw_only=True)
class Tucker2(Factoriser):
    """Tucker's decomposition along the channels in and out: 1 × 1 to fewer channels, the kernel on
    these, 1 × 1 to all rows.

    Use it for convolutions with many channels in and out, before pruning, with some epochs after
    it.

    Args:
        energy: share of the sum of squares that each of both ranks keeps for itself. The paper has
            variational Bayes choose them.
        ranks: if set, of the channels in and out.

    A layer that would become no smaller is left as it is; so are fully connected ones, 1 × 1
    kernels and convolutions in groups.
    """

    source = "Kim et al. 2016, arXiv:1511.06530, section 3.1"

    energy: float = 0.9
    ranks: tuple[int, int] | None = None

    def __post_init__(self):
        check_number(self, "energy", 0, 1)
        if self.ranks is not None:
            ranks = tuple(self.ranks) if isinstance(self.ranks, list | tuple) else ()
            if len(ranks) != 2:
                raise ConfigError(f"Tucker2.ranks must be two, not {self.ranks!r}")
            for rank in ranks:
                check_value("Tucker2.ranks", rank, 1, SIZE_MAX, int)
            object.__setattr__(self, "ranks", ranks)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module = layer.module
        if not isinstance(module, nn.Conv2d) or module.groups > 1 or max(module.kernel_size) == 1:
            return None
        weight = module.weight.detach().double()
        ranks = self.ranks or tuple(
            least_rank(torch.linalg.svdvals(unfolded(weight, axis)), self.energy) for axis in (1, 0)
        )
        inner, core, outer = tucker2(weight, *ranks)
        if core.numel() + inner.numel() + outer.numel() >= weight.numel():
            return None
        return nn.Sequential(
            conv(inner.T[:, :, None, None]),
            conv(core, stride=module.stride, padding=module.padding),
            conv(outer[:, :, None, None], bias_of(layer)),
        ).to(module.weight)


def unfolded(tensor: Tensor, axis: int) -> Tensor:
    """The tensor as a matrix whose rows are that axis."""
    return tensor.movedim(axis, 0).flatten(1)


def tucker2(weight: Tensor, rank_in: int, rank_out: int) -> tuple[Tensor, Tensor, Tensor]:
    """Orthogonal bases of the channels in, ``(channels, rank)``, and out, ``(rows, rank)``, and the
    core between them, second: the nearest by higher-order orthogonal iteration.

    Args:
        weight: ``(rows, channels, …)``.
    """
    rank_in, rank_out = min(rank_in, weight.shape[1]), min(rank_out, weight.shape[0])
    outer = leading(unfolded(weight, 0), rank_out)
    inner = leading(unfolded(weight, 1), rank_in)
    core, kept = weight, 0.0
    for _ in range(ROUNDS):
        inner = leading(unfolded(torch.einsum("oc...,or->rc...", weight, outer), 1), rank_in)
        outer = leading(unfolded(torch.einsum("oc...,cr->or...", weight, inner), 0), rank_out)
        core = torch.einsum("oc...,cr,os->sr...", weight, inner, outer)
        before, kept = kept, float(core.square().sum())
        if kept <= before * (1 + 1e-12):
            break
    return inner, core, outer


def leading(matrix: Tensor, rank: int) -> Tensor:
    """Its first left singular vectors."""
    return torch.linalg.svd(matrix, full_matrices=False)[0][:, :rank]
