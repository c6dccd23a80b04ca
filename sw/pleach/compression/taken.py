"""A user's network, whatever has pruned or parametrized it, as a copy of ours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize, spectral_norm, weight_norm

from pleach.compression.masks import Mask, own_masks_
from pleach.compression.share import Shared
from pleach.errors import PleachWarning
from pleach.models import copied, is_network, layers_of, network_of

# Hooks of torch that compute a weight before each run, by the module that they are defined in.
NORMS = {
    weight_norm.__module__: torch.nn.utils.remove_weight_norm,
    spectral_norm.__module__: torch.nn.utils.remove_spectral_norm,
}


def taken(model: nn.Module, shape: Sequence[int] | None = None) -> nn.Module:
    """A copy in float32 on the CPU, to be trained on; `model` is not changed.

    Of a module that is no chain of torch's modules it is the `Network` that it computes.

    Masks and shared weights of ours stay. Masks of torch.nn.utils.prune become ours: what they have
    pruned stays pruned. weight_norm, spectral_norm and any other parametrization are computed once,
    and the copy has the plain weights that they amount to.

    Args:
        shape: of an input.

    Raises:
        ModelError: a network that is not supported; names the layer.

    Warns:
        PleachWarning: what was left out at the end of the network.

    >>> model = nn.Sequential(nn.Linear(2, 1))
    >>> _ = torch.nn.utils.prune.l1_unstructured(model[0], "weight", amount=1)
    >>> int((taken(model)[0].parametrizations.weight[0].mask == 0).sum())
    1
    """
    student = copied(model)
    for module in student.modules():
        _plain(module)
    if shape is not None and not is_network(student, shape):
        for module in student.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                own_masks_(module)
        network = network_of(student, shape)
        for note in network.notes:
            warnings.warn(note, PleachWarning, stacklevel=2)
        return network.requires_grad_(True)
    layers = layers_of(student)  # refuses what cannot be moved
    student = student.to("cpu", torch.float32).requires_grad_(True)
    for layer in layers:
        own_masks_(layer.module)
    return student


def _plain(module: nn.Module) -> None:
    """Compute what hooks and parametrizations compute, for good, but masks of torch's pruning."""
    for hook in list(module._forward_pre_hooks.values()):
        if type(hook).__module__ in NORMS:
            NORMS[type(hook).__module__](module, hook.name)
    if parametrize.is_parametrized(module):
        for name, functions in list(module.parametrizations.items()):
            if len(functions) > 1 or not isinstance(functions[0], Mask | Shared):
                parametrize.remove_parametrizations(module, name)
                if name in module._buffers:  # what of it was frozen
                    module.register_parameter(name, nn.Parameter(module._buffers.pop(name)))
