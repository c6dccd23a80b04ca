"""Least squares for what is left of a layer: the best values of the weights that stay."""

from __future__ import annotations

import torch
from torch import Tensor

from pleach.compression.observe import Observations, PrunableLayer

#: elements of the tensors that are worked on at once
MOST = 1 << 24


def moments(layer: PrunableLayer, seen: Observations, most: int) -> Tensor:
    """The second moments of what the rows of a layer are multiplied by, ``E[x·xᵀ]`` over samples,
    summed over the positions of a convolution: float64, ``(groups, columns, columns)``.

    With them, what a change ``d`` of a row makes of its outputs is ``dᵀ·E[x·xᵀ]·d``, the mean
    square. The bias, where there is one, is the last column, of ones.

    Args:
        most: samples.
    """
    total, count = None, 0
    for batch in seen.look(layer, most):
        columns = layer.columns(batch.inputs).double()  # (n, groups, columns, positions)
        if layer.module.bias is not None:
            columns = torch.cat([columns, torch.ones_like(columns[:, :, :1])], 2)
        flat = columns.permute(1, 2, 0, 3).flatten(2)
        found = flat @ flat.mT
        total, count = found if total is None else total + found, count + len(columns)
    assert total is not None  # there is a sample
    return total / count


def rows_of(layer: PrunableLayer, tensors: dict[str, Tensor]) -> Tensor:
    """The rows of a layer with their biases, ``(groups, rows, columns)``, as `moments` has them."""
    rows = torch.cat([t.reshape(len(t), -1) for t in tensors.values()], 1)
    return rows.reshape(layer.groups, -1, rows.shape[1])


def parts_of_rows(layer: PrunableLayer, rows: Tensor) -> dict[str, Tensor]:
    """What `rows_of` joined, by part."""
    flat = rows.flatten(0, 1)
    found, start = {}, 0
    for part, tensor in layer.tensors.items():
        size = tensor[0].numel()
        found[part] = flat[:, start : start + size].reshape(tensor.shape)
        start += size
    return found


def effective(layer: PrunableLayer) -> dict[str, Tensor]:
    """The weight and bias with which a layer computes, masks applied."""
    return {part: getattr(layer.module, part).detach() for part in layer.tensors}


def damped(moments: Tensor, damping: float) -> Tensor:
    """With that share of the mean of the diagonal added to it; a column that is always zero has a
    one there, so that there is an inverse."""
    diagonal = moments.diagonal(dim1=-2, dim2=-1)
    more = damping * diagonal.mean(-1, keepdim=True) + (diagonal == 0)
    return moments + torch.diag_embed(more)


def fitted(rows: Tensor, kept: Tensor, moments: Tensor) -> Tensor:
    """What the weights become that stay, so that the outputs of each row change least: where `S`
    stays and `P` goes, ``w_S + M_SS⁻¹·M_SP·w_P``, zero elsewhere.

    That is optimal brain surgeon's correction for several weights at once (Hassibi and Stork 1993,
    equation 5).

    Args:
        rows: float64 ``(rows, columns)``.
        kept: bool, of the same shape.
        moments: ``(columns, columns)``, positive definite.
    """
    found = []
    step = max(1, MOST // moments.numel())
    for weights, stay in zip(rows.split(step), kept.split(step), strict=True):
        stays, matrix = stay.to(weights), only(moments, stay)
        lost = (weights * (1 - stays)) @ moments * stays
        change = torch.linalg.solve(matrix, lost[:, :, None])[:, :, 0]
        found.append((weights + change) * stays)
    return torch.cat(found)


def only(moments: Tensor, kept: Tensor) -> Tensor:
    """The moments of the columns that each row keeps, ``(rows, columns, columns)``; of the others
    ones on the diagonal.

    Args:
        kept: bool, ``(rows, columns)``.
    """
    stays = kept.to(moments)
    return moments * (stays[:, :, None] * stays[:, None]) + torch.diag_embed(1 - stays)


def blocks(columns: int, size: int) -> list[slice]:
    """The columns in blocks of `size`; in one where that is 0."""
    size = size or columns
    return [slice(start, min(start + size, columns)) for start in range(0, columns, size)]


def refitted(
    layer: PrunableLayer, kept: dict[str, Tensor], moments: Tensor, block: int
) -> dict[str, Tensor]:
    """`fitted` for a layer, in blocks of columns, by part."""
    rows = rows_of(layer, effective(layer)).double()
    stay = rows_of(layer, kept)
    found = torch.empty_like(rows)
    for group in range(len(rows)):
        for part in blocks(rows.shape[2], block):
            found[group, :, part] = fitted(
                rows[group, :, part], stay[group, :, part], moments[group, part, part]
            )
    return parts_of_rows(layer, found)
