"""Whose outputs a network is retrained on: each kind of teacher is a file here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from pleach.compression.kinds import Kinds

__all__ = ["TEACHERS", "Teacher", "teacher"]


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


TEACHERS = Kinds(Teacher, __name__)
teacher = TEACHERS.register
