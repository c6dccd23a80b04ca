"""Delay lines and hops."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value

#: Attributes of a register that synthesis does not merge with others of the same value.
#: `pleach_hw.build.synth` heeds them where the chip is large.
KEPT = {"pleach_hop": 1}


def delay(m: Module, value: Value, cycles: int, *, name: str, reset_less: bool = True) -> Value:
    """`value` as it was `cycles` cycles ago; a list of all its ages is ``delays(...)``.

    Data need no reset; give ``reset_less=False`` for bits that say whether data are valid.
    """
    return delays(m, value, cycles, name=name, reset_less=reset_less)[-1]


def hop(m: Module, value: Value, *, name: str, reset_less: bool = True) -> Signal:
    """`value` a cycle ago, in a register that synthesis does not merge with others of that value.

    So each processing element has its own, close by, and what goes to all has a cycle for the way.
    """
    register = Signal(value.shape(), name=name, reset_less=reset_less, attrs=KEPT)
    m.d.sync += register.eq(value)
    return register


def delays(
    m: Module, value: Value, cycles: int, *, name: str, reset_less: bool = True
) -> list[Value]:
    """`value` now, one cycle ago, ... and `cycles` cycles ago."""
    ages = [value]
    for age in range(1, cycles + 1):
        register = Signal(value.shape(), name=f"{name}_{age}", reset_less=reset_less)
        m.d.sync += register.eq(ages[-1])
        ages.append(register)
    return ages
