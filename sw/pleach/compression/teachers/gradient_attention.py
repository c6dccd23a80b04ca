"""What a network's loss hangs on (Zagoruyko and Komodakis 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_number
from pleach.compression.teachers import Follow, teacher
from pleach.compression.teachers.model import ModelTeacher
from pleach.errors import ConfigError


@teacher("gradient_attention")
@dataclass(frozen=True, kw_only=True)
class GradientAttention(ModelTeacher):
    """The gradient of the loss by the inputs is to be like the teacher's. Added
    to the loss is ``weight / 2`` times the squared distance, the mean over the inputs.

    Use it with small networks: a step takes a gradient of a gradient, some three times as long. It
    needs a teacher that is a module.

    Args:
        weight: ``β``.
    """

    source = "Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 3.2"

    weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_number(self, "weight", 0, 1e9)
        if not isinstance(self.model, nn.Module):
            raise ConfigError(
                "GradientAttention.model must be a module: a function has no gradient"
            )

    def follow(self, model: nn.Module) -> Follow:
        return _Gradients(self)


class _Gradients(Follow):
    def __init__(self, settings: GradientAttention):
        self.settings = settings

    def before(self, inputs: Tensor) -> Tensor:
        return inputs.detach().requires_grad_()

    def penalty(self, inputs: Tensor, outputs: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        teacher = self.settings.model
        assert isinstance(teacher, nn.Module)
        (own,) = torch.autograd.grad(loss(outputs), inputs, create_graph=True)
        others = inputs.detach().to(next(teacher.parameters(), inputs)).requires_grad_()
        modes = [(module, module.training) for module in teacher.modules()]
        teacher.eval()
        try:
            (example,) = torch.autograd.grad(loss(teacher(others).flatten(1)), others)
        finally:
            for module, training in modes:
                module.training = training
        # The loss is a mean over the batch: each input's own gradient is so many times as large.
        apart = len(inputs) * (own - example.to(own)).flatten(1)
        return self.settings.weight / 2 * apart.square().sum(1).mean()
