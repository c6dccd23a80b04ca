"""The order of neurons that gives every processing element as much to do as the others.

Numpy only: no torch here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pleach.compile.order import moved, placed
from pleach.compiled import njit
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.model import CompressedModel
from pleach.reference import Reference

#: exchanges of two rows that are tried for at most, a layer
EXCHANGES = 2000


def balanced(
    model: CompressedModel, inputs: np.ndarray, config: EngineConfig, *, outputs: bool = False
) -> CompressedModel:
    """The same network with its hidden neurons dealt out to the PEs of `config` by their work.

    A row's work is its MACs on average over `inputs`. An order is kept where the cycle model says
    that the network takes fewer cycles with it. The function stays the same, and so do inputs and
    outputs; the file runs on any engine. Rows of one PE keep their order.

    Args:
        model: fully connected layers only.
        inputs: of the network, ``[n, inputs]``: the activations are those that they give.
        outputs: whether the rows of the last layer move, too. That changes the order of the
            network's outputs: for a layer that stands for a part of a larger network.
    """
    activations = Reference(model).activations(inputs)
    cycles = _cycles(model, activations, config)
    last = len(model.layers) - 1
    for index in range(last + outputs):
        layers, moving = list(model.layers), list(activations)
        order = deal(work(layers[index], activations[index], config), config.row_pes)
        if index < last:
            layers[index : index + 2] = moved(layers[index], layers[index + 1], order)
            moving[index + 1] = activations[index + 1][:, order]
        else:
            place = np.empty(len(order), np.int64)
            place[order] = np.arange(len(order))
            layer = layers[index]
            layers[index] = placed(layer, layer.column_of, place[layer.row_of])
        tried = replace(model, layers=tuple(layers))
        if (found := _cycles(tried, moving, config)) < cycles:
            model, activations, cycles = tried, moving, found
    return model


def _cycles(model, activations, config) -> float:
    return float(CycleModel(model, config).cycles(activations).latency.mean())


def work(layer, activations: np.ndarray, config: EngineConfig) -> np.ndarray:
    """MACs of each row in each column group, float64 ``[rows, groups]``, means over inputs."""
    active = np.ones(layer.columns)
    active[: layer.inputs] = (activations != 0).mean(axis=0)
    places = layer.row_of * config.groups + layer.column_of % config.groups
    size = layer.outputs * config.groups
    return np.bincount(places, active[layer.column_of], size).reshape(layer.outputs, -1)


def deal(work: np.ndarray, pes: int) -> np.ndarray:
    """An order of rows, so that row ``order[i]`` on PE ``i % pes`` makes the work even.

    Rows go to PEs from the one with most work on, each to where the busiest group stays least
    (Graham 1969); then rows of the busiest PE are exchanged for others' while that helps.

    >>> deal(np.array([[4.0], [3.0], [2.0], [1.0]]), 2).tolist()
    [0, 1, 3, 2]
    """
    owner = _deal(work, pes, EXCHANGES)
    order = np.empty(len(work), np.int64)
    for pe in range(pes):
        order[pe::pes] = np.flatnonzero(owner == pe)
    return order


@njit()
def _deal(work, pes, exchanges):
    rows, groups = work.shape
    load = np.zeros((pes, groups))
    room = np.array([(rows - pe + pes - 1) // pes for pe in range(pes)])
    owner = np.zeros(rows, np.int64)
    others = np.zeros(rows, np.int64)
    total = work.sum(axis=1)
    for row in np.argsort(-total):
        best, chosen = np.inf, -1
        for pe in range(pes):
            if room[pe]:
                most = 0.0
                for group in range(groups):
                    most = max(most, load[pe, group] + work[row, group])
                if most < best:
                    best, chosen = most, pe
        owner[row] = chosen
        room[chosen] -= 1
        load[chosen] += work[row]
    for _ in range(exchanges):
        worst, busiest = -1.0, 0
        for pe in range(pes):
            if load[pe].max() > worst:
                worst, busiest = load[pe].max(), pe
        best, first, second = worst * (1 - 1e-9), -1, -1
        # Rows without work are alike: the first of each PE stands for all; none is worth moving.
        seen = np.zeros(pes, np.bool_)
        count = 0
        for row in range(rows):
            if total[row] or not seen[owner[row]]:
                seen[owner[row]] |= not total[row]
                others[count] = row
                count += 1
        for mine in np.flatnonzero((owner == busiest) & (total > 0)):
            for other in others[:count]:
                pe = owner[other]
                if pe != busiest:
                    most = 0.0
                    for group in range(groups):
                        more = work[other, group] - work[mine, group]
                        most = max(most, load[busiest, group] + more, load[pe, group] - more)
                    if most < best:
                        best, first, second = most, mine, other
        if first < 0:
            break
        pe = owner[second]
        load[busiest] += work[second] - work[first]
        load[pe] += work[first] - work[second]
        owner[first], owner[second] = pe, busiest
    return owner
