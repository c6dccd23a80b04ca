"""A convolution as four, each along one axis (Lebedev et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer, check_number
from pleach.compression.factorise import Factoriser, PrunableLayer, bias_of, conv, factoriser
from pleach.compression.factorise.svd import halves
from pleach.numbers import SIZE_MAX

ROUNDS, STARTS = 100, 2


@factoriser("cp")
@dataclass(frozen=True, kw_only=True)
class Cp(Factoriser):
    """The canonical polyadic decomposition: 1 × 1 to ``rank`` channels, each of them along the
    height, then along the width, then 1 × 1 to all rows.

    Use it where the kernel is large, as of a first or second layer: it has the fewest weights of
    all for a rank, and is the hardest to train on. Keep the learning rate low after it.

    Args:
        share: of the layer's weights, which gives the rank.
        rank: if set, the rank itself.
        seed: of where alternating least squares starts.

    A layer that would become no smaller is left as it is; so are fully connected ones, 1 × 1
    kernels and convolutions in groups.
    """

    source = "Lebedev et al. 2015, arXiv:1412.6553, section 3"

    share: float = 0.5
    rank: int | None = None
    seed: int = 0

    def __post_init__(self):
        check_number(self, "share", 0, 1)
        check_integer(self, "seed", 0, (1 << 31) - 1)
        if self.rank is not None:
            check_integer(self, "rank", 1, SIZE_MAX)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module = layer.module
        if not isinstance(module, nn.Conv2d) or module.groups > 1 or max(module.kernel_size) == 1:
            return None
        weight = module.weight.detach().double()
        each = sum(weight.shape)
        rank = self.rank or max(1, int(self.share * weight.numel() / each))
        if rank * each >= weight.numel():
            return None
        rows, channels, height, width = polyadic(weight, rank, self.seed)
        down, along = halves(module)
        return nn.Sequential(
            conv(channels.T[:, :, None, None]),
            conv(height.T[:, None, :, None], groups=rank, **down),
            conv(width.T[:, None, None, :], groups=rank, **along),
            conv(rows[:, :, None, None], bias_of(layer)),
        ).to(module.weight)


def polyadic(tensor: Tensor, rank: int, seed: int = 0) -> list[Tensor]:
    """Of each axis a matrix ``(size, rank)``: the sum over the rank of their outer products is near
    the tensor, by alternating least squares, the best of several starts."""
    generator = torch.Generator().manual_seed(seed)
    letters = "abcdefgh"[: tensor.ndim]
    best: tuple[float, list[Tensor]] | None = None
    for start in range(STARTS):
        factors = [_first(tensor, axis, rank, start == 0, generator) for axis in range(tensor.ndim)]
        lost = float(tensor.square().sum())
        for _ in range(ROUNDS):
            for axis in range(tensor.ndim):
                others = [n for n in range(tensor.ndim) if n != axis]
                gram = torch.ones(rank, rank, dtype=tensor.dtype)
                for n in others:
                    gram = gram * (factors[n].T @ factors[n])
                terms = ",".join(f"{letters[n]}r" for n in others)
                met = torch.einsum(
                    f"{letters},{terms}->{letters[axis]}r", tensor, *(factors[n] for n in others)
                )
                factors[axis] = met @ torch.linalg.pinv(gram, hermitian=True)
            terms = ",".join(f"{letter}r" for letter in letters)
            before = lost
            lost = float((tensor - torch.einsum(f"{terms}->{letters}", *factors)).square().sum())
            if before - lost <= 1e-10 * before:
                break
        if best is None or lost < best[0]:
            best = lost, factors
    assert best is not None
    return _balanced(best[1])


def _first(tensor: Tensor, axis: int, rank: int, leading: bool, generator) -> Tensor:
    """Where a factor starts: singular vectors as far as there are such, random beyond."""
    found = torch.randn(tensor.shape[axis], rank, generator=generator, dtype=tensor.dtype)
    if leading:
        left = torch.linalg.svd(tensor.movedim(axis, 0).flatten(1), full_matrices=False)[0]
        found[:, : left.shape[1]] = left[:, :rank]
    return found


def _balanced(factors: list[Tensor]) -> list[Tensor]:
    """The same products with columns of one length along all axes."""
    lengths = torch.stack([factor.norm(dim=0) for factor in factors]).clamp(min=1e-30)
    common = lengths.log().mean(0).exp()
    return [factor / own * common for factor, own in zip(factors, lengths, strict=True)]
