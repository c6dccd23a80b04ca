"""The smallest file at a given error, or the fewest cycles, over settings of the compression.

`search` spreads trials over processes or over the workers of a dask scheduler (`pleach.spread`).
What a study finds depends on its settings alone: not on who did the trials, in which order they
ended, or how often it was interrupted.
"""

from pleach.extras import need

need("optuna")

from pleach.search.space import Choice, Range, SearchConfig, applied, space
from pleach.search.study import Found, Trial, search
from pleach.search.trial import Attempt, Problem, attempt

__all__ = [
    "Attempt",
    "Choice",
    "Found",
    "Problem",
    "Range",
    "SearchConfig",
    "Trial",
    "applied",
    "attempt",
    "search",
    "space",
]
