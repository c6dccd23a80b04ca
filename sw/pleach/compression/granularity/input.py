"""All weights that take one input channel (Wen 2016, channel-wise sparsity)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.granularity import Granularity, PrunableLayer, granularity


@granularity("input")
@dataclass(frozen=True, kw_only=True)
class Input(Granularity):
    """A column of a fully connected layer, or an input channel of a convolution over all filters;
    biases stay.

    The channel that nobody takes any more then goes from the layer before. The first layer's are
    pixels that need not be looked at.

    Use it where ``channel`` takes the wrong ones: a channel is judged here by those who use it.
    """

    source = "Wen et al. 2016, arXiv:1608.03665, section 3.2"

    def groups(self, layer: PrunableLayer) -> dict[str, Tensor]:
        weight = layer.tensors["weight"]
        rows = len(weight) // layer.groups
        columns = torch.arange(weight.shape[1] * layer.groups, device=weight.device)
        numbers = columns.reshape(layer.groups, 1, -1).expand(-1, rows, -1).flatten(0, 1)
        return {
            "weight": numbers.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2)).expand_as(weight)
        }
