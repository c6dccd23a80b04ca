"""A fully connected layer as a train of tensors (Novikov et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer, check_number
from pleach.compression.factorise import Factoriser, PrunableLayer, bias_of, factoriser, linear
from pleach.compression.masks import mask_
from pleach.numbers import SIZE_MAX


@factoriser("tensor_train")
@dataclass(frozen=True, kw_only=True)
class TensorTrain(Factoriser):
    """Rows and columns are seen as so many indexes each, and the weights as a product of one small
    core for each pair. A layer stands for each core: it multiplies along one
    index, the last one first.

    A file says each weight where it stands, and a core stands in its layer once for every value of
    the other indexes. So multiplications become as few as the paper says and bytes do not; shared
    values make up for a part.

    Use it for wide fully connected layers that are to run in fewer cycles.

    Args:
        cores: indexes of rows and columns, 2 to 4, as nearly alike as their sizes can be divided.
        energy: share of the sum of squares that each cut keeps, which gives the ranks.
        rank: if set, the largest rank.

    A layer that would become no smaller is left as it is, and so is a convolution.
    """

    source = "Novikov et al. 2015, arXiv:1509.06569, sections 3 and 4"

    cores: int = 2
    energy: float = 0.95
    rank: int | None = None

    def __post_init__(self):
        check_integer(self, "cores", 2, 4)
        check_number(self, "energy", 0, 1)
        if self.rank is not None:
            check_integer(self, "rank", 1, SIZE_MAX)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module = layer.module
        if not isinstance(module, nn.Linear):
            return None
        weight = module.weight.detach().double()
        rows, columns = (divided(size, self.cores) for size in weight.shape)
        cores = train_of(weight, rows, columns, self.energy, self.rank)
        matrices = laid_out(cores)
        here = laid_out([torch.ones_like(core) for core in cores])
        if sum(int(there.count_nonzero()) for there in here) >= weight.numel():
            return None
        layers = []
        for number, (matrix, there) in enumerate(zip(matrices, here, strict=True), start=1):
            made = linear(matrix, bias_of(layer) if number == len(matrices) else None)
            mask_(made, "weight").mask.copy_(there)  # what lies beside the cores stays zero
            layers.append(made)
        return nn.Sequential(*layers).to(module.weight)


def divided(size: int, count: int) -> list[int]:
    """A size as a product of so many, as nearly alike as can be.

    >>> divided(800, 2), divided(784, 3), divided(7, 2)
    ([25, 32], [8, 7, 14], [1, 7])
    """
    if count == 1:
        return [size]
    wanted = size ** (1 / count)
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    first = min(divisors, key=lambda n: (round(abs(math.log(n / wanted)), 9), n))
    return [first, *divided(size // first, count - 1)]


def train_of(
    weight: Tensor,
    rows: Sequence[int],
    columns: Sequence[int],
    energy: float,
    rank: int | None = None,
) -> list[Tensor]:
    """The cores, ``(rank before, rows, columns, rank after)``, by one singular value decomposition
    after the other (Oseledets 2011, algorithm 1).

    Args:
        rows, columns: sizes of the indexes, whose products are the weight's.
        energy: share of the sum of squares that each cut keeps.
        rank: at most.
    """
    count = len(rows)
    tensor = weight.reshape(*rows, *columns)
    pairs = [axis for n in range(count) for axis in (n, count + n)]
    left, before, cores = tensor.permute(pairs), 1, []
    for n in range(count - 1):
        u, values, right = torch.linalg.svd(
            left.reshape(before * rows[n] * columns[n], -1), full_matrices=False
        )
        kept = values.square().cumsum(0)
        after = 1 + int((kept[:-1] < energy * float(kept[-1])).sum())
        after = min(after, rank or after)
        cores.append(u[:, :after].reshape(before, rows[n], columns[n], after))
        left, before = values[:after, None] * right[:after], after
    cores.append(left.reshape(before, rows[-1], columns[-1], 1))
    return cores


def laid_out(cores: Sequence[Tensor]) -> list[Tensor]:
    """The matrix of each core's layer, that of the last core first: over all values of the columns
    that are still to come and of the rows that are there already."""
    matrices, there = [], 1
    for n in reversed(range(len(cores))):
        before, rows, columns, after = cores[n].shape
        coming = math.prod(core.shape[2] for core in cores[:n])
        matrix = cores[n].reshape(before * rows, columns * after)
        first, last = (torch.eye(size, dtype=matrix.dtype) for size in (coming, there))
        matrices.append(torch.kron(torch.kron(first, matrix.contiguous()), last))
        there *= rows
    return matrices
