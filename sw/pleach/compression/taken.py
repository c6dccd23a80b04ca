"""A user's network, whatever has pruned or parametrized it, as a copy of ours."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, spectral_norm, weight_norm

from pleach.compression.prune import Mask, mask_
from pleach.compression.share import Shared
from pleach.errors import ModelError
from pleach.models import layers_of

# Hooks of torch that compute a weight before each run, by the module that they are defined in.
NORMS = {
    weight_norm.__module__: torch.nn.utils.remove_weight_norm,
    spectral_norm.__module__: torch.nn.utils.remove_spectral_norm,
}


def taken(model: nn.Module) -> nn.Module:
    """A copy in float32 on the CPU, to be trained on; `model` is not changed.

    Masks and shared weights of ours stay. Masks of torch.nn.utils.prune become ours: what they have
    pruned stays pruned. weight_norm, spectral_norm and any other parametrization are computed once,
    and the copy has the plain weights that they amount to.

    Raises:
        ModelError: a network that is not supported; names the layer.

    >>> model = nn.Sequential(nn.Linear(2, 1))
    >>> _ = prune.l1_unstructured(model[0], "weight", amount=1)
    >>> int((taken(model)[0].parametrizations.weight[0].mask == 0).sum())
    1
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a network is a torch module, not {type(model).__name__}")
    # What hooks compute is no leaf of autograd, which deepcopy refuses: a stand-in is copied.
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    try:
        student = copy.deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"the network cannot be copied: {error}") from error
    masks = []
    for module in student.modules():
        if parametrize.is_parametrized(module):
            # deepcopy leaves both with one class, and the parametrizations are its properties.
            kind = type(module)
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        masks += [(module, part, mask) for part, mask in _plain(module).items()]
    layers_of(student)  # refuses what cannot be moved
    student = student.to("cpu", torch.float32).requires_grad_(True)
    for module, part, mask in masks:
        mask_(module, part).mask.copy_(mask)
    return student


def _plain(module: nn.Module) -> dict[str, Tensor]:
    """Compute what hooks and parametrizations compute, for good; the masks of torch's pruning."""
    masks = {}
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            masks[name] = getattr(module, f"{name}_mask").detach().clone()
            prune.remove(module, name)
        elif type(hook).__module__ in NORMS:
            NORMS[type(hook).__module__](module, hook.name)
    if parametrize.is_parametrized(module):
        for name, functions in list(module.parametrizations.items()):
            if len(functions) > 1 or not isinstance(functions[0], Mask | Shared):
                parametrize.remove_parametrizations(module, name)
                if name in module._buffers:  # what of it was frozen
                    module.register_parameter(name, nn.Parameter(module._buffers.pop(name)))
    return masks
