"""A host on a serial cable: packets of words over a UART, whole and in order or not at all."""

from pleach.host.frames import DEFAULT_BAUD
from pleach_hw.link.link import UartLink

__all__ = ["DEFAULT_BAUD", "UartLink"]
