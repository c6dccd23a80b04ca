"""Weight sharing: the codebook is the parameter, the assignment a buffer."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compression.config import ShareConfig
from pleach.compression.masks import (
    check_weights,
    masks_of,
    over,
    own_masks_,
    parametrize_,
    parts_of,
)
from pleach.compression.quantisers import QUANTISERS, Quantiser
from pleach.errors import ConfigError, ModelError, PleachError
from pleach.models import Parametrization, layers_of
from pleach.settings import by_layer

# Biases have centroids of their own where sharing loses so many times as much of them, or of the
# weights, as that would, and so large a part of their sum of squares.
SPOILT, NOTABLE = 8, 0.05


class Shared(Parametrization):
    """Parametrization that lays a codebook out as a tensor, zero where nothing was kept.

    The gradient of a codebook value is the sum of its members' (Deep Compression, equation 3).
    For `reassign_`, a weight may also have a value of its own, which gets the weight's own gradient
    and decides where it is put next; it is no part of the tensor.

    Args:
        codebook: float, ``(values,)``, the values at the start.
        positions: int64, flat positions of the weights kept.
        codes: int64, the codebook index of each.
        own: float, the value of each before sharing; None where the assignment is for good.
        shape: of the tensor.
        size: elements that the tensor had before neurons were removed.
    """

    def __init__(self, codebook, positions, codes, own, shape: torch.Size, size: int):
        super().__init__()
        self.initial: tuple[Tensor, ...] | None = (codebook,) if own is None else (codebook, own)
        self.shape = shape
        self.size = size
        self.register_buffer("positions", positions)
        self.register_buffer("codes", codes)

    def forward(self, codebook: Tensor, own: Tensor | None = None) -> Tensor:
        flat = codebook.new_zeros(self.shape.numel())
        shared = codebook[self.codes]
        if own is not None:
            shared = shared + (own - own.detach())
        return flat.index_put((self.positions,), shared).view(self.shape)

    def right_inverse(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The parameters at registration. A tuple of one is one, too: torch then can take the
        parametrizations of weight and bias off one after the other, though they share it."""
        if self.initial is None:
            raise ModelError(
                "assigned to a shared weight or bias: set its codebook, "
                "layer.parametrizations.weight.original0, or take the sharing off with "
                'torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")'
            )
        initial, self.initial = self.initial, None
        return copy.deepcopy(initial)


def share_(model: nn.Module, config: ShareConfig | None = None, *, seed: int = 0) -> None:
    """Cluster the non-zero weights and biases of each layer and share one value a cluster.

    A layer's bias shares the codebook of its weights; where that would spoil either (inputs far
    from 1 make biases far larger or smaller than weights), an eighth of the codebook is for the
    biases alone. Zeros stay zeros: pruning is for good. The parameters of the model are the
    codebooks from here on, so make a new optimiser; any will do. With ``config.reassign`` the
    weights' own values are parameters too, for `reassign_`.

    Args:
        seed: of what the quantiser draws.

    Raises:
        ConfigError: a layer in ``config.layers`` that the model does not have.
        ModelError: a layer that is not supported, or whose weights are not finite.

    >>> model = nn.Sequential(nn.Linear(20, 5))
    >>> share_(model, ShareConfig(clusters=4))
    >>> len(model[0].weight.unique()), [tuple(p.shape) for p in model.parameters()]
    (4, [(4,)])
    """
    config = config or ShareConfig()
    quantiser = QUANTISERS.of(config.quantiser, "quantiser")
    layers = layers_of(model)
    check_weights(layers)
    clusters = by_layer([layer.name for layer in layers], config.clusters, config.layers)
    for name, layer in ((layer.name, layer.module) for layer in layers):
        own_masks_(layer)
        tensors = {part: getattr(layer, part).detach().clone() for part in parts_of(layer)}
        flat = {part: tensor.flatten() for part, tensor in tensors.items()}
        kept = {part: values.nonzero().flatten() for part, values in flat.items()}
        values = torch.cat([flat[part][kept[part]] for part in flat])
        centroids, codes = _clustered(
            name,
            values.cpu().double().numpy(),
            len(kept["weight"]),
            clusters[name],
            quantiser,
            seed,
        )
        codebook = torch.as_tensor(centroids).to(values)
        split = torch.as_tensor(codes).to(values.device).split([len(kept[p]) for p in flat])
        original = None
        sizes = {part: mask.size for part, mask in masks_of(layer).items()}
        for part, members in zip(flat, split, strict=True):
            if parametrize.is_parametrized(layer, part):
                parametrize.remove_parametrizations(layer, part)
            own = flat[part][kept[part]] if config.reassign else None
            shape = tensors[part].shape
            shared = Shared(
                codebook, kept[part], members, own, shape, sizes.get(part, shape.numel())
            )
            parametrize_(layer, part, shared)
            parameters = over(layer, part)
            # One parameter in both places: deepcopy, optimisers and state dicts know how to.
            if original is None:
                original = parameters.original0.requires_grad_(quantiser.trained)
            parameters.original0 = original


