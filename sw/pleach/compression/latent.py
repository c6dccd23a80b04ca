"""Weights that learn behind the values that they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compression.masks import masks_of, over, own_masks_, parametrize_
from pleach.compression.quantisers import Matrix, Projection, Through
from pleach.models import Parametrization, layers_of, ours

#: inputs whose second moments a quantiser is shown
LOOKED_AT = 1024


class Latent(Parametrization):
    """Parametrization of a weight that is trained through a projection.

    Args:
        through: how.
        kept: bool, the weight's shape, False where it was pruned.
        size: elements that the tensor had before neurons were removed.
        moments: of the layer's inputs, or None.
    """

    kept: Tensor
    moments: Tensor | None

    def __init__(self, through: Through, kept: Tensor, size: int, moments: Tensor | None):
        super().__init__()
        self.through, self.size = through, size
        self.register_buffer("kept", kept)
        self.register_buffer("moments", moments)

    def matrix(self, latent: Tensor) -> Matrix:
        """The weights that are learned."""
        return Matrix((latent * self.kept).flatten(1), self.kept.flatten(1), self.moments)

    def forward(self, latent: Tensor) -> Tensor:
        return self.through(self.matrix(latent)).view_as(latent) * self.kept

    def right_inverse(self, tensor: Tensor) -> Tensor:
        return tensor


def latent_(
    model: nn.Module,
    projections: Mapping[str, Projection],
    *,
    seed: int = 0,
    moments: Mapping[str, Tensor] | None = None,
) -> None:
    """Have layers trained through a projection each; masks of pruned weights stay, inside it.

    Args:
        projections: by the layer's qualified name.
        seed: of anything random.
        moments: of the layers' inputs, as `input_moments` gives them.
    """
    for number, layer in enumerate(layers_of(model)):
        module, projection = layer.module, projections.get(layer.name)
        if projection is None:
            continue
        own_masks_(module)
        size, kept = module.weight.numel(), torch.ones_like(module.weight, dtype=torch.bool)
        if "weight" in (masks := masks_of(module)):
            size, kept = masks["weight"].size, masks["weight"].mask != 0
            parametrize.remove_parametrizations(module, "weight")
        found = None if moments is None else moments.get(layer.name)
        matrix = Matrix(module.weight.detach().flatten(1), kept.flatten(1), found)
        through = projection.through(matrix, seed + number)
        parametrize_(module, "weight", Latent(through, kept, size, found))


def latents_of(model: nn.Module) -> list[tuple[Latent, nn.Parameter]]:
    """The layers' weights that learn behind a projection, with the numbers that they learn."""
    found = []
    for layer in layers_of(model):
        if parametrize.is_parametrized(layer.module, "weight"):
            parameters = over(layer.module, "weight")
            if isinstance(parameters[0], Latent):
                found.append((parameters[0], parameters.original))
    return found


def stepping(model: nn.Module, epochs: float) -> Callable[[float, torch.optim.Optimizer], None]:
    """What is to be done before each step of a training through projections."""

    def step(done: float, optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            for latent, original in latents_of(model):
                share = done / epochs if epochs else 1.0
                found = latent.through.before_step(latent.matrix(original), share)
                if found is not None:
                    original.copy_(found.view_as(original))

    return step


def input_moments(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """The mean of ``x xᵀ`` over what each layer takes, ``(columns, columns)``, by its name.

    Of a convolution ``x`` is what the kernel sees at a pixel, of one with groups the mean over
    these.

    Args:
        inputs: as the network takes them; the first 1,024 are looked at.
    """
    found: dict[str, Tensor] = {}
    handles = []
    for layer in layers_of(model):

        def look(module, taken, name=layer.name) -> None:
            rows = taken[0].detach()
            if isinstance(module, nn.Conv2d):
                rows = _patches(module, rows)
            found[name] = rows.T @ rows / len(rows)

        handles.append(layer.module.register_forward_pre_hook(ours(look)))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(inputs[:LOOKED_AT])
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found


def _patches(module: nn.Conv2d, maps: Tensor) -> Tensor:
    """What a kernel sees at each pixel, ``(n, columns)``; each group of channels by itself."""
    padding = module.padding
    if isinstance(padding, str):
        sizes = [size - 1 if padding == "same" else 0 for size in module.kernel_size]
        high, wide = sizes
        maps = nn.functional.pad(maps, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        padding = (0, 0)
    maps = maps.reshape(len(maps) * module.groups, -1, *maps.shape[2:])
    seen = nn.functional.unfold(maps, module.kernel_size, padding=padding, stride=module.stride)
    return seen.transpose(1, 2).reshape(-1, seen.shape[1])
