"""A convolution in groups between two of 1 × 1 (Wang and Cheng 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pleach.compression.checks import check_integer
from pleach.compression.factorise import Factoriser, PrunableLayer, bias_of, conv, factoriser
from pleach.compression.factorise.tucker2 import tucker2
from pleach.numbers import SIZE_MAX

ROUNDS = 20


@factoriser("block_term")
@dataclass(frozen=True, kw_only=True)
class BlockTerm(Factoriser):
    """A sum of Tucker decompositions, each with few channels in and out: what `tucker2` does with
    one dense kernel, done with one in groups.

    Use it where a Tucker core is still large: the blocks make it as many times smaller as they are.

    Args:
        blocks: terms of the sum.
        rank_in, rank_out: channels of each.

    A layer that would become no smaller is left as it is; so are fully connected ones, 1 × 1
    kernels and convolutions in groups.
    """

    source = (
        "Wang and Cheng 2016, Accelerating convolutional neural networks for mobile applications, "
        "section 3"
    )

    blocks: int = 4
    rank_in: int = 4
    rank_out: int = 4

    def __post_init__(self):
        for name in ("blocks", "rank_in", "rank_out"):
            check_integer(self, name, 1, SIZE_MAX)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module = layer.module
        if not isinstance(module, nn.Conv2d) or module.groups > 1 or max(module.kernel_size) == 1:
            return None
        weight = module.weight.detach().double()
        ranks = min(self.rank_in, weight.shape[1]), min(self.rank_out, weight.shape[0])
        each = ranks[0] * weight.shape[1] + ranks[1] * weight.shape[0]
        each += ranks[0] * ranks[1] * weight[0, 0].numel()
        if self.blocks * each >= weight.numel():
            return None
        terms, sums = [], []
        left, before = weight.clone(), float(weight.square().sum())
        for _ in range(self.blocks):
            terms.append(tucker2(left, *ranks))
            sums.append(_sum(terms[-1]))
            left = left - sums[-1]
        for _ in range(ROUNDS):  # each the best beside the others
            for number in range(self.blocks):
                own = left + sums[number]
                terms[number] = tucker2(own, *ranks)
                sums[number] = _sum(terms[number])
                left = own - sums[number]
            lost = float(left.square().sum())
            if before - lost <= 1e-9 * before:
                break
            before = lost
        inner, core, outer = (
            torch.cat([term[place] for term in terms], axis) for place, axis in enumerate((1, 0, 1))
        )
        return nn.Sequential(
            conv(inner.T[:, :, None, None]),
            conv(core, stride=module.stride, padding=module.padding, groups=self.blocks),
            conv(outer[:, :, None, None], bias_of(layer)),
        ).to(module.weight)


def _sum(term: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    inner, core, outer = term
    return torch.einsum("sr...,cr,os->oc...", core, inner, outer)
