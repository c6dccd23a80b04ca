"""A network of the user's own, built by the Python code that names it."""

from __future__ import annotations

import importlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pleach.errors import ConfigError, ModelError
from pleach.models.checkpoint import load_checkpoint

_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Factory:
    """What builds a network: a function or class in a module, as ``package.module:function``.

    >>> Factory.parse("pleach.models:lenet_300_100").build()[0]
    Linear(in_features=784, out_features=300, bias=True)
    """

    module: str
    function: str

    @classmethod
    def parse(cls, text: str) -> Factory:
        """
        Raises:
            ConfigError: it is no ``package.module:function``.
        """
        if not cls.is_one(text):
            raise ConfigError(f"a network from Python is package.module:function, not {text!r}")
        return cls(*text.split(":"))

    @staticmethod
    def is_one(text: str) -> bool:
        """Whether a text can be read as one."""
        return _NAMED.fullmatch(text) is not None

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"

    def build(self, weights: Path | None = None) -> nn.Module:
        """The network, for inference; the module is looked for in the current folder, too.

        Args:
            weights: checkpoint of all its parameters and buffers, under its own names; None where
                what the function returns is trained.

        Raises:
            ConfigError: there is no such module or function.
            ModelError: the code raises an error, or returns no torch module; or the weights are
                not this network's.
            DataError: as `load_checkpoint`.
        """
        network = self._called()
        if weights is not None:
            try:
                network.load_state_dict(load_checkpoint(weights))
            except RuntimeError as error:
                why = " ".join(str(error).partition(":\n")[2].split())
                raise ModelError(f"{weights} is no checkpoint of {self}: {why}") from error
        return network.eval()

    def _called(self) -> nn.Module:
        here = os.getcwd()
        sys.path.insert(0, here)
        try:
            found: Any = importlib.import_module(self.module)
            for name in self.function.split("."):
                found = getattr(found, name)
            if not isinstance(found, nn.Module):
                found = found()
        except ModuleNotFoundError as error:
            if error.name and f"{self.module}.".startswith(f"{error.name}."):
                raise ConfigError(
                    f"{self}: there is no module {error.name!r}, neither in {here} nor installed"
                ) from error
            raise ModelError(f"{self}: {error}") from error
        except AttributeError as error:
            if error.name == self.function.rpartition(".")[2]:
                raise ConfigError(f"{self}: {error}") from error
            raise ModelError(f"{self} raises AttributeError: {error}") from error
        except Exception as error:  # the user's own code: whatever it raises
            raise ModelError(f"{self} raises {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(here)
        if not isinstance(found, nn.Module):
            raise ModelError(f"{self} gives {type(found).__name__}, must be a torch nn.Module")
        return found
