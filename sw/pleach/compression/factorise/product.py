"""Rows put together of few codewords (Wu et al. 2016, Q-CNN)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer
from pleach.compression.factorise import (
    Factoriser,
    PrunableLayer,
    bias_of,
    conv,
    factoriser,
    linear,
)
from pleach.compression.masks import mask_

ROUNDS = 20


@factoriser("product")
@dataclass(frozen=True, kw_only=True)
class Product(Factoriser):
    """Product quantisation: the inputs, or channels, fall into parts, and of each part every row
    has one of a few codewords. The first layer multiplies inputs by codewords, the
    second one adds up those of each row: what the paper looks up in tables. A convolution has a
    codeword for each place of its kernel, of codebooks that all places share (section 3.3).

    The codewords are chosen for the least error of what the layer gives, a part after the other,
    each for what the others leave. The second layer stays as it is.

    Use it for wide fully connected layers without retraining: it needs inputs, and no labels.

    Args:
        part: inputs, or channels, of a part. Where they do not come out even the last has less; of
            a convolution they must, or it is left as it is.
        codewords: of each part.
        seed: of where k-means starts.
    """

    source = "Wu et al. 2016, arXiv:1512.06473, sections 3.2 to 3.4"
    looks = True

    part: int = 4
    codewords: int = 16
    seed: int = 0

    def __post_init__(self):
        check_integer(self, "part", 1, 4096)
        check_integer(self, "codewords", 1, 4096)
        check_integer(self, "seed", 0, (1 << 31) - 1)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module, weight = layer.module, layer.module.weight.detach().double()
        if isinstance(module, nn.Linear):
            return self.fully_connected(layer, weight)
        rows, channels, *sides = weight.shape
        if module.groups > 1 or channels % self.part:
            return None
        count = channels // self.part
        # One row for each filter and place; the places' inputs are taken to be alike.
        flat = weight.permute(0, 2, 3, 1).reshape(-1, channels)
        if self.codewords * channels + len(flat) * count >= weight.numel():
            return None
        codebooks, codes = quantised(
            flat, self._parts(channels), self.codewords, _over_places(layer), self.seed
        )
        kernel = torch.cat([book for book in codebooks])[:, :, None, None]
        chosen = _ones(codes, self.codewords).reshape(rows, *sides, -1).permute(0, 3, 1, 2)
        return self._made(
            layer,
            conv(kernel, groups=count),
            conv(chosen, bias_of(layer), stride=module.stride, padding=module.padding),
        )

    def fully_connected(self, layer: PrunableLayer, weight: Tensor) -> nn.Sequential | None:
        rows, columns = weight.shape
        parts = self._parts(columns)
        if self.codewords * columns + rows * len(parts) >= weight.numel():
            return None
        codebooks, codes = quantised(weight, parts, self.codewords, layer.moments, self.seed)
        first = torch.block_diag(*codebooks)
        here = torch.block_diag(*(torch.ones_like(book) for book in codebooks))
        made = linear(first)
        mask_(made, "weight").mask.copy_(here)  # what lies beside the parts stays zero
        return self._made(layer, made, linear(_ones(codes, self.codewords), bias_of(layer)))

    def _parts(self, columns: int) -> list[slice]:
        starts = range(0, columns, self.part)
        return [slice(start, min(start + self.part, columns)) for start in starts]

    def _made(self, layer: PrunableLayer, first: nn.Module, second: nn.Module) -> nn.Sequential:
        second.weight.requires_grad_(False)
        return nn.Sequential(first, second).to(layer.module.weight)


def _ones(codes: Tensor, codewords: int) -> Tensor:
    """1 at the codeword of each part, ``(rows, parts · codewords)``."""
    return nn.functional.one_hot(codes, codewords).flatten(1).double()


def _over_places(layer: PrunableLayer) -> Tensor | None:
    """The moments of the channels, the mean over the places of the kernel."""
    if layer.moments is None:
        return None
    _, channels, *sides = layer.module.weight.shape
    places = sides[0] * sides[1]
    whole = layer.moments.reshape(channels, places, channels, places)
    return torch.stack([whole[:, n, :, n] for n in range(places)]).mean(0)


def quantised(
    weight: Tensor, parts: list[slice], codewords: int, moments: Tensor | None, seed: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Codebooks, each ``(codewords, columns of the part)``, and the codeword of each row's parts,
    ``(rows, parts)``.

    Args:
        weight: ``(rows, columns)``, float64.
        moments: the mean of ``x xᵀ`` over the inputs; None: what is least is the error of weights.
    """
    if moments is None:
        moments = torch.eye(weight.shape[1])
    # Inputs that are always zero would leave their codewords open.
    moments = moments.double() + 1e-6 * moments.diagonal().mean().double().clamp(min=1e-12) * (
        torch.eye(weight.shape[1], dtype=torch.float64)
    )
    generator = torch.Generator().manual_seed(seed)
    put, codebooks = weight.clone(), []
    codes = torch.zeros(len(weight), len(parts), dtype=torch.int64)
    before = float("inf")
    for turn in range(ROUNDS):
        for number, part in enumerate(parts):
            own = moments[part, part]
            others = (weight - put) @ moments[:, part] - (weight[:, part] - put[:, part]) @ own
            # What the part would be if it were free: it makes up for the others.
            target = weight[:, part] + torch.linalg.solve(own, others.T).T
            if turn == 0:
                first = torch.randperm(len(target), generator=generator)[:codewords]
                book = target[first]
                book = torch.cat([book, book[:1].expand(codewords - len(book), -1)])
                codebooks.append(book)
            chosen = codes[:, number]
            for _ in range(ROUNDS if turn == 0 else 1):
                near = target[:, None] - codebooks[number]
                chosen = torch.einsum("rkd,de,rke->rk", near, own, near).argmin(1)
                sums = torch.zeros_like(codebooks[number]).index_add(0, chosen, target)
                counts = torch.bincount(chosen, minlength=codewords)[:, None]
                codebooks[number] = torch.where(
                    counts > 0, sums / counts.clamp(min=1), codebooks[number]
                )
            codes[:, number], put[:, part] = chosen, codebooks[number][chosen]
        error = weight - put
        lost = float(((error @ moments) * error).sum())
        if before - lost <= 1e-9 * abs(before) and turn:
            break
        before = lost
    return codebooks, codes
