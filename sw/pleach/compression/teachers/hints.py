"""Hidden layers like the teacher's (Romero et al. 2015, FitNets)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from pleach.compression.checks import check_number
from pleach.compression.teachers import Follow, teacher
from pleach.compression.teachers.attention import Pairs, check_pairs
from pleach.compression.teachers.model import ModelTeacher
from pleach.errors import ConfigError


@teacher("hints")
@dataclass(frozen=True, kw_only=True)
class Hints(ModelTeacher):
    """What some layers give is to be like what the teacher's give, after a regressor where these
    have another number of channels: ``weight / 2 · ‖teacher − r(own)‖²``, the mean over the inputs.
    The regressor, 1 × 1 over channels, is trained with the network and left behind.

    The paper trains up to the hinted layer first and the whole network then. Here the distance is a
    part of the loss in every training that there is.

    Use it where the network is deep and narrow and its outputs alone teach the first layers little.

    Args:
        pairs: a layer's qualified name, and that of the teacher's module that gives the hint.
        weight: of the distance.
        seed: of where the regressor starts.
    """

    source = "Romero et al. 2015, arXiv:1412.6550, section 2.2"

    pairs: Mapping[str, str] = field(default_factory=dict)
    weight: float = 0.1
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_pairs(self)
        check_number(self, "weight", 0, 1e9)

    def follow(self, model: nn.Module) -> Follow:
        return _Hinted(self, model)


class _Hinted(Pairs):
    """Attributes:
    regressors: by the layer's name, ``(teacher's channels, channels)``.
    """

    def __init__(self, settings: Hints, model: nn.Module):
        super().__init__(settings, model)
        self.regressors = _regressors(settings, model)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.regressors.values())

    def distance(self, name: str, own: Tensor, example: Tensor) -> Tensor:
        if name in self.regressors:
            own = torch.einsum("nc...,tc->nt...", own, self.regressors[name])
        if own.shape != example.shape:
            raise ConfigError(
                f"Hints.pairs: layer {name!r} gives {tuple(own.shape[1:])}, the teacher's "
                f"{tuple(example.shape[1:])}: channels may differ where both are Linear or Conv2d, "
                "height and width may not"
            )
        return functional.mse_loss(own, example, reduction="sum") / len(own)


def _regressors(settings: Hints, model: nn.Module) -> dict[str, nn.Parameter]:
    """One for each pair whose channels differ."""
    assert isinstance(settings.model, nn.Module)
    generator = torch.Generator().manual_seed(settings.seed)
    others = dict(settings.model.named_modules())
    found = {}
    for name, other in settings.pairs.items():
        own, example = model.get_submodule(name), others[other]
        here, there = _channels(own), _channels(example)
        if here is None or there is None or here == there:
            continue
        start = torch.randn(there, here, generator=generator) / here**0.5
        found[name] = nn.Parameter(start.to(next(model.parameters())))
    return found


def _channels(module: nn.Module) -> int | None:
    """Rows of a layer; None of a module that has none: it is taken to have as many."""
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else None
