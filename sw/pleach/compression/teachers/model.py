"""A module of any kind, or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pleach.compression.teachers import Teacher, teacher
from pleach.errors import DataError

BATCH = 4096


@teacher("model")
@dataclass(frozen=True, kw_only=True)
class ModelTeacher(Teacher):
    """A network that need not be one that can be compressed; it runs in evaluation mode.

    Use it where a larger network knows the task better than the one that is compressed; by
    default that one is its own teacher.

    Args:
        model: a module, which is left as it is, or a function of a batch of inputs that gives a
            tensor or an array.
    """

    source = "Hinton et al. 2015, arXiv:1503.02531, section 2"

    model: nn.Module | Callable[[Tensor], Tensor | np.ndarray]

    def __post_init__(self):
        if not callable(self.model):
            raise DataError(f"a teacher is a module or a function, not {type(self.model).__name__}")

    def outputs(self, inputs: Tensor) -> Tensor:
        module = self.model if isinstance(self.model, nn.Module) else None
        first = next(iter(()) if module is None else module.parameters(), inputs)
        modes = [] if module is None else [(m, m.training) for m in module.modules()]
        found = []
        try:
            if module is not None:
                module.eval()
            with torch.no_grad():
                for batch in inputs.split(BATCH):
                    given = torch.as_tensor(self.model(batch.to(first)))
                    if not given.ndim or len(given) != len(batch):
                        raise DataError(
                            f"the teacher gives {tuple(given.shape)} for {len(batch)} inputs"
                        )
                    found.append(given.flatten(1).to("cpu", torch.float32))
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"the teacher does not take inputs of the shape {tuple(inputs.shape)}: {error}"
            ) from error
        finally:
            for part, training in modes:
                part.training = training
        return torch.cat(found)
