"""What a search looks for, and the settings that it tries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pleach.compression import CompressConfig, PruneConfig
from pleach.compression.checks import check_choice, check_integer, check_number, check_value
from pleach.errors import ConfigError
from pleach.numbers import PES_MAX
from pleach.settings import READS_ITSELF, from_dict

#: figures of a trial; each but the one that is looked for can be bounded
FIGURES = ("bytes", "cycles", "error")
#: densities and clusters that are tried where no recipe says better
DENSITIES, CLUSTERS, CLUSTERS_OF_TARGETS = (0.01, 0.5), (4, 64), (16, 256)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """A recipe's table ``[search]``.

    Args:
        minimise: ``bytes`` of the file, ``cycles`` of an input, or ``error`` of the inputs held
            out, in the metric's unit.
        most_error, most_bytes, most_cycles: what the others may be; of None no bound.
        trials: networks that are compressed.
        together: trials that are under way before the first of them counts for the next. The
            study's result depends on it, not on how many workers there are.
        hold_out: training inputs that are kept back: they choose. By default one in six.
        pes: of the engine whose cycles are counted, as large as the network needs it.
        inputs: of those held out, whose cycles are counted.
        seed: of what is tried.
        settings: what is tried: a setting's name in the recipe, ``prune.density``, of several
            stages with its number, ``prune.2.density``, and a list of choices or a table with
            ``low`` and ``high``, and perhaps ``log = true``.
    """

    minimise: str = "bytes"
    most_error: float | None = None
    most_bytes: float | None = None
    most_cycles: float | None = None
    trials: int = 40
    together: int = 4
    hold_out: int | None = None
    pes: int = 16
    inputs: int = 10
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict, metadata=READS_ITSELF)

    def __post_init__(self):
        check_choice(self, "minimise", FIGURES)
        for name in FIGURES:
            most = getattr(self, f"most_{name}")
            if most is not None:
                check_number(self, f"most_{name}", 0, 1e15)
                if name == self.minimise:
                    raise ConfigError(
                        f"SearchConfig.most_{name} bounds what is made as small as it can be: "
                        "bound another figure"
                    )
        check_integer(self, "trials", 1, 1_000_000)
        check_integer(self, "together", 1, 10_000)
        if self.hold_out is not None:
            check_integer(self, "hold_out", 1, 1 << 40)
        check_integer(self, "pes", 1, PES_MAX)
        check_integer(self, "inputs", 1, 100_000)
        check_integer(self, "seed", 0, (1 << 63) - 1)
        if not isinstance(self.settings, Mapping):
            raise ConfigError(f"SearchConfig.settings must be a table, not {self.settings!r}")

    @property
    def bounds(self) -> dict[str, float]:
        """What figures may be at most, by their names."""
        most = {name: getattr(self, f"most_{name}") for name in FIGURES}
        return {name: value for name, value in most.items() if value is not None}

    @property
    def counts(self) -> bool:
        """Whether cycles are counted."""
        return "cycles" in {self.minimise, *self.bounds}


@dataclass(frozen=True)
class Range:
    """A setting's values from `low` to `high`, whole numbers where both are."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that stand for all in checks."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + ", by factors" * self.log


