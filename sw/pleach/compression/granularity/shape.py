"""One place of all filters (Wen 2016, shape-wise sparsity)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.granularity import Granularity, PrunableLayer, granularity


@granularity("shape")
@dataclass(frozen=True, kw_only=True)
class Shape(Granularity):
    """The weights of all filters at one channel, row and column of the kernel; biases stay.

    That is one column of a layer's matrix: an activation that meets an empty column costs the
    engine one cycle and no entry.

    Use it for cycles in the place of bytes: an engine steps over empty columns. Of a fully
    connected layer it is the same as ``input``.
    """

    source = "Wen et al. 2016, arXiv:1608.03665, section 3.2"

    def groups(self, layer: PrunableLayer) -> dict[str, Tensor]:
        weight = layer.tensors["weight"]
        columns = weight[0].numel()
        numbers = torch.arange(columns * layer.groups, device=weight.device)
        numbers = numbers.reshape(layer.groups, 1, columns)
        return {"weight": numbers.expand(-1, len(weight) // layer.groups, -1).reshape(weight.shape)}
