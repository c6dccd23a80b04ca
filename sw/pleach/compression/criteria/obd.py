"""Optimal brain damage: what the loss loses with a weight, to second order (LeCun 1990)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion
from pleach.compression.observe import BATCH, evaluating
from pleach.models import ours


@criterion("obd")
@dataclass(frozen=True, kw_only=True)
class Damage(Criterion):
    """``h·w²/2`` with the diagonal ``h`` of the loss's Hessian (equations 4 and 5).

    The paper finds ``h`` by a recursion that leaves out what several weights do together. Here it
    is exact for layers with ReLU: such a network is linear in any one weight, so ``h`` is the sum
    of ``(∂o/∂w · s)²`` over the factors ``s`` of the loss's Hessian by the outputs ``o``, one
    backward pass for each output.

    Use it where ``saliency`` is too rough or the optimiser is not Adam: it looks at samples, not at
    the training, and so prunes well at once, without a ramp. It costs as many backward passes as
    there are outputs.

    Args:
        samples: training inputs that it looks at.
    """

    samples: int = 512

    source = "LeCun et al. 1990, equations 4 and 5"
    needs = frozenset({Observe.SAMPLES})

    def __post_init__(self):
        check_integer(self, "samples", 1, 1 << 30)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        found = seen.once(("obd", self.samples), lambda: curvatures(seen, self.samples))
        tensors = layer.tensors
        return {part: h * tensors[part].square() / 2 for part, h in found[layer.name].items()}


def curvatures(seen: Observations, most: int) -> dict[str, dict[str, Tensor]]:
    """The diagonal of the Hessian of the mean loss, by layer and part.

    Args:
        most: samples.
    """
    layers, samples = seen.layers(), seen.samples
    like = next(seen.model.parameters())
    total: dict[str, dict[str, Tensor]] = {
        layer.name: {part: torch.zeros_like(t) for part, t in layer.tensors.items()}
        for layer in layers
    }
    chosen = samples.some(most)
    for numbers in chosen.split(BATCH):
        taken: dict[str, tuple[Tensor, Tensor]] = {}
        handles = []
        for layer in layers:

            def keep(module, inputs, outputs, name=layer.name, taken=taken):
                outputs = outputs if outputs.requires_grad else outputs.clone().requires_grad_()
                taken[name] = inputs[0].detach(), outputs
                return outputs

            handles.append(layer.module.register_forward_hook(ours(keep)))
        try:
            with evaluating(seen.model), torch.enable_grad():
                outputs = seen.model(samples.inputs[numbers].to(like)).flatten(1)
        finally:
            for handle in handles:
                handle.remove()
        given = [taken[layer.name][1] for layer in layers]
        for factor in _factors(outputs.detach(), lambda o, n=numbers: samples.loss(o, n) * len(n)):
            slopes = torch.autograd.grad(outputs, given, factor, retain_graph=True)
            for layer, slope in zip(layers, slopes, strict=True):
                squares = _squares(layer, taken[layer.name][0], slope)
                for part, tensor in squares.items():
                    total[layer.name][part] += tensor / len(chosen)
    return total


def _factors(outputs: Tensor, loss) -> list[Tensor]:
    """Vectors ``s`` of each output, ``(n, outputs)``, whose products ``s·sᵀ`` add up to the Hessian
    of the loss of each sample."""
    with torch.enable_grad():
        outputs = outputs.double().requires_grad_()
        (slope,) = torch.autograd.grad(loss(outputs), outputs, create_graph=True)
        rows = [
            torch.autograd.grad(s.sum(), outputs, retain_graph=True, materialize_grads=True)[0]
            if s.requires_grad
            else torch.zeros_like(outputs)
            for s in slope.unbind(1)
        ]
    values, vectors = torch.linalg.eigh(torch.stack(rows, 1))
    scaled = vectors * values.clamp(min=0).sqrt()[:, None]
    return [s for s in scaled.unbind(2) if bool(s.any())]


def _squares(layer: PrunableLayer, inputs: Tensor, slopes: Tensor) -> dict[str, Tensor]:
    """The squares of the gradients of each sample, added up, by part."""
    slopes = slopes.reshape(len(slopes), layer.groups, -1, slopes[0, 0].numel())
    columns = layer.columns(inputs)  # (n, groups, columns, positions)
    if columns.shape[3] == 1:
        weight = slopes[..., 0].square().permute(1, 2, 0) @ columns[..., 0].square().transpose(0, 1)
    else:
        weight = (slopes @ columns.mT).square().sum(0)
    found = {"weight": weight.reshape(layer.tensors["weight"].shape)}
    if "bias" in layer.tensors:
        found["bias"] = slopes.sum(3).square().sum(0).flatten()
    return found
