"""Groups of weights that vanish as one (Wen 2016, structured sparsity learning)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_number, check_type
from pleach.compression.granularity import GRANULARITIES, Granularity
from pleach.compression.observe import prunable
from pleach.compression.regularisers import Regulariser, regulariser
from pleach.errors import ConfigError
from pleach.settings import READS_ITSELF


@regulariser("group_lasso")
@dataclass(frozen=True, kw_only=True)
class GroupLasso(Regulariser):
    """The sum over groups of ``√size·‖w‖₂`` (equations 1 to 3): over filters, channels, shapes or
    whole layers, as the granularity says.

    The paper adds its gradient, under which no group becomes zero. The proximal step does: after a
    step of the optimiser each group comes nearer to zero by ``rate·strength·√size``, and is zero
    where it was nearer than that.

    Use it before pruning by the same granularity, with a strength of about 1e-4 to 1e-2: what is
    pruned then is zero already, and nothing is lost.

    Args:
        strength: of the penalty.
        granularity: what is a group, a kind of `pleach.compression.granularity`: ``channel``,
            ``input``, ``shape``, ``block``, ``layer``.
        proximal: whether it is a step of its own, not a part of the loss.
    """

    strength: float
    granularity: Granularity | str | Mapping[str, Any] = field(
        default="channel", metadata=READS_ITSELF
    )
    proximal: bool = True

    source = "Wen et al. 2016, arXiv:1608.03665, equations 1 to 3"

    def __post_init__(self):
        check_number(self, "strength", 0, 10)
        check_type(self, "proximal", bool, "true or false")
        chosen = GRANULARITIES.of(self.granularity, "GroupLasso.granularity")
        if chosen.kind == "element":
            raise ConfigError(
                "GroupLasso.granularity = 'element' has groups of one weight: that is the "
                "regulariser l1"
            )
        object.__setattr__(self, "granularity", chosen)

    def penalty(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        if self.proximal:
            return None
        total = parameters[0].new_zeros(())
        for values, groups, sizes in self._groups(model):
            squares = values.new_zeros(len(sizes)).index_add(0, groups, values.square())
            total = total + (sizes * squares.clamp(min=1e-24)).sqrt().sum()
        return self.strength * total

    def after_step(self, model: nn.Module, rate: float) -> None:
        if not self.proximal:
            return
        for layer in prunable(model):
            tensors = self._tensors(layer)
            if not tensors:
                continue
            values, groups, sizes = _joined(*tensors)
            factors = shrunk(values, groups, sizes, rate * self.strength)[groups]
            split = factors.split([tensor.numel() for tensor in tensors[0]])
            for tensor, factor in zip(tensors[0], split, strict=True):
                tensor.mul_(factor.view_as(tensor))

    def _groups(self, model: nn.Module):
        for layer in prunable(model):
            if tensors := self._tensors(layer):
                yield _joined(*tensors)

    def _tensors(self, layer) -> tuple[list[Tensor], list[Tensor]] | None:
        """The tensors of a layer that have groups, and the number of each element's."""
        groups = GRANULARITIES.of(self.granularity, "granularity").groups(layer)
        if not groups:
            return None
        return [layer.tensors[part] for part in groups], list(groups.values())


def _joined(tensors: list[Tensor], groups: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """All values, the group of each, and the size of each group."""
    flat = torch.cat([group.flatten() for group in groups])
    values = torch.cat([tensor.flatten() for tensor in tensors])
    return values, flat, torch.bincount(flat).to(values)


def shrunk(values: Tensor, groups: Tensor, sizes: Tensor, strength: float) -> Tensor:
    """What the values of each group are multiplied by: the proximal step of the group lasso,
    ``max(0, 1 − strength·√size / ‖w‖₂)``.

    >>> shrunk(torch.tensor([3.0, 4.0, 1.0]), torch.tensor([0, 0, 1]), torch.tensor([1, 4]), 1.0)
    tensor([0.8000, 0.0000])
    """
    norms = values.new_zeros(len(sizes)).index_add_(0, groups, values.square()).sqrt()
    return (1 - strength * sizes.sqrt() / norms.clamp(min=1e-30)).clamp(min=0)
