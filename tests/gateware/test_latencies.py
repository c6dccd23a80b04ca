"""Bits of memory, as they are weighed and printed, are those of the gateware's words."""

import pytest
from amaranth.hdl import Shape

from pleach.engine import EngineConfig
from pleach.engine.pipeline import block_bits, entry_bits, pointer_fields
from pleach_hw.layouts import block_layout, entry_layout, pointer_layout


@pytest.mark.parametrize(
    "config", [EngineConfig(pes=4), EngineConfig(pes=8, groups=2, block=4, codebook=512)]
)
def test_words_of_a_pe(config):
    assert Shape.cast(entry_layout(config)).width == entry_bits(config)
    assert Shape.cast(block_layout(config)).width == block_bits(config)
    assert Shape.cast(pointer_layout(config)).width == sum(pointer_fields(config).values())
