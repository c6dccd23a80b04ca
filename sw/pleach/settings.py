"""Settings: frozen dataclasses filled from TOML, with a clear error for every mistake."""

from __future__ import annotations

import difflib
import inspect
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pleach.errors import ConfigError

T = TypeVar("T")
N = TypeVar("N")
#: metadata of a field that its dataclass reads itself, whatever is in the table
READS_ITSELF = {"reads_itself": True}


def nearest(key: str, known: Iterable[str]) -> str:
    """What to say of an unknown key.

    >>> nearest("cluster", ["clusters", "layers"])
    "did you mean 'clusters'?"
    >>> nearest("x", ["clusters", "layers"])
    'there are clusters, layers'
    """
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def from_dict(default: T, table: Mapping[str, Any], where: str = "") -> T:
    """`default`, a dataclass, with the settings in `table`; nested dataclasses are nested tables.

    Raises:
        ConfigError: an unknown setting, or what the dataclass itself refuses.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where or 'settings '}must be a table, not {table!r}")
    own = fields(cast(Any, default))
    known = {f.name: getattr(default, f.name) for f in own}
    whole = {f.name for f in own if f.metadata.get("reads_itself")}
    # What is no field but a short form of others, an InitVar.
    whole |= inspect.signature(type(default)).parameters.keys() - known.keys()
    for key, value in table.items():
        if key in whole:
            known[key] = value
            continue
        if key not in known:
            raise ConfigError(f"unknown setting {where}{key}: {nearest(key, known)}")
        if isinstance(known[key], tuple) and known[key] and is_dataclass(known[key][0]):
            # A list of tables, [[key]], or one alone; each begins with the defaults.
            tables = value if isinstance(value, list) else [value]
            if not tables or not all(isinstance(each, Mapping) for each in tables):
                raise ConfigError(
                    f"{where}{key} must be a table or a list of tables, not {value!r}"
                )
            known[key] = tuple(from_dict(known[key][0], each, f"{where}{key}.") for each in tables)
            continue
        if is_dataclass(known[key]) or isinstance(known[key], Mapping):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}{key} must be a table, not {value!r}")
        elif type(known[key]) is int and type(value) is not int:
            raise ConfigError(f"{where}{key} must be an integer, not {value!r}")
        elif type(known[key]) is bool and type(value) is not bool:
            raise ConfigError(f"{where}{key} must be true or false, not {value!r}")
        known[key] = (
            from_dict(known[key], value, f"{where}{key}.") if is_dataclass(known[key]) else value
        )
    return type(default)(**known)


def by_layer(
    names: Sequence[str], default: N, settings: Mapping[str, N], where: str = ""
) -> dict[str, N]:
    """The setting of each layer, `default` where it has none of its own.

    Args:
        names: of the layers there are.
        where: the name of `settings`, for the error.

    Raises:
        ConfigError: a name in `settings` that is no layer.

    >>> by_layer(["fc1", "fc2"], 0.5, {"fc2": 0.1})
    {'fc1': 0.5, 'fc2': 0.1}
    """
    for name in settings:
        if name not in names:
            place = f"{where}: " * bool(where)
            raise ConfigError(f"{place}no layer is called {name!r}: {nearest(name, names)}")
    return {name: settings.get(name, default) for name in names}


def from_toml(default: T, path: str | Path) -> T:
    """The same from a TOML file.

    Raises:
        ConfigError: no such file, not TOML, or a setting that does not exist or is wrong.
    """
    table = toml_table(path)
    try:
        return from_dict(default, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def toml_table(path: str | Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a TOML file, it is not even text") from error
    # A ValueError is an integer of too many digits, a RecursionError brackets in brackets.
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error


def toml_text(table: Mapping[str, Any]) -> str:
    """A table as a TOML file, nested tables and lists of tables below the settings beside them.

    >>> print(toml_text({"prune": [{"density": 0.1}], "share": {"layers": {"fc 1": 8}}}))
    [[prune]]
    density = 0.1
    <BLANKLINE>
    [share.layers]
    "fc 1" = 8
    """
    return "\n".join(_toml_lines(table, ())).lstrip("\n") + "\n"


def _toml_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    def nests(value: object) -> bool:
        return isinstance(value, Mapping) or (
            isinstance(value, list | tuple)
            and len(value) > 0
            and all(isinstance(each, Mapping) for each in value)
        )

    for key, value in table.items():
        if not nests(value):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in table.items():
        if nests(value):
            inner = (*path, key)
            name = ".".join(map(_toml_key, inner))
            lines = value if not isinstance(value, Mapping) else [value]
            for each in lines:
                plain = isinstance(value, Mapping)
                if not plain or not all(map(nests, each.values())) or not each:
                    yield f"\n[{name}]" if plain else f"\n[[{name}]]"
                yield from _toml_lines(each, inner)


def _toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else json.dumps(key)


def _toml_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(key)} = {_toml_value(each)}" for key, each in value.items())
        return f"{{ {inner} }}"
    # A string of JSON is one of TOML; so are its numbers, true and false.
    return json.dumps(value)
