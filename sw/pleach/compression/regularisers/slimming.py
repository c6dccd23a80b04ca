"""L1 on the scales of batch normalisations (Liu 2017, network slimming)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_number
from pleach.compression.regularisers import Regulariser, regulariser
from pleach.errors import ConfigError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@regulariser("slimming")
@dataclass(frozen=True, kw_only=True)
class SlimmingPenalty(Regulariser):
    """``strength·Σ|γ|`` over all channels of all batch normalisations (equation 1).

    It is for the training of a network that still has them; one of layers alone is refused.

    Use it in the dense training, with a strength of 1e-5 to 1e-4, and prune by the criterion
    ``slimming`` then.

    Args:
        strength: the loss for a gamma of 1.
    """

    strength: float

    source = "Liu et al. 2017, arXiv:1708.06519, equation 1"

    def __post_init__(self):
        check_number(self, "strength", 0, 1)

    def check(self, model: nn.Module) -> None:
        if not _gammas(model):
            raise ConfigError(
                "the regulariser slimming acts on batch normalisations, and the network has none; "
                "where it had, they are folded before it is compressed: train with it before that"
            )

    def penalty(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> Tensor:
        return self.strength * torch.stack([gamma.abs().sum() for gamma in _gammas(model)]).sum()


def _gammas(model: nn.Module) -> list[Tensor]:
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, BATCH_NORMS) and module.weight is not None
    ]
