"""Whose outputs a network is retrained on: each kind of teacher is a file here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from pleach.compression.kinds import Kinds
from pleach.errors import ConfigError
from pleach.models import applied, layers_of, ours
from pleach.settings import nearest

__all__ = ["TEACHERS", "Follow", "Hooked", "Teacher", "hooked", "teacher"]


class Follow:
    """How a network follows its teacher in a training, besides its outputs."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained for it, beside the network's own."""
        return []

    def before(self, inputs: Tensor) -> Tensor:
        """The inputs of a step as the network is to take them."""
        return inputs

    def penalty(
        self, inputs: Tensor, outputs: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        """What is added to the loss of a step, a scalar; None: nothing.

        Args:
            inputs: of the step, as `before` gave them.
            outputs: what the network gave.
            loss: of outputs for the labels of the step, without what a teacher adds.
        """
        return None

    def end(self) -> None:
        """Take off the network whatever was put on it."""


class Teacher(ABC):
    """What a network is to be like.

    Attributes:
        kind: its name.
        source: the paper that it is from, with its equation, section or table.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""

    @abstractmethod
    def outputs(self, inputs: Tensor) -> Tensor:
        """What it gives for `inputs`, ``(n, outputs)``, as the loss sees the network's.

        Args:
            inputs: float32, as the network takes them: uint8 is value / 256.

        Raises:
            DataError: it gives none for them.
        """

    def follow(self, model: nn.Module) -> Follow | None:
        """How a training of `model` follows more than the teacher's outputs; None: it does not.

        Raises:
            ConfigError: the model has not what it is to follow.
        """
        return None


class Hooked:
    """What some modules of a network gave last.

    Attributes:
        seen: by the name of the module.
    """

    def __init__(self, modules: Mapping[str, nn.Module], function: Mapping[str, Callable]):
        self.seen: dict[str, Tensor] = {}
        self._handles = []
        for name, module in modules.items():

            def look(module: nn.Module, taken: Any, given: Tensor, name=name) -> None:
                self.seen[name] = function[name](given) if name in function else given

            self._handles.append(module.register_forward_hook(ours(look)))

    def end(self) -> None:
        """Look no more."""
        for handle in self._handles:
            handle.remove()


def hooked(
    student: nn.Module, teacher: nn.Module, pairs: Mapping[str, str], where: str
) -> tuple[Hooked, Hooked]:
    """The layers of a network, and the modules of its teacher that they are to be like.

    What a layer gives is seen behind its function; of a teacher's Linear or Conv2d behind the same
    one.

    Args:
        pairs: the qualified name of a layer, and that of the teacher's module.
        where: the name of the setting, for errors.

    Raises:
        ConfigError: there is no such layer or module.
    """
    layers = {layer.name: layer for layer in layers_of(student)}
    modules = dict(teacher.named_modules())
    for names, known, whose in ((pairs, layers, "network"), (pairs.values(), modules, "teacher")):
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"{where}: the {whose} has no layer {name!r}: {nearest(name, known)}"
                )
    functions = {
        name: lambda given, activation=layers[name].activation: applied(activation, given)
        for name in pairs
    }
    behind = {
        other: functions[name]
        for name, other in pairs.items()
        if isinstance(modules[other], nn.Linear | nn.Conv2d)
    }
    return (
        Hooked({name: layers[name].module for name in pairs}, functions),
        Hooked({other: modules[other] for other in pairs.values()}, behind),
    )


TEACHERS = Kinds(Teacher, __name__)
teacher = TEACHERS.register