@dataclass(frozen=True)
class Choice:
    """A setting's values, one by one."""

    values: tuple[Any, ...]

    @property
    def named(self) -> dict[Any, Any]:
        """The values by what a journal can hold: numbers, words, and tables as JSON."""
        return {json.dumps(v) if isinstance(v, dict | list) else v: v for v in self.values}

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that stand for all in checks."""
        return self.values

    def __str__(self) -> str:
        return ", ".join(str(name) for name in self.named)


Axis = Range | Choice


def space(config: SearchConfig, base: CompressConfig, *, classes: bool = True) -> dict[str, Axis]:
    """The settings that are tried, by their names; without any in `config` density, clusters and,
    where `base` prunes as the default does, what is pruned first.

    Raises:
        ConfigError: one that does not exist, or values that it refuses.

    >>> found = space(SearchConfig(), CompressConfig().with_(epochs=12))
    >>> str(found["prune.density"]), str(found["prune.scope"])
    ('0.01 to 0.5, by factors', 'layer, network')
    """
    found = dict(_flat(config.settings)) or _default(base, classes)
    for name, axis in found.items():
        for value in axis.samples:
            _check(base, found, name, value)
    return found


def _check(base: CompressConfig, found: dict[str, Axis], name: str, value: object) -> None:
    """Refuse a value that goes with nothing: not alone, nor with any value of another setting."""
    try:
        applied(base, {name: value})
        return
    except ConfigError as error:
        refused = error
    for other, axis in found.items():
        for beside in axis.samples if other != name else ():
            try:
                applied(base, {name: value, other: beside})
                return
            except ConfigError:
                pass
    raise ConfigError(f"search.settings: {name} = {value!r}: {refused}") from refused


def _default(base: CompressConfig, classes: bool) -> dict[str, Axis]:
    least, most = CLUSTERS if classes else CLUSTERS_OF_TARGETS
    axes: dict[str, Axis] = {"share.clusters": Range(least, most, log=True)}
    plain = PruneConfig()
    if [replace(s, ramp=plain.ramp, train=plain.train) for s in base.prune] == [plain]:
        methods = {"criterion": ("magnitude", "saliency"), "scope": ("layer", "network")}
        axes |= {f"prune.{name}": Choice(values) for name, values in methods.items()}
        return {"prune.density": Range(*DENSITIES, log=True)} | axes
    if not base.prune:
        return axes
    last = f"{len(base.prune)}." * (len(base.prune) > 1)
    density = base.prune[-1].density
    around = Range(density / 4, min(1.0, 4 * density), log=True)
    return {f"prune.{last}density": around} | axes


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Axis]]:
    for key, value in table.items():
        name = f"{path}{key}"
        if isinstance(value, list | tuple):
            if not value:
                raise ConfigError(f"search.settings: {name} has no choices")
            axis = Choice(tuple(value))
            if len(axis.named) != len(value):
                raise ConfigError(f"search.settings: {name} has a choice twice")
            yield name, axis
        elif isinstance(value, Mapping) and {"low", "high"} & value.keys():
            yield name, _range(name, value)
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            raise ConfigError(
                f"search.settings: {name} must be a list of choices or a table with low and high, "
                f"not {value!r}: what stays as it is is a setting of the recipe"
            )


def _range(name: str, table: Mapping[str, Any]) -> Range:
    for key in table:
        if key not in ("low", "high", "log"):
            raise ConfigError(f"search.settings: {name} has low, high and log, not {key!r}")
    where = f"search.settings: {name}"
    for key in ("low", "high"):
        check_value(f"{where}.{key}", table.get(key), -1e15, 1e15, float)
    found = Range(**table)
    if not isinstance(found.log, bool):
        raise ConfigError(f"{where}.log must be true or false, not {found.log!r}")
    if found.low >= found.high or (found.log and found.low <= 0):
        more = " and more than 0" * found.log
        raise ConfigError(f"{where}: low must be less than high{more}, not {found.low:g}")
    return found


def applied(base: CompressConfig, values: Mapping[str, Any]) -> CompressConfig:
    """`base` with these settings, by their names as `SearchConfig.settings` has them.

    Raises:
        ConfigError: one that does not exist, is out of range, or does nothing beside the others.

    >>> applied(CompressConfig(), {"prune.density": 0.1, "share.clusters": 8}).prune[0].density
    0.1
    """
    stages: dict[int, dict[str, Any]] = {}
    rest: dict[str, Any] = {}
    for name, value in values.items():
        first, *parts = name.split(".")
        table = rest
        if first == "prune" and parts:
            number = int(parts.pop(0)) if parts[0].isdecimal() else None
            table = stages.setdefault(_stage(base, name, number), {})
        else:
            parts = [first, *parts]
        if not parts:
            raise ConfigError(f"{name} is a whole stage: name a setting of it")
        for part in parts[:-1]:
            table = table.setdefault(part, {})
        table[parts[-1]] = value
    pruned = list(base.prune)
    for number, table in stages.items():
        stage = pruned[number]
        if "density" in table and (stage.layers or stage.quality is not None):
            by = "layers" if stage.layers else "quality"
            raise ConfigError(f"prune.density does nothing beside prune.{by}: leave out one")
        pruned[number] = _over(stage, table, "prune.")
    if "clusters" in rest.get("share", {}) and base.share.layers:
        raise ConfigError("share.clusters does nothing beside share.layers: leave out one")
    return replace(_over(base, rest, ""), prune=tuple(pruned))


def _stage(base: CompressConfig, name: str, number: int | None) -> int:
    count = len(base.prune)
    if number is None and count == 1:
        return 0
    if number is None or not 1 <= number <= count:
        known = ", ".join(f"prune.{n + 1}" for n in range(count)) or "none"
        raise ConfigError(f"{name}: the recipe has the stages {known}: name one of them")
    return number - 1


def _over(config: Any, table: dict[str, Any], where: str) -> Any:
    """`config` with a nested table over it; of a table by layer the other layers stay."""
    table = dict(table)
    for each in fields(config):
        before, new = getattr(config, each.name), table.get(each.name)
        if isinstance(before, Mapping) and isinstance(new, Mapping):
            table[each.name] = {**before, **new}
    if "share" in table and isinstance(config, CompressConfig):
        share = _over(config.share, table.pop("share"), "share.")
        config = replace(config, share=share)
    return from_dict(config, table, where)


def recipe(base: CompressConfig) -> dict[str, Any]:
    """A configuration as the tables that `CompressConfig.from_dict` reads, without what is at its
    default.

    >>> recipe(applied(CompressConfig(), {"prune.density": 0.1}))
    {'prune': [{'density': 0.1}]}
    """
    table = _table(base, CompressConfig())
    if "prune" in table:
        table["prune"] = [_table(stage, PruneConfig()) for stage in base.prune]
    return table


def _table(config: Any, default: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not the default's, as TOML has them."""
    found = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if default is None or value != getattr(default, each.name):
            found[each.name] = _value(value, None if default is None else default, each.name)
    return {name: value for name, value in found.items() if value is not None}


def _value(value: Any, default: Any, name: str) -> Any:
    if isinstance(value, tuple | list):
        return [_value(each, None, "") for each in value]
    if isinstance(value, Mapping):
        return {key: _value(each, None, "") for key, each in value.items()}
    if kind := getattr(value, "kind", None):
        return {"kind": kind} | _table(value, None)
    if hasattr(value, "__dataclass_fields__"):
        return _table(value, None if default is None else getattr(default, name))
    return value
