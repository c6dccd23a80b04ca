"""Whole neurons and filters, with their biases (Li et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.granularity import Granularity, PrunableLayer, granularity


@granularity("channel")
@dataclass(frozen=True, kw_only=True)
class Channel(Granularity):
    """A row of a fully connected layer or a filter of a convolution, and its bias.

    The last layer is left whole: its rows are the network's outputs. `remove_neurons_` then makes
    the network as much smaller, and drops the weights of the layer after that are left without an
    input.

    Use it first of several stages, to make a network narrower: fewer channels are fewer cycles, and
    what is trained then is a smaller network.
    """

    source = "Li et al. 2017, arXiv:1608.08710, section 3"

    def groups(self, layer: PrunableLayer) -> dict[str, Tensor]:
        if layer.last:
            return {}
        rows = torch.arange(len(layer.module.weight), device=layer.module.weight.device)
        return {
            part: rows.reshape(-1, *[1] * (tensor.ndim - 1)).expand_as(tensor)
            for part, tensor in layer.tensors.items()
        }