def _clustered(
    name: str, values: np.ndarray, weights: int, clusters: int, quantiser: Quantiser, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centroids and the index of each value's; the first `weights` values are those of weights.

    Raises:
        ConfigError: what a quantiser of the user's own gives is no codebook.
    """

    def cluster(values: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
        where = f"the quantiser {quantiser.kind}, of layer {name!r}"
        try:
            codebook = np.asarray(quantiser.codebook(values, clusters, seed=seed), np.float64)
            if (
                codebook.ndim != 1
                or not np.isfinite(codebook).all()
                or (np.diff(codebook) < 0).any()
            ):
                raise ConfigError(f"{where}: a codebook is a row of finite numbers that rise")
            codes = np.asarray(quantiser.codes(values, codebook))
        except PleachError:
            raise
        except Exception as error:
            raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
        if codes.shape != values.shape or codes.dtype.kind not in "iu":
            raise ConfigError(f"{where}: codes must be {len(values)} integers")
        if len(codes) and not (0 <= codes.min() and codes.max() < len(codebook)):
            raise ConfigError(f"{where}: a code is outside its codebook of {len(codebook)} values")
        return codebook, codes

    def lost(values: np.ndarray, centroids: np.ndarray, codes: np.ndarray) -> float:
        return float(np.sum((values - centroids[codes]) ** 2))

    centroids, codes = cluster(values, clusters)
    if len(centroids) > clusters:
        raise ConfigError(
            f"the quantiser {quantiser.kind} gives layer {name!r} {len(centroids)} values, its "
            f"setting clusters is {clusters}"
        )
    parts, together = np.split(values, [weights]), np.split(codes, [weights])
    share = max(1, clusters // 8)
    if clusters < 2 or not all(len(part) for part in parts):
        return centroids, codes
    alone = [cluster(parts[0], clusters - share), cluster(parts[1], share)]
    if sum(len(own) for own, _ in alone) > clusters or not any(
        lost(part, centroids, joint) > max(SPOILT * lost(part, *own), NOTABLE * np.sum(part**2))
        for part, joint, own in zip(parts, together, alone, strict=True)
    ):
        return centroids, codes
    (centroids, codes), (others, more) = alone
    return np.concatenate([centroids, others]), np.concatenate([codes, more + len(centroids)])


def reassign_(model: nn.Module) -> None:
    """Give each shared weight the codebook value nearest to its own value.

    Deep Compression leaves the assignment as k-means made it. Between two steps of fine-tuning a
    weight that has learned away from its centroid may change over.

    Raises:
        ModelError: weights that were shared for good.

    >>> model = nn.Sequential(nn.Linear(20, 5))
    >>> share_(model, ShareConfig(clusters=4, reassign=1))
    >>> _ = model[0].parametrizations.weight.original1.data.fill_(9.0)
    >>> reassign_(model)
    >>> len(model[0].weight.unique())
    1
    """
    with torch.no_grad():
        for layer in layers_of(model):
            for part in parts_of(layer.module):
                parameters = over(layer.module, part)
                if not hasattr(parameters, "original1"):
                    raise ModelError(f"layer {layer.name!r} was not shared with reassign > 0")
                codebook, rank = parameters.original0.sort()
                middles = (codebook[1:] + codebook[:-1]) / 2
                parameters[0].codes.copy_(rank[torch.bucketize(parameters.original1, middles)])
