"""Plans that are wrong: of a right PLAN packet a field, a bit, a word or the length is changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pleach.engine.maps import PLAN_HEAD, PLAN_WORDS

#: values that a field is set to, next to what it may be
_ODD = (0, 1, 2, 3, 4, 255, 256, 4095, 4096, 0x7FFF, 0x8000, 0xFFFF)


def fields_of(packet: list[int]) -> list[tuple[str, int, int, int]]:
    """Name, word of the packet, lowest bit and width of every field that it has."""
    found, at = [], 1
    layouts = list(PLAN_HEAD)
    layouts += [*PLAN_WORDS] * ((len(packet) - 1 - len(layouts)) // len(PLAN_WORDS))
    for word in layouts:
        low = 0
        for name, bits in word.fields.items():
            found.append((name, at, low, bits))
            low += bits
        at += 1
    return found


def wrong_plans(packet: list[int], count: int, seed: int) -> Iterator[tuple[str, list[int]]]:
    """So many of them, each with what was changed; none is the packet itself."""
    rng = np.random.default_rng(seed)
    fields = fields_of(packet)
    made = 0
    while made < count:
        wrong, how = list(packet), rng.random()
        if how < 0.70:
            name, at, low, bits = fields[rng.integers(len(fields))]
            mask = (1 << bits) - 1
            before = packet[at] >> low & mask
            if rng.random() < 0.5:
                after = before ^ 1 << int(rng.integers(bits))
            else:
                after = int(rng.choice(_ODD)) & mask
            wrong[at] = packet[at] & ~(mask << low) | after << low
            what = f"word {at}, {name} {after} for {before}"
        elif how < 0.80:
            cut = int(rng.integers(1, len(packet)))
            wrong, what = wrong[:cut], f"{len(packet) - cut} words too few"
        elif how < 0.86:
            more = rng.integers(0, 2**32, rng.integers(1, 40)).tolist()
            wrong, what = wrong + more, f"{len(more)} words too many"
        elif how < 0.93:
            at = int(rng.integers(1, len(packet)))
            wrong[at] = int(rng.integers(2**32))
            what = f"word {at} {wrong[at]:#x} for {packet[at]:#x}"
        else:
            wrong[1:] = rng.integers(0, 2**32, rng.integers(0, 80)).tolist()
            what = f"{len(wrong) - 1} random words"
        if wrong != packet:
            made += 1
            yield what, wrong
