"""A density for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pleach.compression.allocation import Allocation, Candidates, Progress, allocation, largest


@allocation("layer")
@dataclass(frozen=True, kw_only=True)
class PerLayer(Allocation):
    """Each layer keeps its own share, ``density`` or what ``layers`` says.

    Use it where you know what each layer can lose: `pleach sensitivity` tells.
    """

    source = "Han et al. 2015, arXiv:1506.02626, section 3.1"

    def keep(
        self, layers: Sequence[Candidates], progress: Progress
    ) -> list[tuple[Tensor, ...] | None]:
        return [
            None if layer.scores is None else largest([layer], progress.density(layer.target))[0]
            for layer in layers
        ]
