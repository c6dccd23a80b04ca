"""Optimal brain surgeon (Hassibi and Stork 1993), by layers and rows (Frantar 2022, ExactOBS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer, check_number
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion
from pleach.compression.surgery import (
    blocks,
    damped,
    effective,
    moments,
    only,
    parts_of_rows,
    refitted,
    rows_of,
)
from pleach.numbers import SIZE_MAX

#: elements of the inverses that are worked on at once: a processor's cache holds them
AT_ONCE = 1 << 17


@criterion("obs")
@dataclass(frozen=True, kw_only=True)
class Surgeon(Criterion):
    """What the outputs of a layer lose with a weight when the others make up for it as well as they
    can: ``w² / [H⁻¹]`` (equation 5 of Hassibi and Stork), with ``H = E[x·xᵀ]`` of what the layer
    takes, so that the loss is the mean square of the change of its outputs.

    The weights of a row go one after the other, each time the cheapest one, and the others are
    corrected by ``−w/[H⁻¹]_qq · H⁻¹e_q`` (ExactOBS, algorithm 1); a weight's score is what the
    dearest one cost up to it, which is the order in which a heap over all rows gives them
    (algorithm 2). Those that stay are corrected.

    Use it where there is no time to retrain, or at the end of a training at low density: it is the
    only criterion here that repairs what it breaks. It costs the cube of `block` for each row.

    Args:
        samples: training inputs that ``H`` is found on.
        block: columns of ``H`` that are taken together, the others taken as independent of them;
            0 takes them all.
        damping: share of the mean of ``H``'s diagonal that is added to it.
        greedy: false scores each weight as if it alone went, which costs one inverse.
    """

    samples: int = 1024
    block: int = 64
    damping: float = 0.01
    greedy: bool = True

    source = (
        "Hassibi and Stork 1993, equation 5; Frantar et al. 2022, arXiv:2208.11580, algorithms 1 "
        "and 2"
    )
    needs = frozenset({Observe.SAMPLES})
    granularities = ("element",)

    def __post_init__(self):
        check_integer(self, "samples", 1, 1 << 30)
        check_integer(self, "block", 0, SIZE_MAX)
        check_number(self, "damping", 0, 1)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        hessian = self._hessian(layer, seen)
        rows = rows_of(layer, effective(layer)).double()
        found = torch.empty_like(rows)
        cost = removal_costs if self.greedy else single_costs
        for group in range(len(rows)):
            for part in blocks(rows.shape[2], self.block):
                found[group, :, part] = cost(rows[group, :, part], hessian[group, part, part])
        tiny = torch.finfo(torch.float32).tiny  # a weight that costs nothing is still a weight
        scores = parts_of_rows(layer, found.clamp(min=tiny) * (rows != 0))
        return {part: score.to(layer.tensors[part].dtype) for part, score in scores.items()}

    def survivors(
        self, layer: PrunableLayer, kept: Mapping[str, Tensor], seen: Observations
    ) -> dict[str, Tensor]:
        return refitted(layer, dict(kept), self._hessian(layer, seen), self.block)

    def _hessian(self, layer: PrunableLayer, seen: Observations) -> Tensor:
        key = ("moments", layer.name, self.samples)
        return damped(seen.once(key, lambda: moments(layer, seen, self.samples)), self.damping)


def single_costs(rows: Tensor, hessian: Tensor) -> Tensor:
    """What each weight costs where it alone goes.

    Args:
        rows: ``(rows, columns)``.
        hessian: ``(columns, columns)``, positive definite.
    """
    return rows.square() / torch.linalg.inv(hessian).diagonal()


def removal_costs(rows: Tensor, hessian: Tensor) -> Tensor:
    """What the dearest removal cost up to each weight's, where each row loses its weights one by
    one, the cheapest first, and corrects the others; 0 of those that are zero already.

    Args:
        rows: ``(rows, columns)``.
        hessian: ``(columns, columns)``, positive definite.
    """
    found = []
    for weights in rows.split(max(1, AT_ONCE // hessian.numel())):
        weights = weights.clone()
        costs = torch.zeros_like(weights)
        there = weights != 0
        own = torch.linalg.inv(only(hessian, there))
        every = torch.arange(len(weights), device=weights.device)
        dearest = weights.new_zeros(len(weights))
        for _ in range(int(there.sum(1).max())):
            diagonal = own.diagonal(dim1=1, dim2=2)
            cost = torch.where(there, weights.square() / diagonal, torch.inf)
            least, chosen = cost.min(1)
            left = there.any(1)  # a row that has lost all of its weights waits for the others
            dearest = torch.where(left, torch.maximum(dearest, least), dearest)
            costs[every[left], chosen[left]] = dearest[left]
            there[every[left], chosen[left]] = False
            column = own[every, :, chosen]
            pivot = column[every, chosen, None]
            weights = (weights - column * (weights[every, chosen, None] / pivot)) * there
            own -= column[:, :, None] * (column / pivot)[:, None]
            # What is gone has no part any more; a one keeps the diagonal from being zero.
            own[every, chosen] = 0
            own[every, :, chosen] = 0
            own[every, chosen, chosen] = 1
        found.append(costs)
    return torch.cat(found)
