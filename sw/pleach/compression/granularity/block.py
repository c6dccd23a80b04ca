"""Blocks of neighbouring rows and columns (Anwar 2015, kernels; Gray 2017, block sparsity)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.granularity import Granularity, PrunableLayer, granularity
from pleach.numbers import SIZE_MAX


@granularity("block")
@dataclass(frozen=True, kw_only=True)
class Block(Granularity):
    """Blocks of a layer's matrix, of so many rows and columns; biases stay.

    The columns of a convolution are its channels, rows and columns of the kernel: with
    ``columns = 25`` a block of a 5×5 convolution is a whole kernel. Those at the edges are smaller.

    Use it where weights are to lie together: their gaps are zero, so they cost fewer bits each, but
    more of them are kept at the same error.

    Args:
        rows, columns: of a block.
    """

    rows: int = 4
    columns: int = 4

    source = "Anwar et al. 2015, arXiv:1512.08571, kernels; Gray et al. 2017, blocks"

    def __post_init__(self):
        check_integer(self, "rows", 1, SIZE_MAX)
        check_integer(self, "columns", 1, SIZE_MAX)

    def groups(self, layer: PrunableLayer) -> dict[str, Tensor]:
        weight = layer.tensors["weight"]
        down = torch.arange(len(weight), device=weight.device) // self.rows
        along = torch.arange(weight[0].numel(), device=weight.device) // self.columns
        numbers = down[:, None] * (int(along[-1]) + 1) + along
        return {"weight": numbers.reshape(weight.shape)}
