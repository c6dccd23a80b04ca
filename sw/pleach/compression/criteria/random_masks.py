"""The best of several masks at random (Anwar 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pleach.compression.allocation import Candidates
from pleach.compression.checks import check_integer
from pleach.compression.criteria import Scores, Search, criterion


@criterion("random_masks")
@dataclass(frozen=True, kw_only=True)
class RandomMasks(Search):
    """The mask with the least loss among `tries` at random.

    Use it as the baseline that any other criterion has to beat, and for coarse groups, of which
    there are so few that a good mask is met by chance.

    Args:
        tries: masks.
        samples: training inputs that the loss is measured on.
        seed: of the masks.
    """

    tries: int = 50
    samples: int = 1000
    seed: int = 0

    source = "Anwar et al. 2017 (openreview HkvS3Mqxe)"

    def __post_init__(self):
        check_integer(self, "tries", 1, 1 << 20)
        check_integer(self, "samples", 1, 1 << 30)
        check_integer(self, "seed", 0, (1 << 63) - 1)

    def search(
        self,
        layers: Sequence[Candidates],
        cost: Callable[[Scores], float],
        draw: Callable[[], Scores],
    ) -> Scores:
        return min((draw() for _ in range(self.tries)), key=cost)
