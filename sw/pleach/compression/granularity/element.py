"""Each weight and each bias by itself."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.granularity import Granularity, PrunableLayer, granularity


@granularity("element")
@dataclass(frozen=True, kw_only=True)
class Element(Granularity):
    """Weights and biases of a layer are ranked together, one by one."""

    def groups(self, layer: PrunableLayer) -> None:
        return None
