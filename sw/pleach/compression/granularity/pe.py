"""What one processing element has of a column (this engine)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.granularity import Granularity, PrunableLayer, granularity
from pleach.numbers import PES_MAX


@granularity("pe")
@dataclass(frozen=True, kw_only=True)
class ProcessingElement(Granularity):
    """The weights of one column in rows ``r`` of the same ``r % pes``: what a PE has to do for one
    activation, all of it or nothing; biases stay.

    Use it where the fullest PE decides the cycles and single weights are too fine; the scope
    ``balance`` keeps the same share for each PE weight by weight, and loses less.

    Args:
        pes: of a column group; row ``r`` belongs to PE ``r % pes``.
    """

    pes: int = 16

    source = "EIE, Han et al. 2016, arXiv:1602.01528, section 3: how rows lie in PEs"

    def __post_init__(self):
        check_integer(self, "pes", 1, PES_MAX)

    def groups(self, layer: PrunableLayer) -> dict[str, Tensor]:
        weight = layer.tensors["weight"]
        pe = torch.arange(len(weight), device=weight.device) % self.pes
        column = torch.arange(weight[0].numel(), device=weight.device)
        numbers = column * min(self.pes, len(weight)) + pe[:, None]
        return {"weight": numbers.reshape(weight.shape)}
