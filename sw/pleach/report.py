"""What there is to say of a bitstream and of the way to it: what it takes, layer by layer, in the
columns of Deep Compression's tables, what it would take at least, what each stage left of the
network, what its integers stand for and what it answers. Data; who shows it is elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pleach.data import Dataset
from pleach.format import LayerSizes, naming, parse
from pleach.metrics import classes_of, for_targets
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference import Reference
from pleach.text import html_table

#: width of a relative index in the paper's tables of LeNet and VGG-16
PAPER_INDEX_BITS = 5


@dataclass(frozen=True)
class LayerReport:
    """A layer's row (Deep Compression, tables 4 to 6). Biases count as weights.

    ``weight_bits`` and ``index_bits`` are means per kept weight as coded in the file; ``bytes`` is
    the layer's section. ``rate`` is that in per cent of the dense float32 layer; the figures named
    ``fixed_`` are those before Huffman coding, codes and indexes of fixed width with the paper's
    filler zeros. ``shape`` is that of the torch weight: ``(outputs, inputs)`` or ``(outputs,
    channels / groups, kernel_height, kernel_width)``. ``bound_bytes`` is the layer's part of
    `entropy_bound`.
    """

    name: str
    shape: tuple[int, ...]
    kept: int
    density: float
    codebook_size: int
    weight_bits: float
    index_bits: float
    bytes: int
    rate: float
    fixed_weight_bits: int
    fixed_index_bits: int
    fixed_rate: float
    bound_bytes: float


@dataclass(frozen=True)
class FileReport:
    """A bitstream as a file: its bytes against those of the dense float32 network, and its layers.

    ``sha256`` is of the file's bytes.
    """

    file: str
    sha256: str
    file_bytes: int
    dense_bytes: int
    layers: tuple[LayerReport, ...]

    @classmethod
    def of(cls, data: bytes, file: str | Path) -> tuple[CompressedModel, FileReport]:
        """The model in a file's bytes, and its report.

        Raises:
            FormatError: they are no bitstream; names `file`.
        """
        with naming(file):
            model, sizes = parse(data)
        digest = sha256(data).hexdigest()
        layers = tuple(layer_reports(model, sizes))
        return model, cls(str(file), digest, len(data), model.dense_bytes, layers)

    @property
    def ratio(self) -> float:
        """How many times smaller than the dense network."""
        return self.dense_bytes / self.file_bytes

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "file_bytes": self.file_bytes,
            "dense_bytes": self.dense_bytes,
            "ratio": self.ratio,
            "layers": [asdict(layer) for layer in self.layers],
        }

    def _repr_html_(self) -> str:
        """For a notebook: the file, and its layers in a table."""
        rows = [
            (
                row.name, f"{row.kept:,}", f"{100 * row.density:.1f}", row.codebook_size,
                f"{row.weight_bits:.2f}", f"{row.index_bits:.2f}", f"{row.bytes:,}",
            )
            for row in self.layers
        ]  # fmt: skip
        columns = ("layer", "kept", "kept, %", "codebook", "bits a weight", "bits a gap", "bytes")
        title = f"{self.file}: {self.file_bytes:,} bytes, {self.ratio:.1f}× smaller"
        return html_table(title, columns, rows)


@dataclass(frozen=True)
class Stage:
    """How the network stands after a step.

    Args:
        name: ``dense``, the name of a step, ``pruned`` or ``shared``, or ``fixed point``.
        error: the metric's figure of the validation inputs, for classes per cent wrong; None
            without them.
        kept: share of the network's weights and biases that are not zero.
        seconds: that the step took.
        metric: name of that figure, ``error_pct`` for classes.
    """

    name: str
    error: float | None
    kept: float
    seconds: float
    metric: str = "error_pct"


@dataclass(frozen=True)
class CompressionReport:
    """What a compression made, and what each of its stages left."""

    file: FileReport
    stages: tuple[Stage, ...]

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return self.file.as_json() | {"stages": [asdict(stage) for stage in self.stages]}

    def _repr_html_(self) -> str:
        """For a notebook: the file, and what each stage left."""
        rows = [
            (
                stage.name, "" if stage.error is None else f"{stage.error:.4g}", stage.metric,
                f"{100 * stage.kept:.2f}", f"{stage.seconds:.1f}",
            )
            for stage in self.stages
        ]  # fmt: skip
        columns = ("stage", "error", "metric", "kept, %", "seconds")
        return self.file._repr_html_() + html_table("Stages", columns, rows)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> CompressionReport:
        """What `as_json` gave."""
        layers = [LayerReport(**row | {"shape": tuple(row["shape"])}) for row in found["layers"]]
        file = FileReport(
            file=found["file"],
            sha256=found["sha256"],
            file_bytes=found["file_bytes"],
            dense_bytes=found["dense_bytes"],
            layers=tuple(layers),
        )
        return cls(file, tuple(Stage(**stage) for stage in found["stages"]))


@dataclass(frozen=True)
class NumbersReport:
    """What a network's integers stand for: the value is the integer over 2 to the fraction.

    ``layer_fractions`` are of each layer's outputs but for exponents of the last one's, which
    ``output_fractions`` have, one an output.
    """

    network: str
    inputs: int
    outputs: int
    input_type: str
    input_fraction: int
    weight_fractions: list[int]
    layer_fractions: list[int]
    output_fractions: list[int]
    accumulator_bits: int

    @classmethod
    def of(cls, model: CompressedModel) -> NumbersReport:
        return cls(
            network=model.line,
            inputs=model.inputs,
            outputs=model.outputs,
            input_type=model.input_type.name.lower(),
            input_fraction=model.input_fraction,
            weight_fractions=model.weight_fractions(),
            layer_fractions=[layer.output_fraction for layer in model.layers],
            output_fractions=model.output_fractions,
            accumulator_bits=max(model.accumulator_bits()),
        )


@dataclass(frozen=True)
class Answers:
    """What a network answers to inputs: classes where the labels are classes, else real numbers.

    Args:
        predictions: class of each input; None of numbers.
        outputs: of each input; None of classes.
        metric: name of the figure; None without labels.
        error: the figure itself.
    """

    predictions: list[int] | None = None
    outputs: list[list[float]] | None = None
    metric: str | None = None
    error: float | None = None

    @classmethod
    def of(
        cls,
        model: CompressedModel,
        inputs: np.ndarray,
        data: Dataset,
        loss: str | None = None,
        numbers: np.ndarray | None = None,
    ) -> Answers:
        """The reference's answers, which are the engine's.

        Args:
            inputs: integers, ``[n, inputs]``.
            data: where the inputs are from: of its test inputs, where it has labels,
            numbers: those of these numbers; by default the first.
            loss: that the labels are for, where they do not tell.
        """
        labels = data.test_labels
        which = slice(len(inputs)) if numbers is None else numbers
        real = model.dequantise(Reference(model).run(inputs))
        metric = error = None
        if labels is not None:
            figure = for_targets(labels, model.outputs, loss)
            metric, error = figure.name, figure(real, labels[which])
        if data.classes is None:
            return cls(outputs=real.tolist(), metric=metric, error=error)
        return cls(predictions=classes_of(real).tolist(), metric=metric, error=error)

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        found: dict[str, Any] = {"predictions": self.predictions, "outputs": self.outputs}
        found = {name: values for name, values in found.items() if values is not None}
        if self.metric is not None:
            found |= {"metric": self.metric, self.metric: self.error}
        return found


def layer_reports(model: CompressedModel, sizes: list[LayerSizes]) -> list[LayerReport]:
    """A row for each layer of a file as `pleach.format.parse` gives it."""
    return [_row(layer, size) for layer, size in zip(model.layers, sizes, strict=True)]


def entropy_bound(model: CompressedModel) -> float:
    """Bytes that no code of single symbols can undercut for these layers and codebooks.

    The empirical zero-order entropy of each layer's codes and of its gaps, each number of positions
    between two kept weights one symbol however large, column-major; and 16 bits for each value of
    the codebooks. Headers, tables and what the symbols say about each other are left out.

    >>> from pleach.model import Activation
    >>> layer = CompressedLayer("fc1", inputs=4, outputs=2, bias=False, positions=[0, 2, 4, 6],
    ...     codes=[0, 1, 0, 1], codebook=[-3, 5], shift=0, activation=Activation.NONE,
    ...     bias_exponent=0, output_fraction=0)
    >>> round(8 * entropy_bound(CompressedModel((layer,))), 2)  # 4 · 1 + 4 · 0.81 + 2 · 16
    39.25
    """
    return sum(_bound(layer) for layer in model.layers)


def _bound(layer: CompressedLayer) -> float:
    gaps = np.diff(layer.positions, prepend=-1)
    bits = _entropy_bits(layer.codes) + _entropy_bits(gaps) + 16 * len(layer.codebook)
    return bits / 8


def _entropy_bits(symbols: np.ndarray) -> float:
    """Bits of all of `symbols` at their own zero-order entropy."""
    _, counts = np.unique(symbols, return_counts=True)
    return float(counts @ np.log2(len(symbols) / counts))


def _row(layer: CompressedLayer, size: LayerSizes) -> LayerReport:
    dense_bits = 32 * layer.size
    kept = max(layer.kept, 1)
    code_bits = max(1, (max(len(layer.codebook), 1) - 1).bit_length())
    # A filler for each whole run of as many zeros as an index has values.
    zeros = np.diff(layer.positions, prepend=-1) - 1
    entries = layer.kept + int((zeros >> PAPER_INDEX_BITS).sum())
    fixed_bits = entries * (code_bits + PAPER_INDEX_BITS) + 32 * len(layer.codebook)
    return LayerReport(
        name=layer.name,
        shape=layer.shape,
        kept=layer.kept,
        density=layer.density,
        codebook_size=len(layer.codebook),
        weight_bits=size.code_bits / kept,
        index_bits=size.gap_bits / kept,
        bytes=size.bytes,
        rate=100 * 8 * size.bytes / dense_bits,
        fixed_weight_bits=code_bits,
        fixed_index_bits=PAPER_INDEX_BITS,
        fixed_rate=100 * fixed_bits / dense_bits,
        bound_bytes=_bound(layer),
    )
