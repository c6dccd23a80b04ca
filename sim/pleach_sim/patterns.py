"""When a host pauses: idle cycles before its words, back-pressure on the engine's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from random import Random

from pleach.errors import ConfigError

#: what `pauses` knows; the engine must give the same outputs under any two of them
PATTERNS = ("none", "alternate", "random", "bursts", "mostly")


def pauses(pattern: str, seed: int = 1) -> Iterator[bool] | None:
    """Endless booleans, one a cycle, true for a pause; `None` for a host that never pauses.

    >>> from itertools import islice
    >>> list(islice(pauses("alternate"), 4))
    [True, False, True, False]

    Args:
        pattern: ``none``; ``alternate``, every other cycle; ``random``, half of all cycles;
            ``bursts``, up to 40 cycles of either; ``mostly``, seven of eight cycles.
        seed: of the random ones.
    """
    if pattern not in PATTERNS:
        raise ConfigError(f"pattern must be one of {', '.join(PATTERNS)}, not {pattern!r}")
    random = Random(seed)
    match pattern:
        case "none":
            return None
        case "alternate":
            return cycle((True, False))
        case "random":
            return (random.random() < 1 / 2 for _ in cycle((0,)))
        case "mostly":
            return (random.random() < 7 / 8 for _ in cycle((0,)))
        case _:
            return (pause for pause in cycle((True, False)) for _ in range(random.randint(1, 40)))
