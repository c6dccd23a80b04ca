"""What a criterion is shown of a layer, and of the training that goes on meanwhile."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from pleach.compression.masks import over, parts_of
from pleach.errors import ConfigError
from pleach.model import Activation, Convolution
from pleach.models import Layer, graph_of, layers_of, ours

T = TypeVar("T")
#: samples that the network runs on at once
BATCH = 256


class Observe(enum.Enum):
    """What a criterion needs to see of the training."""

    #: the gradients of a step
    GRADIENTS = enum.auto()
    #: what each layer gives in a step
    ACTIVATIONS = enum.auto()
    #: the state of the optimiser
    OPTIMIZER = enum.auto()
    #: samples that it runs the network on itself, whenever it is asked for scores
    SAMPLES = enum.auto()
    #: the class of each of those samples
    CLASSES = enum.auto()


#: what is seen of the steps of a training, so that there have to be some before the first pruning
OF_STEPS = frozenset({Observe.GRADIENTS, Observe.ACTIVATIONS, Observe.OPTIMIZER})


@dataclass(frozen=True, eq=False)
class PrunableLayer:
    """A layer as criteria, granularities and factorisers see it.

    Args:
        name: qualified name.
        module: it has ``weight``, ``(rows, inputs)`` or ``(rows, channels, height, width)``, and
            ``bias``, ``(rows,)`` or None.
        activation: function after it.
        last: whether what it gives is the network's output, or part of a sum or the like that is.
        geometry: how a convolution lies over its map, where the shape of the images is known.
        moments: the mean of ``x xᵀ`` over what the layer takes, for a factoriser that looks at it.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    activation: Activation = Activation.NONE
    last: bool = False
    geometry: Convolution | None = None
    moments: Tensor | None = None

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

    @property
    def positions(self) -> int:
        """Of the map that a row gives: so often each weight is used for an input.

        Raises:
            ConfigError: the shape of the images is not known.
        """
        if isinstance(self.module, nn.Linear):
            return 1
        if self.geometry is None:
            raise ConfigError(
                f"layer {self.name!r} is a convolution of images of unknown shape, so it is not "
                "known how often its weights are used: start the network with nn.Unflatten(1, "
                "shape), or give samples"
            )
        height, width = self.geometry.map
        return height * width

    @property
    def groups(self) -> int:
        """Groups of a convolution, each with rows and channels of its own."""
        return getattr(self.module, "groups", 1)

    @property
    def scale(self) -> Tensor | None:
        """What the batch normalisation after it multiplied each row by, its gamma, before it was
        folded into the weights; None where there was none."""
        return getattr(self.module, "gamma", None)

    def by_row(self, scores: Tensor) -> dict[str, Tensor]:
        """A score for each row as one for each element, by part."""
        return {
            part: scores.reshape(-1, *[1] * (tensor.ndim - 1)).expand_as(tensor)
            for part, tensor in self.tensors.items()
        }

    def columns(self, inputs: Tensor) -> Tensor:
        """What the rows are multiplied by: ``(n, groups, columns, positions)``, the columns in the
        order of a row's weights.

        Args:
            inputs: what the layer takes, ``(n, features)`` or ``(n, channels, height, width)``.
        """
        module = self.module
        if isinstance(module, nn.Linear):
            return inputs.reshape(len(inputs), 1, -1, 1)
        padded = functional.pad(inputs, module._reversed_padding_repeated_twice)
        unfolded = functional.unfold(
            padded, cast(Any, module.kernel_size), cast(Any, module.dilation), 0,
            cast(Any, module.stride),
        )  # fmt: skip
        return unfolded.reshape(len(inputs), module.groups, -1, unfolded.shape[-1])


