"""What the loss would lose with a weight, to second order (LeCun 1990)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pleach.compression.criteria import (
    Criterion,
    Observations,
    Observe,
    PrunableLayer,
    criterion,
)
from pleach.compression.stage import PruningStage
from pleach.errors import ConfigError


@criterion("saliency")
@dataclass(frozen=True, kw_only=True)
class Saliency(Criterion):
    """The root of ``w²·E[g²]``, with the Fisher information in place of the curvature: twice what
    removing ``w`` costs is its square (LeCun 1990, equation 5). ``E[g²]`` is Adam's second moment.

    Use it for the smallest file: with ``scope = "network"`` and a ramp it says how much each layer
    needs, for nothing that Adam does not keep anyway.
    """

    source = "LeCun et al. 1990, equation 5"
    needs = frozenset({Observe.OPTIMIZER})

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor] | None:
        if seen.optimizer is None:
            raise ConfigError("the criterion saliency needs the optimiser: prune_(…, optimizer=…)")
        found = {}
        for part, tensor in layer.tensors.items():
            state = seen.optimizer.state.get(tensor)
            if not state:
                return None
            if "exp_avg_sq" not in state:
                raise ConfigError(
                    "the criterion saliency needs Adam or AdamW, "
                    f"{type(seen.optimizer).__name__} keeps no mean square of the gradients"
                )
            found[part] = tensor.abs() * state["exp_avg_sq"].sqrt()
        return found

    def check(self, stage: PruningStage) -> None:
        if stage.train.optimizer != "adam":
            raise ConfigError("PruneConfig.criterion = 'saliency' needs train.optimizer = 'adam'")
