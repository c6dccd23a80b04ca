"""Each weight and each bias by itself."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.granularity import Granularity, PrunableLayer, granularity


@granularity("element")
@dataclass(frozen=True, kw_only=True)
class Element(Granularity):
    """Weights and biases of a layer are ranked together, one by one.

    Use it for the smallest file at a given error: this engine has no need of larger groups.
    """

    source = "Han et al. 2015, arXiv:1506.02626, section 3"

    def groups(self, layer: PrunableLayer) -> None:
        return None
