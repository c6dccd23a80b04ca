"""Values that are powers of two, or near none of them (Zhou et al. 2017, INQ)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.compression.quantisers import Quantiser, quantiser


@quantiser("powers_of_two")
@dataclass(frozen=True, kw_only=True)
class PowersOfTwo(Quantiser):
    """``±2ⁿ``, from the largest weight down (equations 2 and 3 there); they stay what they are.

    Half of `clusters` is for each sign; with one sign, or an odd count, the other has the rest.

    Use it, with ``reassign``, where products should be shifts and the training is short;
    ``inq`` is better in a longer one.
    """

    source = "Gysel et al. 2016, arXiv:1604.03168, section 4.3; Zhou et al. 2017, equations 2 and 3"
    trained = False

    def codebook(self, values: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
        if not len(values):
            return np.zeros(0)
        top = np.abs(values).max()
        # The power whose interval, from 3/4 of it to 3/2 of it, holds the largest weight.
        first = int(np.floor(np.log2(4 * top / 3)))
        negative, positive = bool((values < 0).any()), bool((values > 0).any())
        below = clusters // 2 if negative and positive else clusters * negative
        powers = np.ldexp(1.0, first - np.arange(max(below, clusters - below)))
        return np.sort(np.concatenate([-powers[:below], powers[: clusters - below]]))
