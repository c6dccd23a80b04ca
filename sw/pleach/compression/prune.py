"""Pruning: masks over the weights of least importance, whatever training loop goes on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pleach.compression.allocation import Candidates, Progress
from pleach.compression.config import PruneConfig
from pleach.compression.criteria import CRITERIA, Criterion
from pleach.compression.granularity import GRANULARITIES, Granularity
from pleach.compression.masks import Mask, check_weights, masked_
from pleach.compression.observe import Observations, Observe, PrunableLayer, prunable
from pleach.compression.schedules import SCHEDULES
from pleach.errors import ConfigError, PleachError
from pleach.models import layers_of
from pleach.settings import by_layer


def prune_(
    model: nn.Module,
    config: PruneConfig | None = None,
    *,
    progress: float = 1.0,
    optimizer: torch.optim.Optimizer | None = None,
    seen: Observations | None = None,
) -> None:
    """Mask the weights and biases of least importance in each Linear and Conv2d layer of `model`.

    Weights that survive keep their values. One that is masked, by torch.nn.utils.prune too, stays
    masked, its gradient is zero, so the user's training loop needs no change; with
    ``config.splice`` it goes on learning behind its mask and may come back. The bias is one more
    input column: it is ranked with the weights of its layer.

    Args:
        progress: 0 to 1, how far the schedule has come; 1 is the target. With ``cubic`` the density
            at `t` is ``target + (start − target)·(1 − t)³`` (Zhu and Gupta 2017, equation 1), a
            threshold is the target's times ``1 − (1 − t)³``.
        optimizer: what trains the model; ``config.criterion = "saliency"`` takes the mean square
            of each gradient from its state (Adam's second moment). Before its first step nothing
            is known, and nothing is masked.
        seen: what the criterion has seen of the training, for one that needs gradients or
            activations.

    Raises:
        ConfigError: a layer in ``config.layers`` that the model does not have, or a criterion
            that is not shown what it needs.
        ModelError: a layer that is not supported, whose weights are shared already, or are not
            finite.

    >>> model = nn.Sequential(nn.Linear(9, 1))
    >>> prune_(model, PruneConfig(density=0.3))
    >>> int(model[0].weight.count_nonzero() + model[0].bias.count_nonzero())
    3
    """
    config = config or PruneConfig()
    check_weights(layers_of(model))
    layers = prunable(model)
    criterion = CRITERIA.of(config.criterion, "criterion")
    granularity = GRANULARITIES.of(config.granularity, "granularity")
    allocation = config.allocation
    default = allocation.target(config.density)
    targets = by_layer([layer.name for layer in layers], default, config.layers)
    if seen is None:
        if criterion.needs & {Observe.GRADIENTS, Observe.ACTIVATIONS}:
            raise ConfigError(
                f"the criterion {criterion.kind} needs what it has seen: prune_(…, seen=…)"
            )
        seen = Observations(model, criterion)
    seen.optimizer = optimizer or seen.optimizer
    share = min(max(progress, 0.0), 1.0)
    way = Progress(config.start, SCHEDULES.of(config.schedule, "schedule").remaining(share))
    with torch.no_grad():
        found = []
        for layer in layers:
            masks = masked_(layer.name, layer.module, splice=config.splice)
            scores = _scores(criterion, layer, seen)
            if scores is not None and not config.splice:  # what was masked before stays so
                scores = {part: scores[part] * mask.mask for part, mask in masks.items()}
            grouping = _Grouping(layer, masks, granularity)
            found.append((grouping, grouping.candidates(scores, targets[layer.name], config)))
        found = [(grouping, each) for grouping, each in found if grouping.masks]
        kept = allocation.keep([each for _, each in found], way)
        for (grouping, each), chosen in zip(found, kept, strict=True):
            if chosen is not None:
                grouping.apply_([k & (s > 0) for k, s in zip(chosen, each.ranked, strict=True)])


def _scores(
    criterion: Criterion, layer: PrunableLayer, seen: Observations
) -> dict[str, Tensor] | None:
    """What the criterion says of a layer, looked at: it may be a user's own.

    Raises:
        ConfigError: it failed, or gave something else than a number for each element.
    """
    where = f"the criterion {criterion.kind}, of layer {layer.name!r}"
    try:
        scores = criterion.scores(layer, seen)
    except PleachError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    if scores is None:
        return None
    for part, tensor in layer.tensors.items():
        score = scores.get(part) if isinstance(scores, dict) else None
        if not isinstance(score, Tensor) or score.shape != tensor.shape:
            raise ConfigError(
                f"{where}: scores must hold a tensor of shape {tuple(tensor.shape)} for {part!r}"
            )
        if bool(score.isnan().any()):
            raise ConfigError(f"{where}: a score for {part!r} is not a number")
    return scores


class _Grouping:
    """The elements of a layer, by part, and the groups that they are kept or pruned in."""

    def __init__(self, layer: PrunableLayer, masks: dict[str, Mask], granularity: Granularity):
        self._groups = granularity.groups(layer)
        self._name = layer.name
        self.masks = masks
        if self._groups is not None:
            self.masks = {part: mask for part, mask in masks.items() if part in self._groups}
            if self.masks:
                self._flat = torch.cat([self._groups[part].flatten() for part in self.masks])
                self._sizes = torch.bincount(self._flat)

    def candidates(
        self, scores: dict[str, Tensor] | None, target: float, config: PruneConfig
    ) -> Candidates:
        masks = list(self.masks.values())
        ranked = None if scores is None else tuple(scores[part] for part in self.masks)
        held = tuple(mask.mask for mask in masks)
        sizes = None
        if self._groups is not None and masks:
            sizes = (self._sizes,)
            held = (self._mean(held),)
            ranked = ranked and (self._mean(ranked),)
        return Candidates(
            name=self._name,
            target=target,
            scores=ranked,
            sizes=sizes,
            held=held,
            total=sum(mask.size for mask in masks),
            deviations=tuple(mask.deviation for mask in masks[: len(held)]),
            splice=config.splice,
        )

    def _mean(self, parts: tuple[Tensor, ...]) -> Tensor:
        """The mean of each group."""
        values = torch.cat([part.flatten() for part in parts])
        totals = values.new_zeros(len(self._sizes)).index_add_(0, self._flat, values)
        return totals / self._sizes.clamp(min=1)

    def apply_(self, kept: list[Tensor]) -> None:
        """Mask all but the groups that are `kept`; what was masked before stays so."""
        if self._groups is not None:
            kept = [
                kept[0][self._groups[part]] & (mask.splice | (mask.mask > 0))
                for part, mask in self.masks.items()
            ]
        for mask, part in zip(self.masks.values(), kept, strict=True):
            mask.mask.copy_(part)