def prunable(model: nn.Module, shape: Sequence[int] | None = None) -> list[PrunableLayer]:
    """The layers of `model`, in running order.

    Args:
        shape: of an input, where it is known.

    Raises:
        ModelError: as `layers_of`.
    """
    nodes = graph_of(model, shape).nodes
    last, numbers = set(), [len(nodes)]
    while numbers:  # back from the output to the layers behind it
        node = nodes[numbers.pop() - 1]
        if isinstance(node.op, Layer):
            last.add(node.name)
        else:
            numbers += [source for source in node.sources if source]
    return [
        PrunableLayer(
            layer.name, layer.module, layer.activation, layer.name in last, layer.geometry
        )
        for layer in layers_of(model, shape)
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


@dataclass(frozen=True, eq=False)
class Look:
    """Some samples, seen from a layer.

    Args:
        inputs: what it took, ``(n, features)`` or ``(n, channels, height, width)``.
        outputs: what it gave, after its activation function, ``(n, rows)`` or ``(n, rows, height,
            width)``.
        slopes: the gradient of the loss of each sample by `outputs`; none where that was not asked
            for.
        labels: as the loss takes them; None without.
    """

    inputs: Tensor
    outputs: Tensor
    slopes: Tensor
    labels: Tensor | None


@dataclass(frozen=True, eq=False)
class Samples:
    """What a criterion may run the network on.

    Args:
        inputs: float32, as the network takes them.
        loss: of outputs, ``(n, outputs)``, and the numbers of the inputs that they are for; a
            scalar, the mean over them.
        labels: as the loss takes them, int64 where they are classes; None without.
    """

    inputs: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    labels: Tensor | None = None

    def some(self, most: int) -> Tensor:
        """The numbers of `most` of them, or of all, at even distances."""
        count = len(self.inputs)
        return torch.arange(min(most, count)) * count // min(most, count)


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
        samples: what `look` runs the model on.

    Attributes:
        model: the network.
        optimizer: what trains the model; None where that is not known.
        steps: that the means are over.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Observer,
        optimizer: torch.optim.Optimizer | None = None,
        samples: Samples | None = None,
    ):
        self.model = model
        self.optimizer = optimizer
        self.steps = 0
        self._criterion = criterion
        self._samples = samples
        self._layers = self.layers()
        self._found: dict[Hashable, Any] = {}
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

    @property
    def samples(self) -> Samples:
        """What the network can be run on.

        Raises:
            ConfigError: nobody gave any.
        """
        if self._samples is None:
            raise ConfigError(
                "the criterion needs samples: Observations(model, criterion, samples=Samples(…))"
            )
        return self._samples

    def layers(self) -> list[PrunableLayer]:
        """Those of the network as it is now."""
        shape = None if self._samples is None else tuple(self._samples.inputs.shape[1:])
        return prunable(self.model, shape)

    def look(self, layer: PrunableLayer, most: int, *, slopes: bool = False) -> Iterator[Look]:
        """Run the network as it is now on `most` of the samples, in evaluation mode, and show what
        of them the layer takes and gives, a batch at a time.

        Args:
            slopes: whether to find the gradients by what it gives.

        Raises:
            ConfigError: there are no samples.
        """
        samples = self.samples
        like = layer.module.weight
        for chosen in samples.some(most).split(BATCH):
            taken: list[Tensor] = []

            def keep(module, inputs, outputs, taken=taken):
                if slopes:  # a leaf of its own: whatever comes before it needs no gradient
                    outputs = outputs.detach().requires_grad_()
                taken[:] = [inputs[0].detach(), outputs]
                return outputs

            handle = layer.module.register_forward_hook(ours(keep))
            try:
                with evaluating(self.model), torch.set_grad_enabled(slopes):
                    outputs = self.model(samples.inputs[chosen].to(like)).flatten(1)
                    given = taken[1]
                    slope = outputs.new_zeros(0)
                    if slopes:
                        loss = samples.loss(outputs, chosen) * len(chosen)
                        (slope,) = torch.autograd.grad(loss, given)
            finally:
                handle.remove()
            given = given.detach()
            yield Look(
                outputs=given.relu() if layer.activation == Activation.RELU else given,
                inputs=taken[0],
                slopes=slope,
                labels=None if samples.labels is None else samples.labels[chosen].to(like.device),
            )

    def loss(self, most: int) -> float:
        """The mean loss of `most` of the samples, of the network as it is now."""
        samples, total = self.samples, 0.0
        like = next(self.model.parameters())
        chosen = samples.some(most)
        with evaluating(self.model), torch.no_grad():
            for part in chosen.split(BATCH):
                outputs = self.model(samples.inputs[part].to(like)).flatten(1)
                total += float(samples.loss(outputs, part)) * len(part)
        return total / len(chosen)

    def uses(self, layer: PrunableLayer, most: int = BATCH) -> float:
        """How often a weight of `layer` meets an activation that is not zero for one input, the
        mean over its columns; without samples, as if none was zero."""
        if self._samples is None:
            return float(layer.positions)
        total, count = 0.0, 0
        for batch in self.look(layer, most):
            columns = layer.columns(batch.inputs)
            total += float(columns.count_nonzero()) / columns[0, :, :, 0].numel()
            count += len(columns)
        return total / count

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once for each pruning: for what several layers, or scores and
        survivors, have in common."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]

    def mean(self, layer: PrunableLayer) -> dict[str, Tensor]:
        """What ``observe`` gave for `layer`, the mean over the steps; nothing before the first."""
        return {key: total / self.steps for key, total in self._sums.get(layer.name, {}).items()}

    def forget(self) -> None:
        """Begin anew, as after a pruning."""
        self.steps = 0
        self._sums.clear()

    def renew(self) -> None:
        """Forget what `once` has found: the network has changed."""
        self._found.clear()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have a network in evaluation mode, and each of its modules back in its own."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
