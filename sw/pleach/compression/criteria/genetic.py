"""Masks that are bred (Anwar 2017; 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pleach.compression.allocation import Candidates
from pleach.compression.checks import check_integer, check_number
from pleach.compression.criteria import Scores, Search, criterion


@criterion("genetic")
@dataclass(frozen=True, kw_only=True)
class Genetic(Search):
    """The mask with the least loss after `generations`: the better half stays, and each of the
    others is a child of two of them, which has the scores of either, group by group, some drawn
    anew.

    Use it in the place of ``random_masks`` for the same number of tries: it is never worse than the
    masks that it begins with.

    Args:
        population: masks of a generation.
        generations: of them.
        mutation: share of a child's scores that are drawn anew.
        samples: training inputs that the loss is measured on.
        seed: of everything random.
    """

    population: int = 10
    generations: int = 10
    mutation: float = 0.05
    samples: int = 1000
    seed: int = 0

    source = "Anwar et al. 2017 (openreview HkvS3Mqxe); Anwar et al. 2015, arXiv:1512.08571"

    def __post_init__(self):
        check_integer(self, "population", 4, 1 << 16)
        check_integer(self, "generations", 1, 1 << 16)
        check_number(self, "mutation", 0, 1)
        check_integer(self, "samples", 1, 1 << 30)
        check_integer(self, "seed", 0, (1 << 63) - 1)

    def search(
        self,
        layers: Sequence[Candidates],
        cost: Callable[[Scores], float],
        draw: Callable[[], Scores],
    ) -> Scores:
        generator = torch.Generator().manual_seed(self.seed + 1)

        def chance(like: torch.Tensor, share: float) -> torch.Tensor:
            return (torch.rand(like.shape, generator=generator) < share).to(like.device)

        def child(parents: list[Scores]) -> Scores:
            one, other = torch.randperm(len(parents), generator=generator)[:2].tolist()
            pairs = zip(parents[one], parents[other], draw(), strict=True)
            return [
                tuple(
                    torch.where(chance(a, self.mutation), c, torch.where(chance(a, 0.5), a, b))
                    for a, b, c in zip(*layer, strict=True)
                )
                for layer in pairs
            ]

        people = [(cost(scores), scores) for scores in (draw() for _ in range(self.population))]
        for _ in range(self.generations - 1):
            people = sorted(people, key=lambda each: each[0])[: self.population // 2]
            parents = [scores for _, scores in people]
            born = [child(parents) for _ in range(self.population - len(people))]
            people += [(cost(scores), scores) for scores in born]
        return min(people, key=lambda each: each[0])[1]
