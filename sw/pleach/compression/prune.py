"""Pruning: masks as torch parametrizations, so that any training loop works unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from pleach.compression.config import PruneConfig
from pleach.errors import ConfigError, ModelError
from pleach.models import Layer, Parametrization, layers_of
from pleach.settings import nearest

PARTS = ("weight", "bias")


class Mask(Parametrization):
    """Parametrization that multiplies a tensor by a mask of zeros and ones.

    Args:
        tensor: what is masked; the mask is all ones at first.
        deviation: standard deviation of the layer's weights before any was pruned.

    Attributes:
        size: elements that the tensor had before neurons were removed.
        splice: whether masked elements go on learning: they are zero in the forward pass and get
            the gradient as if they were not (Guo et al. 2016, equation 3).
    """

    def __init__(self, tensor: Tensor, deviation: float):
        super().__init__()
        self.register_buffer("mask", torch.ones_like(tensor))
        self.size = tensor.numel()
        self.deviation = deviation
        self.splice = False

    def forward(self, tensor: Tensor) -> Tensor:
        masked = tensor * self.mask
        return tensor + (masked - tensor).detach() if self.splice else masked

    def right_inverse(self, tensor: Tensor) -> Tensor:
        if tensor.shape != self.mask.shape or bool(tensor[self.mask == 0].any()):
            raise ModelError(
                "assigned to a pruned weight or bias what is not zero where it was pruned: "
                "multiply by its mask, layer.parametrizations.weight[0].mask, first, or take the "
                'mask off with torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")'
            )
        return tensor


def prune_(
    model: nn.Module,
    config: PruneConfig | None = None,
    *,
    progress: float = 1.0,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Mask the weights and biases of least importance in each Linear and Conv2d layer of `model`.

    Weights that survive keep their values. One that is masked, by torch.nn.utils.prune too, stays
    masked, its gradient is zero, so the user's training loop needs no change; with
    ``config.splice`` it goes on learning behind its mask and may come back. The bias is one more
    input column: it is ranked with the weights of its layer.

    Args:
        progress: 0 to 1, how far the schedule has come; 1 is the target. At `t` the density is
            ``target + (start − target)·(1 − t)³`` (Zhu and Gupta 2017, equation 1), a threshold is
            the target's times ``1 − (1 − t)³``.
        optimizer: what trains the model; ``config.criterion = "saliency"`` takes the mean square
            of each gradient from its state (Adam's second moment). Before its first step nothing
            is known, and nothing is masked.

    Raises:
        ConfigError: a layer in ``config.layers`` that the model does not have, or a saliency
            without an optimiser that knows it.
        ModelError: a layer that is not supported, whose weights are shared already, or are not
            finite.

    >>> model = nn.Sequential(nn.Linear(9, 1))
    >>> prune_(model, PruneConfig(density=0.3))
    >>> int(model[0].weight.count_nonzero() + model[0].bias.count_nonzero())
    3
    """
    config = config or PruneConfig()
    found = layers_of(model)
    check_weights(found)
    layers = [(layer.name, layer.module) for layer in found]
    names = [name for name, _ in layers]
    setting = config.density if config.quality is None else config.quality
    if config.scope == "network":
        per_layer(names, setting, config.layers)
        groups = [(setting, layers)]
    else:
        target = per_layer(names, setting, config.layers)
        groups = [(target[name], [(name, layer)]) for name, layer in layers]
    remaining = (1 - min(max(progress, 0.0), 1.0)) ** 3
    with torch.no_grad():
        for target, members in groups:
            parts = [
                (layer, part, mask)
                for name, layer in members
                for part, mask in _masks(name, layer, splice=config.splice).items()
            ]
            scores = [_score(layer, part, config, optimizer) for layer, part, _ in parts]
            if any(score is None for score in scores):
                continue
            if not config.splice:  # what was masked before stays so
                scores = [
                    score * mask.mask for score, (*_, mask) in zip(scores, parts, strict=True)
                ]
            if config.quality is None:
                density = target + (config.start - target) * remaining
                count = round(density * sum(mask.size for *_, mask in parts))
                kept = _largest(scores, count, config.balance)
            else:
                kept = [
                    score >= target * (1 - remaining) * mask.deviation * _hysteresis(mask)
                    for score, (*_, mask) in zip(scores, parts, strict=True)
                ]
            for (*_, mask), score, kept_part in zip(parts, scores, kept, strict=True):
                mask.mask.copy_(kept_part & (score > 0))


def _score(layer: nn.Module, part: str, config: PruneConfig, optimizer) -> Tensor | None:
    """Importance of each element: its magnitude, or what the loss would lose with it.

    To second order, with the Fisher information in place of the curvature, removing ``w`` costs
    ``w²·E[g²] / 2`` (LeCun 1990, equation 5); its root is returned. None where ``E[g²]`` is not
    known yet.
    """
    tensor = layer.parametrizations[part].original
    if config.criterion == "magnitude":
        return tensor.abs()
    if optimizer is None:
        raise ConfigError("the criterion saliency needs the optimiser: prune_(…, optimizer=…)")
    state = optimizer.state.get(tensor)
    if not state:
        return None
    if "exp_avg_sq" not in state:
        raise ConfigError(
            f"the criterion saliency needs Adam or AdamW, {type(optimizer).__name__} keeps no mean "
            "square of the gradients"
        )
    return tensor.abs() * state["exp_avg_sq"].sqrt()


