"""What a criterion is shown of a layer, and of the training that goes on meanwhile."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from pleach.compression.masks import over, parts_of
from pleach.model import Activation
from pleach.models import Layer, graph_of, layers_of, ours


class Observe(enum.Enum):
    """What a criterion needs to see of the training."""

    #: the gradients of a step
    GRADIENTS = enum.auto()
    #: what each layer gives in a step
    ACTIVATIONS = enum.auto()
    #: the state of the optimiser
    OPTIMIZER = enum.auto()


@dataclass(frozen=True, eq=False)
class PrunableLayer:
    """A layer as criteria, granularities and factorisers see it.

    Args:
        name: qualified name.
        module: it has ``weight``, ``(rows, inputs)`` or ``(rows, channels, height, width)``, and
            ``bias``, ``(rows,)`` or None.
        activation: function after it.
        last: whether what it gives is the network's output, or part of a sum or the like that is.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    activation: Activation = Activation.NONE
    last: bool = False

    @property
    def tensors(self) -> dict[str, Tensor]:
        """``weight`` and, where there is one, ``bias``: what training moves, behind any mask."""
        found = {}
        for part in parts_of(self.module):
            if parametrize.is_parametrized(self.module, part):
                found[part] = over(self.module, part).original
            else:
                found[part] = getattr(self.module, part)
        return found


def prunable(model: nn.Module) -> list[PrunableLayer]:
    """The layers of `model`, in running order.

    Raises:
        ModelError: as `layers_of`.
    """
    nodes = graph_of(model).nodes
    last, numbers = set(), [len(nodes)]
    while numbers:  # back from the output to the layers behind it
        node = nodes[numbers.pop() - 1]
        if isinstance(node.op, Layer):
            last.add(node.name)
        else:
            numbers += [source for source in node.sources if source]
    return [
        PrunableLayer(layer.name, layer.module, layer.activation, layer.name in last)
        for layer in layers_of(model)
    ]


@dataclass(frozen=True, eq=False)
class Batch:
    """One step of training, seen from a layer.

    Args:
        gradients: of the loss, by part, where they were asked for.
        outputs: what the layer gave, after its activation function, ``(inputs, rows)`` or
            ``(inputs, rows, height, width)``; None where they were not asked for.
    """

    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: Tensor | None = None


class Observer(Protocol):
    """Whoever says what is looked at: a `pleach.compression.criteria.Criterion`."""

    needs: ClassVar[frozenset[Observe]]

    def observe(self, layer: PrunableLayer, batch: Batch) -> dict[str, Tensor]: ...


class Observations:
    """What a criterion has seen since the last pruning.

    A context: inside it the layers' outputs are looked at, if the criterion needs them. In a loop
    of one's own call `step` after each ``backward`` and give the object to `prune_`.

    Args:
        model: it is trained meanwhile.
        criterion: it says what it needs, and what of each step is averaged.

    Attributes:
        optimizer: what trains the model; None where that is not known.
        steps: that the means are over.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Observer,
        optimizer: torch.optim.Optimizer | None = None,
    ):
        self.optimizer = optimizer
        self.steps = 0
        self._criterion = criterion
        self._layers = prunable(model)
        self._sums: dict[str, dict[str, Tensor]] = {}
        self._outputs: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Observations:
        for layer in self._layers if Observe.ACTIVATIONS in self._criterion.needs else ():

            def look(module, inputs, outputs, layer=layer) -> None:
                if module.training:
                    outputs = outputs.detach()
                    relu = layer.activation == Activation.RELU
                    self._outputs[layer.name] = outputs.relu() if relu else outputs

            self._handles.append(layer.module.register_forward_hook(ours(look)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def step(self) -> None:
        """Take in the step whose gradients the parameters have now; none before the first."""
        wanted = self._criterion.needs
        if not wanted & {Observe.GRADIENTS, Observe.ACTIVATIONS}:
            return
        seen = False
        with torch.no_grad():
            for layer in self._layers:
                tensors = layer.tensors if Observe.GRADIENTS in wanted else {}
                gradients = {p: t.grad for p, t in tensors.items() if t.grad is not None}
                outputs = self._outputs.get(layer.name)
                if not gradients and outputs is None:
                    continue
                seen = True
                sums = self._sums.setdefault(layer.name, {})
                for key, value in self._criterion.observe(layer, Batch(gradients, outputs)).items():
                    sums[key] = sums[key] + value if key in sums else value
        self.steps += seen

    def mean(self, layer: PrunableLayer) -> dict[str, Tensor]:
        """What ``observe`` gave for `layer`, the mean over the steps; nothing before the first."""
        return {key: total / self.steps for key, total in self._sums.get(layer.name, {}).items()}

    def forget(self) -> None:
        """Begin anew, as after a pruning."""
        self.steps = 0
        self._sums.clear()
