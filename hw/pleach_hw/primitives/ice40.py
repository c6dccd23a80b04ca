"""The multiplier and the single-port RAM of the iCE40, their cells instantiated.

Yosys 0.70 (``synth_ice40 -dsp``) makes the constant 0 of the generic multiplier and its three
registers.
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value

from pleach_hw.primitives.delay import delay

#: Words by width of an SB_RAM40_4K, the block RAM.
RAM_SHAPES = ((256, 16), (512, 8), (1024, 4), (2048, 2))
#: Words of one at its 16 bits; words and bits of an SB_SPRAM256KA.
BLOCK_RAM_WORDS = 256
SINGLE_PORT_WORDS, SINGLE_PORT_BITS = 16384, 16

REGISTERS = (
    "A_REG",
    "B_REG",
    "TOP_8x8_MULT_REG",
    "BOT_8x8_MULT_REG",
    "PIPELINE_16x16_MULT_REG1",
    "PIPELINE_16x16_MULT_REG2",
)


def block_rams(depth: int, width: int) -> int:
    """Block RAMs that hold `depth` words of `width` bits.

    >>> block_rams(256, 16), block_rams(8, 33), block_rams(512, 7)
    (1, 3, 1)
    """
    return min(-(-depth // words) * -(-width // bits) for words, bits in RAM_SHAPES)


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


def single_port_fits(platform, depth: int) -> bool:
    """Whether a memory of `depth` words is for a single-port RAM: too deep for a block RAM, on a
    chip that has them."""
    there = getattr(platform, "device", "").startswith("iCE40UP")
    return there and BLOCK_RAM_WORDS < depth <= SINGLE_PORT_WORDS


def single_port_ram(ram) -> Module:
    """A `BlockRam` with `apart` of SB_SPRAM256KA cells, registers behind them for latency 2."""
    m = Module()
    address = Mux(ram.write_en, ram.write_addr, ram.read_addr)
    written, read = Value.cast(ram.write_data), Value.cast(ram.read_data)
    for low in range(0, len(read), SINGLE_PORT_BITS):
        data_out = Signal(SINGLE_PORT_BITS, name=f"data_out_{low}")
        m.submodules[f"ram_{low}"] = Instance(
            "SB_SPRAM256KA",
            i_CLOCK=ClockSignal(),
            i_ADDRESS=Cat(address, Const(0, 14 - len(address))),
            i_DATAIN=Cat(written[low : low + SINGLE_PORT_BITS], Const(0, SINGLE_PORT_BITS))[:16],
            i_MASKWREN=Const(0b1111, 4),
            i_WREN=ram.write_en,
            i_CHIPSELECT=Const(1, 1),
            i_STANDBY=Const(0, 1),
            i_SLEEP=Const(0, 1),
            i_POWEROFF=Const(1, 1),  # active low
            o_DATAOUT=data_out,
        )
        part = read[low : low + SINGLE_PORT_BITS]
        m.d.comb += part.eq(delay(m, data_out, ram.latency - 1, name=f"read_{low}"))
    return m
