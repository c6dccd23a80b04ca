"""Where a network looks (Zagoruyko and Komodakis 2017)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from pleach.compression.checks import check_number
from pleach.compression.teachers import Follow, hooked, teacher
from pleach.compression.teachers.model import ModelTeacher
from pleach.errors import ConfigError


@teacher("attention")
@dataclass(frozen=True, kw_only=True)
class AttentionTransfer(ModelTeacher):
    """Attention maps of some layers are to be like the teacher's: at each pixel the sum over the
    channels of ``|a|^power``, the whole map of length 1. Added to the loss is
    ``weight / 2`` times the mean of the squared distance, for each pair of layers.

    Use it where the teacher is of the same family and its maps have the same sizes, together with
    its outputs.

    Args:
        pairs: a layer's qualified name, and that of the teacher's module whose map is its example.
        power: ``p``.
        weight: ``β``; the paper has 1000 over the pixels and inputs of a batch.
    """

    source = "Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 3.1"

    pairs: Mapping[str, str] = field(default_factory=dict)
    power: float = 2.0
    weight: float = 10.0

    def __post_init__(self):
        super().__post_init__()
        check_pairs(self)
        check_number(self, "power", 1, 16)
        check_number(self, "weight", 0, 1e9)

    def follow(self, model: nn.Module) -> Follow:
        return _Maps(self, model)


def check_pairs(settings) -> None:
    """Refuse pairs that name no layer, or a teacher that has no layers.

    Raises:
        ConfigError: says what.
    """
    where = type(settings).__name__
    if not isinstance(settings.pairs, Mapping) or not settings.pairs:
        raise ConfigError(
            f"{where}.pairs must be a table of layers and the teacher's, not {settings.pairs!r}"
        )
    if not isinstance(settings.model, nn.Module):
        raise ConfigError(f"{where}.model must be a module: a function has no layers")
    object.__setattr__(settings, "pairs", dict(settings.pairs))


def attention(maps: Tensor, power: float = 2.0) -> Tensor:
    """``(n, channels, height, width)`` as attention maps of length 1, ``(n, height · width)``.

    >>> attention(torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]]), 1.0)
    tensor([[0.8321, 0.5547]])
    """
    return functional.normalize(maps.abs().pow(power).sum(1).flatten(1), dim=1)


class Pairs(Follow, ABC):
    """Layers beside the teacher's, which runs on the inputs of each step.

    Args:
        settings: with ``model`` and ``pairs``.
        model: that follows.
    """

    def __init__(self, settings, model: nn.Module):
        self.settings, self.teacher = settings, settings.model
        where = f"{type(settings).__name__}.pairs"
        self.own, self.others = hooked(model, self.teacher, settings.pairs, where)

    def penalty(self, inputs: Tensor, outputs: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        modes = [(module, module.training) for module in self.teacher.modules()]
        self.teacher.eval()
        try:
            with torch.no_grad():
                self.teacher(inputs.to(next(self.teacher.parameters(), inputs)))
        finally:
            for module, training in modes:
                module.training = training
        total = outputs.new_zeros(())
        for name, other in self.settings.pairs.items():
            own, example = self.own.seen[name], self.others.seen[other].to(outputs)
            total = total + self.distance(name, own, example)
        return self.settings.weight / 2 * total

    @abstractmethod
    def distance(self, name: str, own: Tensor, example: Tensor) -> Tensor:
        """Between what a layer and the teacher's gave."""

    def end(self) -> None:
        self.own.end()
        self.others.end()


class _Maps(Pairs):
    def distance(self, name: str, own: Tensor, example: Tensor) -> Tensor:
        if own.ndim != 4 or example.ndim != 4 or own.shape[2:] != example.shape[2:]:
            raise ConfigError(
                f"AttentionTransfer.pairs: layer {name!r} gives {tuple(own.shape[1:])}, the "
                f"teacher's {tuple(example.shape[1:])}: maps of one height and width"
            )
        power = self.settings.power
        return (attention(own, power) - attention(example, power)).square().sum(1).mean()
