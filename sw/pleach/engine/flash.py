"""A network's image in SPI flash, which an engine loads itself from; docs/registers.md."""

from __future__ import annotations

import struct
import zlib

from pleach.errors import FormatError

#: first word of an image, "PLFL" in the flash
IMAGE_MAGIC = int.from_bytes(b"PLFL", "little")
#: bytes that an image can have at most, all of them
IMAGE_MAX = 1 << 24
#: commands of a flash: fast read, with this many clocks between address and data, and wake up
READ, READ_DUMMY_BITS, WAKE = 0x0B, 8, 0xAB


def flash_image(data: bytes) -> bytes:
    """What goes into the flash for a ``.pleach`` file: magic, length, the file, CRC-32 of the file.

    >>> flash_image(b"PLCH").hex(" ", 4)
    '504c464c 04000000 504c4348 7e719a30'

    Raises:
        FormatError: no whole words, or too many for a flash.
    """
    if not data or len(data) % 4 or len(data) + 12 > IMAGE_MAX:
        raise FormatError(
            f"a file of {len(data)} bytes is no bitstream for a flash: it has whole words, 4 bytes "
            f"to {IMAGE_MAX - 12}"
        )
    return struct.pack("<II", IMAGE_MAGIC, len(data)) + data + struct.pack("<I", zlib.crc32(data))
