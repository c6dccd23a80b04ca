"""The engine: gateware in Amaranth, and what builds it for a chip."""

from pleach.extras import need

need("amaranth", "platformdirs")
