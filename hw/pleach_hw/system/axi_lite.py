"""AXI4-Lite, 32 bits of data: the names of its signals, and its responses."""

from enum import IntEnum

from amaranth.lib.wiring import In, Out

#: of a subordinate, by the name without the interface's prefix
CHANNELS = {
    "awprot": In(3),
    "awvalid": In(1),
    "awready": Out(1),
    "wdata": In(32),
    "wstrb": In(4),
    "wvalid": In(1),
    "wready": Out(1),
    "bresp": Out(2),
    "bvalid": Out(1),
    "bready": In(1),
    "arprot": In(3),
    "arvalid": In(1),
    "arready": Out(1),
    "rdata": Out(32),
    "rresp": Out(2),
    "rvalid": Out(1),
    "rready": In(1),
}


def subordinate(prefix: str, address_bits: int) -> dict:
    """Members of a component's signature."""
    addresses = {name: In(address_bits) for name in ("awaddr", "araddr")}
    return {f"{prefix}_{name}": flow for name, flow in (addresses | CHANNELS).items()}


class Response(IntEnum):
    """What a subordinate says of an access."""

    OKAY = 0
    SLVERR = 2
    DECERR = 3
