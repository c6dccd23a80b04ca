"""In which order the layers of a file run, as far as names and shapes tell it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise

Shapes = Mapping[str, tuple[int, int]]


def fitting_orders(layers: Shapes, most: int = 4) -> list[list[str]]:
    """The orders in which each layer takes as many values as the one before gives, `most` at most.

    Layers that are numbered under one name, as those of an nn.Sequential are, run one after the
    other by their numbers wherever that fits.

    Args:
        layers: inputs and outputs of each.

    >>> fitting_orders({"out": (3, 2), "a": (4, 3)})
    [['a', 'out']]
    >>> fitting_orders({"a": (4, 4), "b": (4, 4)})
    [['a', 'b'], ['b', 'a']]
    >>> fitting_orders({"net.10": (4, 4), "net.2": (4, 4), "head": (4, 2)})
    [['net.2', 'net.10', 'head']]
    """
    runs = []
    for run in numbered(list(layers)):
        chained = all(layers[a][1] == layers[b][0] for a, b in pairwise(run))
        runs += [run] if chained else [[name] for name in run]
    ends = [(layers[run[0]][0], layers[run[-1]][1]) for run in runs]
    orders = []
    for trail in islice(_trails(ends), most):
        orders.append([name for index in trail for name in runs[index]])
    return orders


def numbered(names: list[str]) -> list[list[str]]:
    """`names` in runs whose order they tell: dotted names that first differ in a number.

    >>> numbered(["2", "10", "0"]), numbered(["a.1", "a.0", "b"])
    ([['0', '2', '10']], [['a.0', 'a.1'], ['b']])
    """
    paths = _numbered([tuple(name.split(".")) for name in names])
    return [[".".join(path) for path in run] for run in paths]


def _numbered(paths: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    if len(paths) == 1:
        return [paths]
    below = defaultdict(list)
    for path in paths:
        below[path[:1]].append(path[1:])
    runs = {
        head: [[head + rest for rest in run] for run in _numbered(rests)]
        for head, rests in below.items()
    }
    if all("".join(head).isdecimal() and len(found) == 1 for head, found in runs.items()):
        ranked = sorted(runs, key=lambda head: int(head[0]))
        return [[path for head in ranked for path in runs[head][0]]]
    return [run for found in runs.values() for run in found]


def _trails(edges: list[tuple[int, int]]) -> Iterator[list[int]]:
    """The trails that pass every edge once; edges are numbered, nodes are widths."""

    def extend(trail: list[int], left: list[int]) -> Iterator[list[int]]:
        if not left:
            yield trail
        for index in left:
            if trail and edges[index][0] != edges[trail[-1]][1]:
                continue
            rest = [other for other in left if other != index]
            # So no way is gone that leads nowhere, however many layers have one width.
            if _passable([edges[other] for other in rest], edges[index][1]):
                yield from extend([*trail, index], rest)

    return extend([], list(range(len(edges))))


def _passable(edges: list[tuple[int, int]], start: int) -> bool:
    """Whether a trail from `start` passes every edge once (Euler): degrees and connection."""
    if not edges:
        return True
    surplus = Counter(a for a, _ in edges)
    surplus.subtract(b for _, b in edges)
    uneven = {node: count for node, count in surplus.items() if count}
    if uneven and (uneven.get(start) != 1 or sorted(uneven.values()) != [-1, 1]):
        return False
    after = defaultdict(set)
    for a, b in edges:
        after[a].add(b)
    reached, fresh = {start}, [start]
    while fresh:
        new = after[fresh.pop()] - reached
        reached |= new
        fresh += new
    return all(a in reached for a, _ in edges)
