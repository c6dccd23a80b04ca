"""What a step of the compression is, what it is asked before, and what it works on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pleach.compression.config import TrainConfig
from pleach.compression.observe import Samples
from pleach.compression.teachers import Teacher
from pleach.compression.train import Loss, loss_of, train
from pleach.errors import ConfigError
from pleach.models import Layer, layers_of
from pleach.settings import by_layer

# stage, epoch (from 1), epochs, mean loss
StageProgress = Callable[[str, int, int, float], None]


@dataclass
class Plan:
    """The network as the steps before a step will leave it, as far as that is known beforehand.

    Args:
        module: the network, or a copy on which steps that change its layers have done so.
        shape: of an input.
        shared: whether the weights will be shared.
        pruned: whether some of them will be masked.
        classes: whether the labels are classes.
    """

    module: nn.Module
    shape: tuple[int, ...]
    shared: bool = False
    pruned: bool = False
    classes: bool = False

    @property
    def layers(self) -> list[Layer]:
        """Its layers, in running order."""
        return layers_of(self.module, self.shape)

    @property
    def names(self) -> list[str]:
        """Their qualified names."""
        return [layer.name for layer in self.layers]

    def check_train(self, settings: TrainConfig, where: str) -> None:
        """Refuse settings of a training that do not go with the network.

        Args:
            where: the name of `settings`, for the error.

        Raises:
            ConfigError: ``freeze`` has a name that is no layer, or leaves none.
        """
        frozen = dict.fromkeys(settings.freeze, 0)
        by_layer(self.names, 0, frozen, f"{where}.freeze")
        if len(frozen) == len(self.names):
            raise ConfigError(f"{where}.freeze names every layer: nothing is left to train")
        for each in settings.penalties:
            each.check(self.module)
        if settings.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"{where}.device is {settings.device}: there is no CUDA device here")


@dataclass
class Context:
    """What a step works on.

    Args:
        module: the network, which steps change in place.
        inputs: float32, as it takes them.
        labels: their classes or targets, as the loss takes them; None without.
        loss: by its name, or a function; None is the one for the labels.
        teacher: outputs that it is to be like, as the loss sees them.
        unscale: factors of the outputs, for the loss; None of 1.
        seed: of everything random.
        progress: called after each epoch.
        guide: who gave these outputs, where that is not the network as it was.
    """

    module: nn.Module
    inputs: Tensor
    labels: np.ndarray | None
    loss: Loss | None
    teacher: Tensor
    unscale: Tensor | None
    seed: int
    progress: StageProgress | None = None
    guide: Teacher | None = None

    @property
    def samples(self) -> Samples:
        """What a criterion may run the network on: the training inputs. Without labels their loss
        is the distance to the teacher's outputs."""
        labels = None if self.labels is None else torch.from_numpy(self.labels)

        def loss(outputs: Tensor, chosen: Tensor) -> Tensor:
            return loss_of(
                outputs,
                None if labels is None else labels[chosen],
                self.teacher[chosen],
                self.loss,
                self.unscale,
            )

        return Samples(self.inputs, loss, labels)

    def train(
        self,
        stage: str,
        settings: TrainConfig,
        before_step: Callable[[float, torch.optim.Optimizer], None] | None = None,
    ) -> None:
        """Train the network for a step, called `stage` in the progress.

        Raises:
            TrainingError: it diverges.
        """
        progress = self.progress
        train(
            self.module,
            self.inputs,
            self.labels,
            settings,
            seed=self.seed,
            teacher=self.teacher,
            loss=self.loss,
            unscale=self.unscale,
            before_step=before_step,
            follow=None if self.guide is None else self.guide.follow,
            progress=None if progress is None else partial(progress, stage),
        )


class Step(ABC):
    """A step of the compression. Derive a frozen dataclass from it and give `compress` a list."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the stage that it ends in, for the reports and errors; a field or a class attribute
        ``name`` will do."""

    def check(self, plan: Plan) -> None:  # noqa: B027 - need not be there
        """Refuse, before any step runs, whatever this one would refuse; and change `plan` as it
        will change the network.

        Raises:
            ConfigError: settings that do not go with the network, or with the steps before.
            ModelError: a layer that it does not take.
        """

    @abstractmethod
    def run(self, context: Context) -> None:
        """Change ``context.module``.

        Raises:
            PleachError: what could not be known before; the network is handed out as it stands.
        """


def checked(steps: Sequence[Step]) -> tuple[Step, ...]:
    """A list of steps as a user gives it.

    Raises:
        ConfigError: it is no list, or holds something else.
    """
    if not isinstance(steps, list | tuple) or not all(isinstance(step, Step) for step in steps):
        raise ConfigError(f"steps must be a list of pleach.compression.Step, not {steps!r:.80}")
    return tuple(steps)
