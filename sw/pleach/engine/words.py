"""Layouts of the bitstream's 32-bit words, for the software and for the gateware."""

from __future__ import annotations


class Word:
    """A 32-bit word as named unsigned fields, lowest first.

    >>> size = Word(inputs=16, outputs=16)
    >>> hex(size.pack(inputs=784, outputs=300))
    '0x12c0310'
    >>> size.unpack(0x12C0310)
    {'inputs': 784, 'outputs': 300}

    A field named ``_`` and what is left above the last field are reserved: packed as zero.
    """

    def __init__(self, **fields: int):
        if sum(fields.values()) > 32:
            raise ValueError(f"{sum(fields.values())} bits in a 32-bit word")
        self.fields = fields

    def pack(self, **values: int) -> int:
        word = shift = 0
        for name, width in self.fields.items():
            value = int(values.pop(name, 0) if name.startswith("_") else values.pop(name))
            if not 0 <= value < 1 << width:
                raise ValueError(f"{name} = {value} does not fit {width} bits")
            word |= value << shift
            shift += width
        if values:
            raise TypeError(f"no field {next(iter(values))!r}")
        return word

    def unpack(self, word: int) -> dict[str, int]:
        values, shift = {}, 0
        for name, width in self.fields.items():
            values[name] = word >> shift & (1 << width) - 1
            shift += width
        return values

    def reserved(self) -> int:
        """Mask of the bits that must be zero."""
        used = shift = 0
        for name, width in self.fields.items():
            if not name.startswith("_"):
                used |= ((1 << width) - 1) << shift
            shift += width
        return ~used & 0xFFFFFFFF


MAGIC = int.from_bytes(b"PLCH", "little")
#: versions that readers know; the last is written
VERSIONS = (2, 3)
VERSION = VERSIONS[-1]
HEADER_WORDS = 5
HEADER_INFO = Word(version=8, layers=8, input_type=1, _=7, input_fraction=8)

SECTION_HEAD = Word(type=8, length=24)
#: bytes of a section's payload
MAX_PAYLOAD = 4 * ((1 << 24) - 1)
SECTION_LAYER = 1
SECTION_CONV = 2
SECTION_POOL = 3
SECTION_CELL = 4
SECTION_META = 128
#: bit of a layer's type: its section has the short form
SHORT = 16

#: the long form's first two words of a LAYER, and the short form's first
LONG_WORDS = (Word(inputs=16, outputs=16), Word(entries=32))
SHORT_WORD = Word(outputs=16, entries=16)
#: then, of both
SCALE_WORD = Word(
    shift=6,
    function=2,
    bias=1,
    bias_exponent=4,
    accumulator_bits=6,
    scaled=1,
    joined=1,
    _=3,
    output_fraction=8,
)
TABLES_WORD = Word(
    codebook_size=9, code_length=4, gap_classes=5, gap_length=4, narrow=1, streams=2, sliced=1
)
#: codes of `function`; the last two have a word of bounds
NO_FUNCTION, RELU, CLIP, SIGN = range(4)
BOUNDS_WORD = Word(low=16, high=16)
JOINED_WORD = Word(source=8, skip=8, skip_channels=16)
#: where there is a skip
SKIP_WORD = Word(skip_stride_height=8, skip_stride_width=8)
#: of a convolution or a pooling: the map, in the long form
MAP_WORD = Word(height=16, width=16)
CHANNELS_WORD = Word(channels=16)
KERNEL_WORD = Word(kernel_height=8, kernel_width=8, stride=4, padding=4, pool=4, sides=1)
#: where a kernel's stride and padding are not the same on all sides, or it has groups
SIDES_WORD = Word(stride_height=8, stride_width=8, groups=16)
PADDING_WORD = Word(padding_top=8, padding_left=8, padding_bottom=8, padding_right=8)
WINDOW_WORD = Word(kernel_height=8, kernel_width=8, stride_height=8, stride_width=8)
POOL_WORD = Word(source=8, sum=1, _=7, shift=5)

#: the words of a LAYER in version 2, and those that a CONV has behind them
LAYER_WORDS = (
    *LONG_WORDS,
    Word(
        shift=6, activation=2, bias=1, bias_exponent=4, accumulator_bits=6, _=5, output_fraction=8
    ),
    Word(codebook_size=9, code_length=4, gap_classes=5, gap_length=4, narrow=1),
)
CONV_WORDS = (
    MAP_WORD,
    Word(channels=16, groups=8),
    Word(kernel_height=8, kernel_width=8, stride=4, padding=4, pool=4, pool_stride=4),
)
MAX_CODE_LENGTH = 12
MAX_GAP_LENGTH = 8


def signed8(value: int) -> int:
    """A two's complement byte as a number.

    >>> signed8(255)
    -1
    """
    return value - 256 if value > 127 else value


def signed16(value: int) -> int:
    """Two's complement of 16 bits as a number.

    >>> signed16(0x8000)
    -32768
    """
    return value - (1 << 16) if value >> 15 else value
