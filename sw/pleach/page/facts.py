"""What the page of a network shows, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pleach.compile.plan import planned_by
from pleach.cycles import BREAKDOWN, CycleModel
from pleach.data import Dataset
from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan, said
from pleach.metrics import classes_of, for_targets
from pleach.model import CompressedLayer, CompressedModel, Shape
from pleach.reference import LayerTrace, Reference
from pleach.reference.maps import active
from pleach.report import FileReport, NumbersReport, Stage

#: inputs whose pictures a page shows at most
PICTURES = 24


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """A layer's weights, as they are in the file.

    Args:
        name: of the layer.
        said: its size and function, in words.
        values: codebook, real numbers, int64 integers over ``2^fraction``.
        counts: weights of each of them, int64 ``[values]``.
        bits: of the file: weight codes, gaps, and the rest of the layer's section.
        kept: weights that are not zero, and
        size: of all, biases included.
    """

    name: str
    said: str
    values: np.ndarray
    counts: np.ndarray
    bits: dict[str, int]
    kept: int
    size: int


@dataclass(frozen=True, eq=False)
class Runs:
    """Inputs on an engine, by the cycle model, which equals the RTL.

    Args:
        engine: its parameters.
        teams: of each pass; ones without a map memory.
        names: of the passes.
        latency: cycles, ``[n]``.
        breakdown: ``[passes, 5]``, means over the inputs (`BREAKDOWN` has the names).
        utilisation: share of a pass's cycles in which each PE multiplies, ``[passes, pes]``;
            windows of a layer are taken to be shared evenly by its teams.
        plan: how the layers run on an engine with a map memory, in words.
        numbers: of the test inputs, where they are a data set's.
    """

    engine: EngineConfig
    teams: tuple[int, ...]
    names: tuple[str, ...]
    latency: np.ndarray
    breakdown: np.ndarray
    utilisation: np.ndarray
    plan: str | None = None
    numbers: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        model: CompressedModel,
        inputs: np.ndarray,
        config: EngineConfig,
        plans: Sequence[LayerPlan] | None = None,
    ) -> Runs:
        """
        Args:
            inputs: integers, ``[n, inputs]``.

        Raises:
            CapacityError, ModelError: the engine does not hold or run the network.
        """
        traces = Reference(model).trace(inputs)
        taken = [(trace.inputs, trace.skips) for trace in traces]
        plans = planned_by(model, config, taken) if plans is None else plans
        found = CycleModel(model, config, plans).cycles(taken)
        rest = iter(traces)
        macs, teams = [], []
        shapes = model.graph.shapes()
        for number, node in enumerate(model.graph.nodes):
            team = plans[number].teams if config.maps and plans else 1
            teams.append(team)
            if isinstance(node.op, CompressedLayer):
                skip = shapes[node.sources[-1]]
                macs.append(macs_of_pes(node.op, next(rest), config, team, skip))
            else:
                macs.append(np.zeros(config.pes))
        compute = found.compute.mean(axis=0)
        return cls(
            engine=config,
            teams=tuple(teams),
            names=tuple(node.name for node in model.graph.nodes),
            latency=found.latency,
            breakdown=found.breakdown.mean(axis=0),
            utilisation=np.stack(macs) / np.maximum(compute, 1)[:, None],
            plan=said(model, plans) if config.maps and plans else None,
        )

    @property
    def compute(self) -> np.ndarray:
        """Cycles of each pass, ``[passes]``, means."""
        return self.breakdown.sum(axis=1)

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "engine": asdict(self.engine),
            "inputs": len(self.latency),
            "latency_cycles": float(self.latency.mean()),
            "numbers": self.numbers,
            "plan": self.plan,
            "layers": [
                {
                    "name": name,
                    "teams": team,
                    "compute_cycles": float(cycles),
                    "spent": dict(zip(BREAKDOWN, map(float, spent), strict=True)),
                    "utilisation": float(used.mean()),
                    "pe_utilisation": used.tolist(),
                }
                for name, team, cycles, spent, used in zip(
                    self.names, self.teams, self.compute, self.breakdown, self.utilisation,
                    strict=True,
                )
            ],
        }  # fmt: skip


def macs_of_pes(
    layer: CompressedLayer,
    trace: LayerTrace,
    config: EngineConfig,
    teams: int = 1,
    skip: Shape = (),
) -> np.ndarray:
    """Products of a kept weight and a non-zero activation in each PE, ``[pes]``, mean of an input.

    Row ``r`` lies in PE ``r mod`` the PEs of a group, or of a team; without a map memory a column
    lies in one group. Teams share the windows of a layer, here evenly.

    Args:
        skip: shape of the map that is the layer's skip, where it has one.

    >>> from pleach.model import Activation
    >>> layer = CompressedLayer("fc", inputs=2, outputs=2, bias=False, positions=[0, 1, 3],
    ...     codes=[0, 0, 0], codebook=[1], shift=0, activation=Activation.NONE, bias_exponent=0,
    ...     output_fraction=0)
    >>> model = CompressedModel((layer,))
    >>> (trace,) = Reference(model).trace(np.array([[5, 0], [1, 1]], np.uint8))
    >>> macs_of_pes(layer, trace, EngineConfig(pes=2)).tolist()
    [1.0, 1.5]
    """
    met = active(layer, trace.inputs.T, trace.skips.T, skip) / len(trace.inputs)
    each = met[layer.column_of]
    if config.maps:
        own = config.pes // teams
        found = np.bincount(layer.row_of % own, each, own) / teams
        return np.tile(found, teams)
    width = config.row_pes
    place = (layer.column_of % config.groups) * width + layer.row_of % width
    return np.bincount(place, each, config.pes)


@dataclass(frozen=True, eq=False)
class Facts:
    """All that a page shows.

    Args:
        file: the file's figures.
        numbers: what its integers stand for.
        graph: name, words and sources of each node; source 0 is the input.
        layers: weights.
        runs: on an engine; None where none runs it.
        data: the data set, on one line; empty without one.
        metric, error: of its test inputs, by the metric's name; None without labels.
        confusion: inputs of each class (row) that were put in each (column); None without classes.
        wrong: numbers of test inputs put in the wrong class, and the class given.
        dense_error: of the network that it was made from; None where that is not given.
        changed: numbers of test inputs of which that network says another class, with its class and
            this one's.
        pictures: of the inputs in `changed`, then in `wrong`, uint8 ``[height, width]``, by number.
        labels: of those.
        stages: what each step of the compression left.
        boards: engines with what they take and the boards that hold them, each a dict of strings.
        made: how to make the page again.
    """

    file: FileReport
    numbers: NumbersReport
    graph: tuple[tuple[str, str, tuple[int, ...]], ...]
    layers: tuple[LayerFacts, ...]
    runs: Runs | None = None
    data: str = ""
    metric: str | None = None
    error: float | None = None
    confusion: np.ndarray | None = None
    wrong: tuple[tuple[int, int], ...] = ()
    dense_error: float | None = None
    changed: tuple[tuple[int, int, int], ...] = ()
    pictures: dict[int, np.ndarray] | None = None
    labels: dict[int, int] | None = None
    stages: tuple[Stage, ...] = ()
    boards: tuple[dict[str, Any], ...] = ()
    made: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        path: str | Path,
        *,
        data: Dataset | None = None,
        engine: EngineConfig | None = None,
        images: int = 10,
        dense: np.ndarray | None = None,
        **rest: Any,
    ) -> Facts:
        """The facts of a file.

        Args:
            data: whose test inputs it is run on; without it nothing is run.
            engine: that runs `images` of them (`Dataset.few`).
            dense: outputs of the network that it was made from, of the test inputs, ``[n,
                outputs]``.
            rest: `stages`, `boards`, `made`.

        Raises:
            FormatError: it is no bitstream.
        """
        path = Path(path)
        model, report = FileReport.of(path.read_bytes(), path)
        about: dict[str, Any] = {
            "file": report,
            "numbers": NumbersReport.of(model),
            "graph": _nodes(model),
            "layers": _layers(model, report),
            **rest,
        }
        if data is None:
            return cls(**about)
        inputs = model.quantise(data.test_images)
        if engine is not None:
            numbers = data.few(images)
            runs = Runs.of(model, inputs[numbers], engine)
            about["runs"] = replace(runs, numbers=tuple(numbers.tolist()))
        return cls(**about, **_answers(model, inputs, data, dense))

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return self.file.as_json() | {
            "numbers": asdict(self.numbers),
            "graph": [
                {"name": name, "computes": said, "sources": list(sources)}
                for name, said, sources in self.graph
            ],
            "codebooks": [
                {
                    "name": layer.name,
                    "values": layer.values.tolist(),
                    "counts": layer.counts.tolist(),
                    "bits": layer.bits,
                }
                for layer in self.layers
            ],
            "runs": None if self.runs is None else self.runs.as_json(),
            "data": self.data,
            "metric": self.metric,
            **({} if self.metric is None else {self.metric: self.error}),
            "dense_error": self.dense_error,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "wrong": [list(each) for each in self.wrong],
            "changed": [list(each) for each in self.changed],
            "stages": [asdict(stage) for stage in self.stages],
            "engines": list(self.boards),
            "made": dict(self.made),
        }


def _nodes(model: CompressedModel) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    parts = model.line.split(" → ")[1:]
    nodes = []
    for node, part in zip(model.graph.nodes, parts, strict=True):
        skip = node.op.skip if isinstance(node.op, CompressedLayer) else None
        said = part.removeprefix(f"{node.name} ")
        if skip is not None:
            said = said.partition(" + ")[0]
        nodes.append((node.name, said, tuple(node.sources)))
    return tuple(nodes)


def _layers(model: CompressedModel, report: FileReport) -> tuple[LayerFacts, ...]:
    said = {name: text for name, text, _ in _nodes(model)}
    found = []
    for layer, row, fraction in zip(
        model.layers, report.layers, model.weight_fractions(), strict=True
    ):
        coded = {
            "weight codes": round(row.weight_bits * layer.kept),
            "gaps": round(row.index_bits * layer.kept),
        }
        rest = 8 * row.bytes - sum(coded.values())
        found.append(
            LayerFacts(
                name=layer.name,
                said=said[layer.name],
                values=np.asarray(layer.codebook, np.int64) / 2.0**fraction,
                counts=np.bincount(layer.codes, minlength=len(layer.codebook)),
                bits=coded | {"tables and fields": rest},
                kept=layer.kept,
                size=layer.size,
            )
        )
    return tuple(found)


def _answers(
    model: CompressedModel, inputs: np.ndarray, data: Dataset, dense: np.ndarray | None
) -> dict[str, Any]:
    """What the reference says of the test inputs, against labels and the dense network."""
    found: dict[str, Any] = {"data": data.describe()}
    labels = data.test_labels
    outputs = model.dequantise(Reference(model).run(inputs))
    if labels is not None:
        metric = for_targets(labels, model.outputs)
        found |= {"metric": metric.name, "error": metric(outputs, labels)}
        if dense is not None:
            found["dense_error"] = metric(dense, labels)
    if data.classes is None:
        return found
    said = classes_of(outputs)
    numbers: list[int] = []
    if dense is not None:
        before = classes_of(dense)
        which = np.flatnonzero(before != said)
        found["changed"] = tuple((int(n), int(before[n]), int(said[n])) for n in which)
        numbers += which.tolist()
    if labels is not None:
        truth = labels.reshape(-1)
        count = max(data.classes, 2 if model.outputs == 1 else model.outputs)
        confusion = np.zeros((count, count), np.int64)
        np.add.at(confusion, (truth, said), 1)
        which = np.flatnonzero(truth != said)
        found |= {
            "confusion": confusion,
            "wrong": tuple((int(n), int(said[n])) for n in which),
            "labels": {int(n): int(truth[n]) for n in (*numbers, *which)},
        }
        numbers += which.tolist()
    image = _image(data)
    if image is not None:
        shown = list(dict.fromkeys(numbers))[: 2 * PICTURES]
        found["pictures"] = {n: image(n) for n in shown}
    return found


def _image(data: Dataset):
    """What makes a grey picture of a test input; None of inputs that are no pictures."""
    shape = data.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        return None
    low, high = float(data.test_images.min()), float(data.test_images.max())

    def picture(number: int) -> np.ndarray:
        values = data.test_images[number].reshape(shape).astype(np.float64)
        values = values.mean(axis=0) if len(shape) == 3 else values
        return np.round(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)

    return picture
