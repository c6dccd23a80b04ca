"""How long the engine's stages take, and how wide a PE's words are.

The gateware is built with these numbers, the cycle model counts with them, and the explorer weighs
memories by them. Latencies are cycles.
"""

from __future__ import annotations

from typing import NamedTuple

from pleach.engine.config import EngineConfig

#: from factors to their product; hardened multipliers have registers at three places
MULTIPLIER = 3
#: from an accumulator to what a row's scale makes of it: partial products are added up
SCALE = MULTIPLIER + 1
#: from that to its activation
REQUANTIZE = 3
#: from an address of the map memory to its values
MAP_READ = 3
#: columns that a PE has places for when it says that it is ready: so many may be on their way
#: before the control unit heeds that it no longer is
COLUMNS_AHEAD = 5


#: largest codebook in LUT RAM: a larger one takes more of a PE's logic than a block RAM saves
LUT_CODEBOOK = 64
#: codebook values that are in the PEs, a value a cycle from the start of a pass on, before the
#: first of its MACs looks one up
FIRST_LOOKUP = 16


class DrainAges(NamedTuple):
    """Cycles since a vector's drain began, when …"""

    #: its accumulators are at the drain unit's inputs: registers on the way to the PEs and in them
    drained: int
    #: they are added up over the groups: a register behind the choice of lanes and each addition
    summed: int
    #: it is requantised and enters the queue at the drain unit's output
    queued: int


def pointer_latency(config: EngineConfig) -> int:
    """From a column to its pointer, in a PE; choosing one of a block takes a register."""
    return config.ram_latency + (config.block > 1)


def issue_latency(config: EngineConfig) -> int:
    """From a column's broadcast to its first MAC, in a PE with nothing else to do."""
    return 1 + pointer_latency(config) + 2


def accumulator_latency(config: EngineConfig) -> int:
    """From an operation of the arithmetic unit, a MAC or a drain, to its row's accumulator: entry,
    codebook value and accumulator are memories, with the multiplier between the last two."""
    return 3 * config.ram_latency + MULTIPLIER


def held_codes(config: EngineConfig) -> int:
    """Codebook values that a PE holds, a power of two: those of all layers; with a map memory those
    of one, where LUT RAM has room for them. They are copied to it as a pass begins.

    >>> held_codes(EngineConfig()), held_codes(EngineConfig(maps=64, codes=16))
    (128, 16)
    """
    own = 1 << code_bits(config)
    return own if config.maps and own <= LUT_CODEBOOK else config.codebook


def copy_wait(config: EngineConfig) -> int:
    """Cycles that a pass waits before it starts, for its codebook on the way to the PEs.

    >>> copy_wait(EngineConfig(maps=64, codes=16)), copy_wait(EngineConfig(maps=64, codes=32))
    (0, 16)
    """
    if held_codes(config) == config.codebook:
        return 0
    return max(0, held_codes(config) - FIRST_LOOKUP)


def drain_ages(config: EngineConfig) -> DrainAges:
    """When a vector is where on its way through the drain.

    >>> drain_ages(EngineConfig()), drain_ages(EngineConfig(groups=4, ram_latency=1)).queued
    (DrainAges(drained=11, summed=12, queued=15), 14)
    """
    drained = 2 + accumulator_latency(config)
    summed = drained + 1 + (config.groups - 1).bit_length()
    return DrainAges(drained, summed, summed + REQUANTIZE)


class MapDrainAges(NamedTuple):
    """Cycles since a step of a window's drain was decided, when …"""

    #: its accumulators are at the drain's inputs: registers on the way to the PEs and in them
    drained: int
    #: they are requantised, behind the scales if there are any
    requantized: int
    #: they are pooled and clipped, at the packer's inputs
    given: int


#: values of a window, as many as are drained in a cycle, that have a place on their way to the map
#: memory, a power of two
PLACES = 16
#: cycles from the decision to take a window until what its PEs say no longer speaks of it
WINDOW_TAKEN = 5


def map_drain_ages(config: EngineConfig) -> MapDrainAges:
    """When values are where on their way through the drain of an engine with a map memory.

    >>> map_drain_ages(EngineConfig(maps=64))
    MapDrainAges(drained=13, requantized=16, given=18)
    """
    drained = 4 + accumulator_latency(config)
    requantized = drained + (SCALE if config.scales else 0) + REQUANTIZE
    return MapDrainAges(drained, requantized, requantized + 2)


def drain_latency(config: EngineConfig) -> int:
    """From the start of a drain to the first vector of activations.

    >>> drain_latency(EngineConfig()), drain_latency(EngineConfig(ram_latency=1))
    (16, 13)
    """
    return drain_ages(config).queued + 1


def drain_places(config: EngineConfig) -> int:
    """Vectors that the queue at the drain's output holds, a power of two: enough for one a cycle,
    each of which takes its place for four cycles more than it needs to get there, and for
    `outputs` rows."""
    way = drain_ages(config).queued + 3
    return max(1 << way.bit_length(), config.outputs // config.drained)


def entry_fields(config: EngineConfig) -> dict[str, int]:
    """Bits of a weight in a PE's memory: its local row and its code.

    >>> entry_fields(EngineConfig())
    {'row': 5, 'code': 7}
    """
    return {"row": (config.named_rows - 1).bit_length(), "code": code_bits(config)}


def code_bits(config: EngineConfig) -> int:
    """Bits of a code in a PE: a byte at most, fewer where the codebook is small."""
    return (config.named_codes - 1).bit_length()


def pointer_fields(config: EngineConfig) -> dict[str, int]:
    """Bits of where a PE's entries of a column start, and of how many they are.

    >>> pointer_fields(EngineConfig())
    {'start': 11, 'count': 6}
    """
    return {
        "start": (config.entries - 1).bit_length(),
        "count": config.named_rows.bit_length(),
    }


def entry_bits(config: EngineConfig) -> int:
    """Width of a PE's entry memory."""
    return sum(entry_fields(config).values())


def block_bits(config: EngineConfig) -> int:
    """Width of a PE's pointer memory: where the entries of `block` neighbouring columns start, and
    how many each column has."""
    fields = pointer_fields(config)
    return fields["start"] + config.block * fields["count"]
