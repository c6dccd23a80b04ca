"""Families of things that a setting chooses between: each kind is a class in a file of its own."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar, cast

from pleach.errors import ConfigError
from pleach.settings import nearest

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Kinds(Generic[T]):
    """A family: the classes that a setting can name.

    A class joins with the family's decorator, ``@criterion("magnitude")``, and is a frozen
    dataclass whose fields are its settings. It is found when its file lies in the family's folder,
    or when its module has been imported before the settings are made.

    Args:
        base: the class that each of them derives from.
        folder: qualified name of the family's package, whose modules are imported when a kind is
            first asked for.
    """

    def __init__(self, base: type[T], folder: str):
        self._base, self._folder = base, folder
        self._found: dict[str, type[T]] = {}
        self._searched = False

    def register(self, name: str) -> Callable[[C], C]:
        """Decorator that lets a class be called `name` in settings; the class has it as ``kind``.

        Raises:
            ConfigError: another class has that name, or the class is none of the family or no
                dataclass.
        """

        def register(kind: C) -> C:
            if not (isinstance(kind, type) and issubclass(kind, self._base)):
                raise ConfigError(f"{name!r} must derive from {self._base.__name__}: {kind!r}")
            if not is_dataclass(kind) or "__dataclass_params__" not in vars(kind):
                raise ConfigError(
                    f"{kind.__name__} must be a dataclass: put @dataclass(frozen=True, "
                    "kw_only=True) between it and its name's decorator"
                )
            other = self._found.get(name)
            places = [(each.__module__, each.__qualname__) for each in (other, kind) if each]
            if len(set(places)) > 1:  # the same place: a module or a cell that is run again
                raise ConfigError(
                    f"{name!r} is {'.'.join(places[0])} already: give {kind.__name__} another name"
                )
            kind.kind = name
            self._found[name] = kind
            return kind

        return register

    def names(self) -> list[str]:
        """What settings can say."""
        if not self._searched:
            self._searched = True
            for module in pkgutil.iter_modules(sys.modules[self._folder].__path__):
                importlib.import_module(f"{self._folder}.{module.name}")
        return sorted(self._found)

    @property
    def classes(self) -> dict[str, type[T]]:
        """The classes that there are, by name."""
        return {name: self._found[name] for name in self.names()}

    def of(self, value: object, where: str) -> T:
        """What a setting says: a name, a table ``{kind = name, …}`` or the thing itself.

        Args:
            where: name of the setting, for the error.

        Raises:
            ConfigError: no such kind, a setting that it does not have, or what it refuses itself.
        """
        if isinstance(value, self._base):
            return value
        table = dict(value) if isinstance(value, Mapping) else {"kind": value}
        name, names = table.pop("kind", None), self.names()
        if not isinstance(name, str) or name not in names:
            said = value if name is None else name
            near = nearest(name, names) if isinstance(name, str) else ""
            raise ConfigError(
                f"{where} must be one of {', '.join(names)}, not {said!r}"
                + f": {near}" * near.startswith("did")
            )
        kind = self._found[name]
        known = [field.name for field in fields(cast(Any, kind)) if field.init]
        for key in table:
            if key not in known:
                there = f": {nearest(str(key), known)}" if known else ", it has none"
                raise ConfigError(f"{where}: unknown setting {key!r} of {name}{there}")
        try:
            return kind(**table)
        except TypeError as error:  # a setting without a default
            raise ConfigError(f"{where}: {name}: {error}") from error

    def several(self, values: object, where: str) -> tuple[T, ...]:
        """What a setting says that takes a list of them; one alone is a list of one.

        Raises:
            ConfigError: as `of`.
        """
        one = isinstance(values, str | Mapping | self._base)
        listed = [values] if one else values
        if not isinstance(listed, list | tuple):
            raise ConfigError(
                f"{where} must be a list of {', '.join(self.names())}, not {values!r}"
            )
        return tuple(self.of(value, where) for value in listed)
