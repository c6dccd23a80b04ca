"""Weight sharing: the codebook is the parameter, the assignment a buffer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compression.config import ShareConfig
from pleach.compression.latent import Latent
from pleach.compression.masks import (
    check_weights,
    over,
    own_masks_,
    parametrize_,
    parts_of,
    size_of,
)
from pleach.compression.quantisers import QUANTISERS, Matrix, Projection, Quantiser
from pleach.compression.quantisers.kmeans import kmeans
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
        scales: what each row is multiplied by, ``(rows,)``; None of 1.
    """

    def __init__(self, codebook, positions, codes, own, shape: torch.Size, size: int, scales=None):
        super().__init__()
        self.register_buffer("scales", scales)
        self.initial: tuple[Tensor, ...] | None = (codebook,) if own is None else (codebook, own)
        self.shape = shape
        self.size = size
        self.register_buffer("positions", positions)
        self.register_buffer("codes", codes)

    def forward(self, codebook: Tensor, own: Tensor | None = None) -> Tensor:
        tensor = self.unscaled(codebook, own)
        if self.scales is None:
            return tensor
        return tensor * self.scales.reshape(-1, *[1] * (len(self.shape) - 1))

    def unscaled(self, *originals: Any) -> Tensor:
        """The codebook laid out, before its rows are scaled."""
        codebook, own = (*originals, None)[:2]
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


def share_(
    model: nn.Module,
    config: ShareConfig | None = None,
    *,
    seed: int = 0,
    moments: Mapping[str, Tensor] | None = None,
) -> None:
    """Cluster the non-zero weights and biases of each layer and share one value a cluster.

    A layer's bias shares the codebook of its weights; where that would spoil either (inputs far
    from 1 make biases far larger or smaller than weights), an eighth of the codebook is for the
    biases alone. Zeros stay zeros: pruning is for good. The parameters of the model are the
    codebooks from here on, so make a new optimiser; any will do. With ``config.reassign`` the
    weights' own values are parameters too, for `reassign_`.

    Args:
        seed: of what the quantiser draws.
        moments: of the layers' inputs, as `input_moments` gives them, for a quantiser that looks
            at them.

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
        if isinstance(quantiser, Projection):
            found = None if moments is None else moments.get(name)
            _project_(name, layer, quantiser, clusters[name], found, seed)
            continue
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
        own = {part: flat[part][kept[part]] if config.reassign else None for part in flat}
        trained = quantiser.trained and layer.weight.requires_grad
        _lay_(layer, codebook, kept, dict(zip(flat, split, strict=True)), own, trained)


def _lay_(
    layer: nn.Module,
    codebook: Tensor,
    kept: Mapping[str, Tensor],
    codes: Mapping[str, Tensor],
    own: Mapping[str, Tensor | None],
    trained: bool,
    scales: Tensor | None = None,
) -> None:
    """Put one codebook over the parts of a layer."""
    original = None
    for part, members in codes.items():
        shape, size = getattr(layer, part).shape, size_of(layer, part)
        if parametrize.is_parametrized(layer, part):
            parametrize.remove_parametrizations(layer, part)
        shared = Shared(codebook, kept[part], members, own[part], shape, size, scales)
        parametrize_(layer, part, shared)
        parameters = over(layer, part)
        # One parameter in both places: deepcopy, optimisers and state dicts know how to.
        if original is None:
            original = parameters.original0.requires_grad_(trained)
        parameters.original0 = original


def _project_(
    name: str,
    layer: nn.Linear | nn.Conv2d,
    projection: Projection,
    clusters: int,
    moments: Tensor | None,
    seed: int,
) -> None:
    """Put the weights of a layer on the set of a projection, and its biases on what `clusters`
    leaves them."""
    weight, bias = layer.weight.detach(), layer.bias
    latent = over(layer, "weight")[0] if parametrize.is_parametrized(layer, "weight") else None
    if isinstance(latent, Latent):
        fit = latent.through.fit(latent.matrix(over(layer, "weight").original.detach()))
        kept = latent.kept.flatten(1)
    else:
        matrix = Matrix(weight.flatten(1), weight.flatten(1) != 0, moments)
        fit, kept = projection.fit(matrix), matrix.kept
    values, codes, scales = fit.values.to(weight), fit.codes, fit.scales
    if values.count_nonzero() > projection.size or codes.shape != kept.shape:
        raise ConfigError(
            f"the quantiser {projection.kind} gives layer {name!r} {len(values)} values, it says "
            f"{projection.size}; and {tuple(codes.shape)} codes for {tuple(kept.shape)} weights"
        )
    if scales is not None:  # a row of zeros has none, but may have a bias
        scales = scales.to(weight)
        codes = torch.where((scales == 0)[:, None], len(values), codes)
        scales = torch.where(scales == 0, scales.mean().clamp(min=1e-12), scales)
    values = torch.cat([values, values.new_zeros(1)])
    codes = torch.where(kept, codes, len(values) - 1)
    places = {"weight": (values[codes] != 0).flatten().nonzero().flatten()}
    found = {"weight": codes.flatten()[places["weight"]]}
    if bias is not None:
        own = bias.detach() if scales is None else bias.detach() / scales
        places["bias"] = own.nonzero().flatten()
        centroids, members = kmeans(
            own[places["bias"]].cpu().double().numpy(),
            max(1, clusters - projection.size),
            initialisation="optimal",
        )
        found["bias"] = torch.as_tensor(members).to(weight.device) + len(values)
        values = torch.cat([values, torch.as_tensor(centroids).to(values)])
    _lay_(layer, values, places, found, dict.fromkeys(found), False, scales)


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
