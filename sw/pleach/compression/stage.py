"""What a criterion or an allocation is told of the stage of pruning that it is chosen for.

`PruneConfig` is one. It imports the kinds, so that they name it by what of it they look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Named(Protocol):
    """A kind, by its name in settings."""

    @property
    def kind(self) -> str: ...


class Training(Protocol):
    """The retraining of a stage."""

    @property
    def optimizer(self) -> str: ...


class PruningStage(Protocol):
    """The settings of a stage, as `PruneConfig` describes them."""

    @property
    def quality(self) -> float | None: ...

    @property
    def layers(self) -> Mapping[str, float]: ...

    @property
    def train(self) -> Training: ...

    @property
    def criterion(self) -> Named | Any: ...

    @property
    def splice(self) -> bool: ...

    @property
    def scope(self) -> Named | Any: ...

    @property
    def granularity(self) -> Named | Any: ...
