"""The multiplier of Gowin's LittleBee and Arora chips, its cell instantiated.

Yosys 0.70 (``synth_gowin``) infers the same cell from the generic multiplier, but none of its
registers.
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal

REGISTERS = ("AREG", "BREG", "PIPE_REG", "OUT_REG")


def multiplier(product_of) -> Module:
    """A `Multiplier` of one MULT18X18: input, pipeline and output registers."""
    m = Module()
    extended = [
        Cat(factor[min(bit, len(factor) - 1)] for bit in range(18))
        for factor in (product_of.a, product_of.b)
    ]
    product = Signal(36)
    m.submodules.cell = Instance(
        "MULT18X18",
        **{f"p_{name}": Const(1, 1) for name in REGISTERS},
        i_A=extended[0],
        i_B=extended[1],
        i_SIA=Const(0, 18),
        i_SIB=Const(0, 18),
        i_ASEL=Const(0, 1),
        i_BSEL=Const(0, 1),
        i_ASIGN=Const(1, 1),
        i_BSIGN=Const(1, 1),
        i_CE=Const(1, 1),
        i_CLK=ClockSignal(),
        i_RESET=Const(0, 1),
        o_DOUT=product,
    )
    m.d.comb += product_of.product.eq(product[: len(product_of.product)])
    return m
