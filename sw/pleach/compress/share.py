"""Weight sharing: the codebook is the parameter, the assignment a buffer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compress.config import ShareConfig
from pleach.compress.kmeans import kmeans
from pleach.compress.prune import parts_of, per_layer
from pleach.models import layers_of


class Shared(nn.Module):
    """Parametrization that lays a codebook out as a tensor, zero where nothing was kept.

    The gradient of a codebook value is the sum of its members' (Deep Compression, equation 3).

    Args:
        codebook: float, ``(values,)``, the values at the start.
        positions: int64, flat positions of the weights kept.
        codes: int64, the codebook index of each.
        shape: of the tensor.
    """

    def __init__(self, codebook: Tensor, positions: Tensor, codes: Tensor, shape: torch.Size):
        super().__init__()
        self.initial = codebook
        self.shape = shape
        self.register_buffer("positions", positions)
        self.register_buffer("codes", codes)

    def forward(self, codebook: Tensor) -> Tensor:
        flat = codebook.new_zeros(self.shape.numel())
        return flat.index_put((self.positions,), codebook[self.codes]).view(self.shape)

    def right_inverse(self, tensor: Tensor) -> Tensor:
        return self.initial.clone()


def share_(model: nn.Module, config: ShareConfig | None = None, *, seed: int = 0) -> None:
    """Cluster the non-zero weights and biases of each Linear layer and share one value a cluster.

    A layer's bias shares the codebook of its weights. Zeros stay zeros: pruning is for good. The
    parameters of the model are the codebooks from here on, so make a new optimiser; any will do.

    Args:
        seed: of the initialisation ``random``.

    Raises:
        ConfigError: a layer in ``config.layers`` that the model does not have.
        ModelError: a layer that is not supported.

    >>> model = nn.Sequential(nn.Linear(20, 5))
    >>> share_(model, ShareConfig(clusters=4))
    >>> len(model[0].weight.unique()), [tuple(p.shape) for p in model.parameters()]
    (4, [(4,)])
    """
    config = config or ShareConfig()
    layers = layers_of(model)
    clusters = per_layer([name for name, _, _ in layers], config.clusters, config.layers)
    for name, layer, _ in layers:
        tensors = {part: getattr(layer, part).detach().clone() for part in parts_of(layer)}
        flat = {part: tensor.flatten() for part, tensor in tensors.items()}
        kept = {part: values.nonzero().flatten() for part, values in flat.items()}
        values = torch.cat([flat[part][kept[part]] for part in flat])
        centroids, codes = kmeans(
            values.double().cpu().numpy(),
            clusters[name],
            initialisation=config.initialisation,
            seed=seed,
        )
        codebook = torch.as_tensor(centroids.astype(np.float32)).to(values)
        split = torch.as_tensor(codes).to(values.device).split([len(kept[p]) for p in flat])
        original = None
        for part, members in zip(flat, split, strict=True):
            if parametrize.is_parametrized(layer, part):
                parametrize.remove_parametrizations(layer, part)
            shared = Shared(codebook, kept[part], members, tensors[part].shape)
            parametrize.register_parametrization(layer, part, shared)
            # One parameter in both places: deepcopy, optimisers and state dicts know how to.
            if original is None:
                original = layer.parametrizations[part].original
            layer.parametrizations[part].original = original
