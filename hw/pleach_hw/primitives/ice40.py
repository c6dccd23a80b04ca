"""The multiplier of the iCE40, its cell instantiated with all its registers.

Yosys 0.70 (``synth_ice40 -dsp``) makes the constant 0 of the generic one and its three registers.
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal

REGISTERS = (
    "A_REG",
    "B_REG",
    "TOP_8x8_MULT_REG",
    "BOT_8x8_MULT_REG",
    "PIPELINE_16x16_MULT_REG1",
    "PIPELINE_16x16_MULT_REG2",
)


def multiplier(product_of) -> Module:
    """A `Multiplier` of one SB_MAC16: input, pipeline and output registers."""
    m = Module()
    extended = [
        Cat(factor[min(bit, len(factor) - 1)] for bit in range(16))
        for factor in (product_of.a, product_of.b)
    ]
    product = Signal(32)
    m.submodules.cell = Instance(
        "SB_MAC16",
        **{f"p_{name}": Const(1, 1) for name in REGISTERS},
        p_A_SIGNED=Const(1, 1),
        p_B_SIGNED=Const(1, 1),
        p_TOPOUTPUT_SELECT=Const(3, 2),
        p_BOTOUTPUT_SELECT=Const(3, 2),
        i_CLK=ClockSignal(),
        i_CE=Const(1, 1),
        i_A=extended[0],
        i_B=extended[1],
        o_O=product,
    )
    m.d.comb += product_of.product.eq(product[: len(product_of.product)])
    return m
