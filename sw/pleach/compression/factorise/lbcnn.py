"""Fixed sparse binary filters and a learned 1 × 1 convolution (Juefei-Xu et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pleach.compression.checks import check_integer, check_number
from pleach.compression.factorise import Factoriser, PrunableLayer, bias_of, conv, factoriser
from pleach.numbers import SIZE_MAX


@factoriser("lbcnn")
@dataclass(frozen=True, kw_only=True)
class Lbcnn(Factoriser):
    """A local binary convolution: filters of −1, 0 and 1 that are drawn and not trained, a ReLU,
    and 1 × 1 over what they give.

    The 1 × 1 weights begin as what comes nearest to the layer where the ReLU lets pass. What the
    network then is, it has to learn: train after it.

    Use it for networks that are trained from the start or for long: most of its weights need no
    training and no bits beyond a sign.

    Args:
        filters: fixed ones.
        density: share of their weights that is not zero (section 3.1).
        seed: of the draw.

    Fully connected layers, 1 × 1 kernels and convolutions in groups are left as they are.
    """

    source = "Juefei-Xu et al. 2017, arXiv:1608.06049, section 3"

    filters: int = 32
    density: float = 0.5
    seed: int = 0

    def __post_init__(self):
        check_integer(self, "filters", 1, SIZE_MAX)
        check_number(self, "density", 0.001, 1)
        check_integer(self, "seed", 0, (1 << 31) - 1)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module = layer.module
        if not isinstance(module, nn.Conv2d) or module.groups > 1 or max(module.kernel_size) == 1:
            return None
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.filters, *module.weight.shape[1:])
        there = torch.rand(shape, generator=generator) < self.density
        signs = torch.rand(shape, generator=generator) < 0.5
        fixed = there * torch.where(signs, 1.0, -1.0).double()
        # Half of what a filter gives passes the ReLU: so twice the weights of the linear fit.
        weight = module.weight.detach().double().flatten(1)
        mixed = 2 * torch.linalg.lstsq(fixed.flatten(1).T, weight.T).solution.T
        first = conv(fixed, stride=module.stride, padding=module.padding)
        first.weight.requires_grad_(False)
        second = conv(mixed[:, :, None, None], bias_of(layer))
        return nn.Sequential(first, nn.ReLU(), second).to(module.weight)
