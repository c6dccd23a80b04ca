"""The distance from a set, by alternating directions (Leng et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compression.checks import check_number
from pleach.compression.masks import over
from pleach.compression.quantisers import QUANTISERS, Matrix, Projection
from pleach.compression.regularisers import Regulariser, regulariser
from pleach.errors import ConfigError
from pleach.models import layers_of


@regulariser("admm")
@dataclass(frozen=True, kw_only=True)
class Admm(Regulariser):
    """``ρ/2·‖W − G + U‖²`` for each layer. After each epoch ``G`` is what ``W + U``
    becomes on the set, and ``U`` grows by what is missing, ``W − G``.

    Use it through the quantiser of the same name; alone it pulls weights to a set that they are
    put on later.

    Args:
        quantiser: whose set it is: one of `pleach.compression.quantisers` that is a projection, or
            its settings, as ``share.quantiser`` takes them.
        rho: ``ρ``.
    """

    source = "Leng et al. 2018, arXiv:1707.09870"

    quantiser: Any = "twn"
    rho: float = 1e-3

    def __post_init__(self):
        check_number(self, "rho", 0, 1e6)
        self.projection  # noqa: B018 - it refuses what is none

    @property
    def projection(self) -> Any:
        """The quantiser.

        Raises:
            ConfigError: it is no projection.
        """
        chosen = QUANTISERS.of(self.quantiser, "Admm.quantiser")
        if not isinstance(chosen, Projection):
            raise ConfigError(f"Admm.quantiser {chosen.kind} is no projection of a whole layer")
        return chosen

    def begin(self, model: nn.Module) -> Regulariser:
        return _Running(self, model)


class _Running(Regulariser):
    """Attributes:
    rows: of each layer its weight, ``G`` and ``U``.
    """

    kind = "admm"

    def __init__(self, settings: Admm, model: nn.Module):
        self.settings = settings
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for layer in layers_of(model):
            weight = layer.module.weight
            if parametrize.is_parametrized(layer.module, "weight"):
                weight = over(layer.module, "weight").original
            zero = torch.zeros_like(weight)
            self.rows.append((weight, self.on_set(weight.detach()), zero))

    def on_set(self, weight: Tensor) -> Tensor:
        """``G`` for ``W + U``; zeros were pruned, they stay."""
        matrix = Matrix.of(weight)
        return (self.settings.projection.fit(matrix).tensor * matrix.kept).view_as(weight)

    def penalty(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> Tensor:
        total = self.rows[0][0].new_zeros(())
        for weight, put, dual in self.rows:
            total = total + ((weight - put + dual) ** 2).sum()
        return self.settings.rho / 2 * total

    def after_epoch(self, model: nn.Module) -> None:
        for number, (weight, _, dual) in enumerate(self.rows):
            put = self.on_set(weight + dual)
            self.rows[number] = weight, put, dual + weight - put
