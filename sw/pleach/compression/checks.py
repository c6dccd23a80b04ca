"""Checks of settings, for every dataclass of them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, cast

from pleach.errors import ConfigError


def check_number(config: object, name: str, low: float, high: float) -> None:
    """Refuse a field that is no number from `low` to `high`.

    Raises:
        ConfigError: names class and field.
    """
    check_value(f"{type(config).__name__}.{name}", getattr(config, name), low, high, float)


def check_integer(config: object, name: str, low: int, high: int) -> None:
    """Refuse a field that is no integer from `low` to `high`.

    Raises:
        ConfigError: names class and field.
    """
    check_value(f"{type(config).__name__}.{name}", getattr(config, name), low, high, int)


def check_value(name: str, value: object, low: float, high: float, kind: type) -> None:
    """Refuse a `value`, called `name`, that is no number from `low` to `high` of this `kind`.

    Raises:
        ConfigError: names it.
    """
    number = isinstance(value, Real if kind is float else Integral) and not isinstance(value, bool)
    if not number or not low <= cast(float, value) <= high:
        what = "a number" if kind is float else "an integer"
        raise ConfigError(f"{name} must be {what} from {low} to {high}, not {value!r}")


def check_choice(config: object, name: str, choices: tuple[str, ...]) -> None:
    """Refuse a field that is none of `choices`.

    Raises:
        ConfigError: names class and field.
    """
    if getattr(config, name) not in choices:
        raise ConfigError(
            f"{type(config).__name__}.{name} must be one of {', '.join(choices)}, "
            f"not {getattr(config, name)!r}"
        )


def check_type(config: object, name: str, kind: type, what: str) -> None:
    """Refuse a field that is not `what`, of the type `kind`.

    Raises:
        ConfigError: names class and field.
    """
    if not isinstance(getattr(config, name), kind):
        raise ConfigError(
            f"{type(config).__name__}.{name} must be {what}, not {getattr(config, name)!r}"
        )


def check_layers(config: Any, low: float, high: float, kind: type) -> None:
    """Refuse a field ``layers`` that is no table of names and numbers; the config keeps a copy.

    Raises:
        ConfigError: names class, field and layer.
    """
    check_type(config, "layers", Mapping, "a table of layer names and values")
    for name, value in config.layers.items():
        if not isinstance(name, str):
            raise ConfigError(f"{type(config).__name__}.layers takes names, not {name!r}")
        check_value(f"{type(config).__name__}.layers[{name!r}]", value, low, high, kind)
    object.__setattr__(config, "layers", dict(config.layers))


def check_names(config: Any, name: str) -> None:
    """Refuse a field that is no list of layer names; the config keeps it as a tuple.

    Raises:
        ConfigError: names class and field.
    """
    names = getattr(config, name)
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise ConfigError(
            f'{type(config).__name__}.{name} must be a list of layer names, like ["fc1"], '
            f"not {names!r}"
        )
    object.__setattr__(config, name, tuple(names))
