"""A convolution as two small bases and a sparse matrix (Liu 2015, sparse decomposition)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer, check_number
from pleach.compression.factorise import Factoriser, PrunableLayer, factoriser
from pleach.numbers import SIZE_MAX


@factoriser("sparse")
@dataclass(frozen=True, kw_only=True)
class SparseDecomposition(Factoriser):
    """Channels in a basis ``P``, the kernels of each of them in a basis ``Q``, and the sparse
    matrix ``S`` that is left: ``K ≈ P·Q·S`` (equations 2 to 4).

    It becomes a 1×1 convolution, a convolution of each channel by itself with its few kernels, and
    a 1×1 convolution. Both bases are principal components here, of which ``Q`` keeps as many as the
    energy asks for. ``S`` is dense at first: train it with the regulariser ``l1``
    (``Factorise(train=…)``) and prune it, as any layer.

    Use it for wide convolutions of 3×3 and more, before pruning. A layer that would become no
    smaller is left as it is, and so is one that is fully connected, in groups or of 1×1.

    Args:
        energy: share of the sum of squares of the weights that is kept, which gives the number of
            kernels of a channel.
        kernels: if set, that number itself.
    """

    energy: float = 0.9
    kernels: int | None = None

    source = "Liu et al. 2015 (CVPR, Sparse convolutional neural networks), equations 2 to 4"

    def __post_init__(self):
        check_number(self, "energy", 0, 1)
        if self.kernels is not None:
            check_integer(self, "kernels", 1, SIZE_MAX)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module = layer.module
        if (
            not isinstance(module, nn.Conv2d)
            or module.groups > 1
            or module.weight[0, 0].numel() == 1
        ):
            return None
        weight = module.weight.detach().double()
        rows, channels, height, width = weight.shape
        # The basis of the channels: eigenvectors of what they have in common over all kernels.
        flat = weight.transpose(0, 1).flatten(1)
        _, basis = torch.linalg.eigh(flat @ flat.T)
        turned = torch.einsum("ij,rihw->jrhw", basis, weight).flatten(2)
        left, values, right = torch.linalg.svd(turned, full_matrices=False)
        count = min(self.kernels or self._count(values), values.shape[1])
        smaller = channels * channels + channels * count * (height * width + rows)
        if smaller >= weight.numel():
            return None
        root = values[:, :count].sqrt()
        kernels = (root[:, :, None] * right[:, :count]).reshape(-1, 1, height, width)
        sparse = (left[:, :, :count] * root[:, None]).permute(1, 0, 2).reshape(rows, -1)
        bias = None if module.bias is None else module.bias.detach()
        first = conv(basis.T[:, :, None, None], None)
        second = conv(kernels, None, module, groups=channels)
        third = conv(sparse[:, :, None, None], bias)
        return nn.Sequential(first, second, third).to(module.weight)

    def _count(self, values: Tensor) -> int:
        """The least that keeps the energy, of all channels together."""
        kept = values.square().sum(0).cumsum(0)
        return 1 + int((kept < self.energy * float(kept[-1])).sum())


def conv(weight: Tensor, bias: Tensor | None, like: nn.Conv2d | None = None, groups: int = 1):
    """A convolution of these tensors, laid over its map as `like` is; torch's generator is not
    moved."""
    rows, columns, height, width = weight.shape
    names = ("stride", "padding", "dilation") if like is not None else ()
    laid: Any = {name: getattr(like, name) for name in names}
    kernel, biased = (height, width), bias is not None
    layer = nn.Conv2d(
        columns * groups, rows, kernel, groups=groups, bias=biased, device="meta", **laid
    )
    layer.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone().to(weight))
    return layer
