"""How each family of chips is synthesised and routed: what a module of this package calls ``FLOW``.

Another family is another file here, and its memories and multipliers in `pleach_hw.primitives`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from pleach.errors import ConfigError
from pleach_hw.build.flows.flow import Flow, Pll

__all__ = ["Flow", "Pll", "flow_of"]


def flow_of(family: str) -> Flow:
    """The flow of a family of chips.

    Raises:
        ConfigError: a family that is not known; names those that are.
    """
    if family not in _flows():
        raise ConfigError(f"chips are of {' or '.join(_flows())}, not of {family!r}")
    return _flows()[family]


@cache
def _flows() -> dict[str, Flow]:
    modules = (
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
    )
    flows = (module.FLOW for module in modules if hasattr(module, "FLOW"))
    return {flow.family: flow for flow in flows}
