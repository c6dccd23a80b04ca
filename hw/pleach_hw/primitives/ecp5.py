"""Memories and multipliers of the ECP5, their cells instantiated with all their registers.

Yosys infers the same cells, but neither the output register of the RAM nor any of the multiplier's
(yosys 0.70), and those decide the clock.
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Shape, Signal, Value

from pleach_hw.primitives.delay import delay

#: Words by width of a DP16KD, the 18 Kbit block RAM.
RAM_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))


def ram_shape(depth: int, width: int) -> tuple[int, int]:
    """The shape of the fewest RAMs that hold `depth` words of `width` bits, the deepest of those.

    >>> ram_shape(2048, 12), ram_shape(1024, 17), ram_shape(4096, 12)
    ((2048, 9), (1024, 18), (4096, 4))
    """
    return min(RAM_SHAPES, key=lambda shape: _rams(shape, depth, width))


def block_rams(depth: int, width: int) -> int:
    """Block RAMs that hold `depth` words of `width` bits.

    >>> block_rams(2048, 12), block_rams(1024, 17), block_rams(16384, 1), block_rams(512, 36)
    (2, 1, 1, 1)
    """
    return _rams(ram_shape(depth, width), depth, width)


def _rams(shape, depth, width):
    words, bits = shape
    return -(-depth // words) * -(-width // bits)


def block_ram(ram) -> Module:
    """A `BlockRam` of DP16KD cells: port A writes, port B reads, for latency 2 through its output
    register."""
    m = Module()
    width = Shape.cast(ram.shape).width
    words, bits = ram_shape(ram.depth, width)
    address_bits = (words - 1).bit_length()
    bank_bits = len(ram.write_addr) - address_bits  # what the address has beyond one RAM's
    data = Value.cast(ram.write_data)
    banks = []
    for bank in range(-(-ram.depth // words)):
        write = ram.write_en
        if bank_bits > 0:
            write = write & (ram.write_addr[address_bits:] == bank)
        parts = []
        for low in range(0, width, bits):
            part = Signal(min(bits, width - low), name=f"read_{bank}_{low}")
            parts.append(part)
            m.submodules[f"ram_{bank}_{low}"] = _dp16kd(
                bits=bits,
                write=write,
                write_addr=ram.write_addr[:address_bits],
                write_data=data[low : low + bits],
                read_addr=ram.read_addr[:address_bits],
                read_data=part,
                registered=ram.latency == 2,
            )
        banks.append(Cat(parts))
    read = banks[0]
    if bank_bits > 0:
        chosen = delay(m, ram.read_addr[address_bits:], ram.latency, name="bank")
        for bank, value in enumerate(banks[1:], start=1):
            read = Mux(chosen == bank, value, read)
    m.d.comb += Value.cast(ram.read_data).eq(read)
    return m


def _dp16kd(*, bits, write, write_addr, write_data, read_addr, read_data, registered):
    # Addresses are of bits: a word of 2^n or 9·2^n bits leaves the lowest n or n + 3 unused. Of
    # port A the lowest four are byte enables where words have 18 or 36 bits.
    unused = {1: 0, 2: 1, 4: 2, 9: 3, 18: 4, 36: 5}[bits]
    enables = {18: 0b0011, 36: 0b1111}.get(bits, 0)
    ports = {"i_CLKA": ClockSignal(), "i_CLKB": ClockSignal()}
    ports |= {"i_CEA": write, "i_WEA": Const(1, 1), "i_OCEA": Const(0, 1), "i_RSTA": Const(0, 1)}
    ports |= {f"i_{name}B": Const(value, 1) for name, value in _READ_PORT.items()}
    ports |= {f"i_CS{port}{bit}": Const(0, 1) for port in "AB" for bit in range(3)}
    for port, address, low in (("A", write_addr, enables), ("B", read_addr, 0)):
        value = Cat(Const(low, unused), address)
        ports |= {f"i_AD{port}{bit}": _bit(value, bit) for bit in range(14)}
    for bit in range(18):
        ports[f"i_DIA{bit}"] = _bit(write_data, bit)
        ports[f"i_DIB{bit}"] = _bit(write_data, bit + 18)
    # Words of 36 bits have the lower half at port A's outputs; narrower ones are at port B's.
    for bit in range(len(read_data)):
        port, number = ("A", bit) if bits == 36 and bit < 18 else ("B", bit % 18)
        ports[f"o_DO{port}{number}"] = read_data[bit]
    return Instance(
        "DP16KD",
        p_DATA_WIDTH_A=bits,
        p_DATA_WIDTH_B=bits,
        p_REGMODE_A="OUTREG" if registered and bits == 36 else "NOREG",
        p_REGMODE_B="OUTREG" if registered else "NOREG",
        p_RESETMODE="SYNC",
        p_ASYNC_RESET_RELEASE="SYNC",
        p_CSDECODE_A="0b000",
        p_CSDECODE_B="0b000",
        p_WRITEMODE_A="NORMAL",
        p_WRITEMODE_B="NORMAL",
        p_GSR="AUTO",
        **ports,
    )


_READ_PORT = {"CE": 1, "OCE": 1, "WE": 0, "RST": 0}


def multiplier(product_of) -> Module:
    """A `Multiplier` of one MULT18X18D: input, pipeline and output registers."""
    m = Module()
    registers = {f"p_REG_{name}_CLK": "CLK0" for name in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")}
    ports = {"i_CLK0": ClockSignal(), "i_CE0": Const(1, 1), "i_RST0": Const(0, 1)}
    for port, factor in (("A", product_of.a), ("B", product_of.b)):
        ports |= {f"i_SIGNED{port}": Const(1, 1), f"i_SOURCE{port}": Const(0, 1)}
        for bit in range(18):
            ports[f"i_{port}{bit}"] = factor[min(bit, len(factor) - 1)]
    for bit in range(len(product_of.product)):
        ports[f"o_P{bit}"] = product_of.product[bit]
    m.submodules.cell = Instance("MULT18X18D", p_GSR="ENABLED", **registers, **ports)
    return m


def _bit(value, bit):
    return value[bit] if bit < len(value) else Const(0, 1)