def _largest(scores: list[Tensor], count: int, classes: int = 1) -> list[Tensor]:
    """Where the `count` largest of all scores are; with `classes`, an equal share of them in each
    class of rows, row `r` being of class ``r % classes``."""
    if classes > 1:
        kept = [torch.zeros_like(score, dtype=torch.bool) for score in scores]
        for first in range(min(classes, len(scores[0]))):
            own = [score[first::classes] for score in scores]
            share = sum(s.numel() for s in own) / sum(s.numel() for s in scores)
            for whole, part in zip(kept, _largest(own, round(count * share)), strict=True):
                whole[first::classes] = part
        return kept
    joined = torch.cat([score.flatten() for score in scores])
    kept = torch.zeros_like(joined, dtype=torch.bool)
    kept[joined.topk(min(count, len(joined))).indices] = True
    split = kept.split([score.numel() for score in scores])
    return [part.view_as(score) for part, score in zip(split, scores, strict=True)]


def _hysteresis(mask: Mask) -> Tensor | float:
    """A spliced weight leaves a tenth below the threshold and comes back a tenth above it, so that
    none flickers (Guo et al. 2016, equation 3: its two thresholds)."""
    return 1.1 - 0.2 * mask.mask if mask.splice else 1.0


def per_layer(
    names: list[str], default: float, settings: Mapping[str, float], where: str = ""
) -> dict[str, float]:
    """The setting of each layer.

    Args:
        where: the name of `settings`, for the error.

    Raises:
        ConfigError: a name in `settings` that is no layer.
    """
    for name in settings:
        if name not in names:
            place = f"{where}: " * bool(where)
            raise ConfigError(f"{place}no layer is called {name!r}: {nearest(name, names)}")
    return {name: settings.get(name, default) for name in names}


def parts_of(layer: nn.Module) -> list[str]:
    """``weight`` and, where there is one, ``bias``."""
    return [part for part in PARTS if getattr(layer, part) is not None]


def check_weights(layers: Sequence[Layer]) -> None:
    """Refuse weights and biases that are not finite.

    Raises:
        ModelError: names the layer, and the place of the first.
    """
    for layer in layers:
        for part in parts_of(layer.module):
            tensor = getattr(layer.module, part).detach()
            if not bool(tensor.isfinite().all()):
                place = (~tensor.isfinite()).nonzero()[0].tolist()
                raise ModelError(
                    f"layer {layer.name!r}: its {part} holds {float(tensor[tuple(place)])} at "
                    f"{place}, which is not finite"
                )


def masks_of(layer: nn.Module) -> dict[str, Mask]:
    """The masks of a layer, none where it was not pruned."""
    if not parametrize.is_parametrized(layer):
        return {}
    return {
        part: list_[0]
        for part, list_ in layer.parametrizations.items()
        if isinstance(list_[0], Mask)
    }


def mask_(layer: nn.Module, part: str) -> Mask:
    """Put a mask of ones on a layer's weight or bias."""
    mask = Mask(getattr(layer, part), float(layer.weight.detach().std()))
    parametrize_(layer, part, mask)
    return mask


def parametrize_(layer: nn.Module, part: str, parametrization: Parametrization) -> None:
    """Register a parametrization of ours; a Parameter assigned to the tensor then says as much as a
    tensor does, where torch says that the name exists."""
    parametrize.register_parametrization(layer, part, parametrization)

    def assign(module: nn.Module, name: str, value) -> None:
        if isinstance(value, nn.Parameter) and name in module.parametrizations:
            value = value.detach()
        super(type(module), module).__setattr__(name, value)

    type(layer).__setattr__ = assign


def own_masks_(layer: nn.Module) -> None:
    """Make masks of ours of those of torch.nn.utils.prune: what they have pruned stays pruned."""
    for hook in list(layer._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            part = hook._tensor_name
            mask = getattr(layer, f"{part}_mask").detach().clone()
            prune.remove(layer, part)
            mask_(layer, part).mask.copy_(mask)


def size_of(layer: nn.Module, part: str) -> int:
    """Elements of a weight or bias before neurons were removed, as its parametrization has it."""
    if parametrize.is_parametrized(layer, part):
        return layer.parametrizations[part][0].size
    return getattr(layer, part).numel()


def _masks(name: str, layer: nn.Module, *, splice: bool) -> dict[str, Mask]:
    """The masks of a layer; they are put on at the first call."""
    own_masks_(layer)
    for part in parts_of(layer):
        if not parametrize.is_parametrized(layer, part):
            mask_(layer, part)
    masks = masks_of(layer)
    if len(masks) != len(parts_of(layer)):
        raise ModelError(f"layer {name!r} is parametrized already: prune before weights are shared")
    for mask in masks.values():
        mask.splice = splice
    return masks
