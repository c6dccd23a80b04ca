"""Two compressed networks side by side: weights, bytes, cycles, answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pleach.compile.plan import planned
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.format import parse
from pleach.metrics import classes_of
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference import Reference


@dataclass(frozen=True)
class LayerDifference:
    """Two layers of one name.

    Args:
        name: of both; a layer that one network alone has is compared with nothing.
        kept: weights that are not zero, of each.
        common: places at which both keep one.
        changed: of these, with another value.
        rms: root of the mean square of the differences of the real weights, over all places; None
            where the shapes differ.
        bytes: of each layer's section.
        codebook: values of each.
    """

    name: str
    kept: tuple[int, int]
    common: int | None
    changed: int | None
    rms: float | None
    bytes: tuple[int, int]
    codebook: tuple[int, int]


def layer_differences(one: bytes, other: bytes) -> list[LayerDifference]:
    """Layer by layer, those of the first file first.

    Raises:
        FormatError: one is no bitstream.
    """
    models, sizes = zip(*(parse(data) for data in (one, other)), strict=True)
    sides = [
        {
            layer.name: (layer, fraction, size.bytes)
            for layer, fraction, size in zip(
                model.layers, model.weight_fractions(), each, strict=True
            )
        }
        for model, each in zip(models, sizes, strict=True)
    ]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [_layer(name, sides[0].get(name), sides[1].get(name)) for name in names]


_Side = tuple[CompressedLayer, int, int]


def _layer(name: str, one: _Side | None, other: _Side | None) -> LayerDifference:
    common = changed = rms = None
    if one is not None and other is not None and one[0].shape == other[0].shape:
        places, first, second = np.intersect1d(
            _places(one[0]), _places(other[0]), assume_unique=True, return_indices=True
        )
        a, b = (layer.values / 2.0**fraction for layer, fraction, _ in (one, other))
        common, changed = len(places), int((a[first] != b[second]).sum())
        apart = np.square(a).sum() + np.square(b).sum() - 2 * (a[first] * b[second]).sum()
        rms = float(np.sqrt(max(apart, 0.0) / one[0].size))
    kept, size, codebook = (
        (0 if one is None else of(one), 0 if other is None else of(other))
        for of in (lambda s: s[0].kept, lambda s: s[2], lambda s: len(s[0].codebook))
    )
    return LayerDifference(name, kept, common, changed, rms, size, codebook)


def _places(layer: CompressedLayer) -> np.ndarray:
    return layer.column_of.astype(np.int64) * layer.outputs + layer.row_of


@dataclass(frozen=True, eq=False)
class Answered:
    """What two networks answer to the same inputs.

    Args:
        changed: number, class of the first and of the second, of each input that changed class.
        rms: root of the mean square of the differences of their outputs.
        inputs: how many.
    """

    changed: tuple[tuple[int, int, int], ...]
    rms: float
    inputs: int

    @classmethod
    def of(cls, one: np.ndarray, other: np.ndarray) -> Answered:
        """
        Args:
            one, other: real outputs, ``[n, outputs]``.
        """
        before, after = map(classes_of, (one, other))
        which = np.flatnonzero(before != after).tolist()
        changed = tuple((n, int(before[n]), int(after[n])) for n in which)
        apart = np.sqrt(np.mean(np.square(np.asarray(one, np.float64) - other)))
        return cls(changed, float(apart), len(one))

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return asdict(self)


def real_outputs(model: CompressedModel, images: np.ndarray) -> np.ndarray:
    """What a network answers to inputs as they are stored, ``[n, outputs]``."""
    return model.dequantise(Reference(model).run(model.quantise(images)))


def mean_cycles(model: CompressedModel, images: np.ndarray, config: EngineConfig) -> float:
    """Cycles an input, from the first word to the last answer."""
    inputs = model.quantise(images)
    plan = planned(model, config, inputs)
    return float(CycleModel(model, config, plan).run(inputs).latency.mean())
