"""The bitstream: `dumps` and `loads`, as docs/bitstream.md has it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pleach.engine import words
from pleach.errors import FormatError, ModelError
from pleach.files import write_whole
from pleach.format import gaps
from pleach.format.fields import LAYERS, Layers, Section, pool_words, section_words
from pleach.format.huffman import HuffmanTable
from pleach.format.old import old_nodes, old_order, unpooled
from pleach.model import (
    CompressedLayer,
    CompressedModel,
    Convolution,
    Graph,
    InputType,
    Node,
    Pool,
    Shape,
    accumulator_bits,
)
from pleach.numbers import CODEBOOK_MAX, SCALED_BITS_MAX
from pleach.text import encodable

_WORD = np.dtype("<u4")


@dataclass(frozen=True)
class LayerSizes:
    """What a layer takes in the file: bytes of its section, bits of its codes and of its gaps."""

    bytes: int
    code_bits: int
    gap_bits: int


def default_names(graph: Graph) -> list[str]:
    """The names of layers where a file gives none: conv1, conv2 …, fc1, fc2 … and pool1 …"""
    counts: dict[str, int] = {}
    names = []
    for node in graph.nodes:
        kind = "pool"
        if isinstance(node.op, CompressedLayer):
            kind = "fc" if node.op.convolution is None else "conv"
        counts[kind] = counts.get(kind, 0) + 1
        names.append(f"{kind}{counts[kind]}")
    return names


# --- writing ---------------------------------------------------------------------------------


def dumps(model: CompressedModel) -> bytes:
    """The bitstream of a model. The same model gives the same bytes.

    Each layer's `accumulator_bits` are the least that it needs, whatever a file claimed.

    Raises:
        ModelError: a layer, or the layers' names, that a section does not hold.
    """
    graph, bits = model.graph, iter(model.accumulator_bits())
    shapes: list[Shape | None] = [None, *graph.shapes()[1:]]
    sections = []
    for number, node in enumerate(graph.nodes, start=1):
        before = shapes[number - 1]
        if isinstance(node.op, CompressedLayer):
            sources = None if node.sources == (number - 1,) else node.sources
            sections.append(_layer_section(node.op, next(bits), before, sources))
        else:
            short, packed = pool_words(node.op, before, node.sources[0], number)
            kind = words.SECTION_POOL | words.SHORT * short
            sections.append(_section(kind, _bytes(packed)))
    names = [node.name for node in graph.nodes]
    if names != default_names(graph) or model.output_exponents:
        meta: dict[str, Sequence[str | int]] = {"layers": names}
        if model.output_exponents:
            meta["output_exponents"] = model.output_exponents
        text = json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > words.MAX_PAYLOAD:
            raise ModelError(
                f"the layers' names take {len(text):,} bytes, the file has not as many"
            )
        sections.append(_section(words.SECTION_META, text + b" " * (-len(text) % 4)))
    body = b"".join(sections)
    info = words.HEADER_INFO.pack(
        version=words.VERSION,
        layers=len(graph.nodes),
        input_type=model.input_type,
        input_fraction=model.input_fraction & 0xFF,
    )
    length = words.HEADER_WORDS + len(body) // 4
    header = _bytes([words.MAGIC, info, length, model.original])
    return header + _bytes([zlib.crc32(header)]) + body


def _bytes(values) -> bytes:
    return np.asarray(values, _WORD).tobytes()


def _section(kind: int, payload: bytes) -> bytes:
    checked = _bytes([words.SECTION_HEAD.pack(type=kind, length=len(payload) // 4)]) + payload
    return checked + _bytes([zlib.crc32(checked)])


@dataclass(frozen=True)
class Coding:
    """A layer's entries as they are coded: two Huffman tables, what their code numbers stand for,
    and the data words."""

    gap_table: HuffmanTable
    gap_order: np.ndarray
    code_table: HuffmanTable
    code_order: np.ndarray
    data: np.ndarray

    @classmethod
    def of(cls, layer: CompressedLayer) -> Coding:
        """The best code of a layer that has entries."""
        from pleach.format import interleave

        gap_counts = interleave.count(layer.positions)
        table, order = HuffmanTable.build(gap_counts, limit=words.MAX_GAP_LENGTH)
        gap_table, gap_order = HuffmanTable.from_lengths(table.lengths(order, gaps.CLASSES))
        gap_codes, gap_lengths = _by_symbol(gap_table, gap_order, gaps.CLASSES)
        code_counts = interleave.count_codes(layer.codes)
        code_table, code_order = min(
            (HuffmanTable.build(code_counts, limit=limit) for limit in _limits(code_counts)),
            key=lambda built: (
                8 * len(built[0].stored) + built[0].codes()[1] @ code_counts[built[1]]
            ),
        )
        codes, lengths = _by_symbol(code_table, code_order, CODEBOOK_MAX)
        size = int(gap_counts @ (gap_lengths + gaps.EXTRA_BITS) + code_counts @ lengths)
        _check_payload(layer, -(-size // 8))
        data = interleave.encode(
            layer.positions, layer.codes, size,
            gap_codes, gap_lengths, gap_table.length, codes, lengths, code_table.length,
        )  # fmt: skip
        return cls(gap_table, gap_order, code_table, code_order, data)


def _limits(counts: np.ndarray) -> range:
    """Limits of the code length that an alphabet can have."""
    return range((int(np.count_nonzero(counts)) - 1).bit_length() or 1, words.MAX_CODE_LENGTH + 1)


def _check_payload(layer: CompressedLayer, size: int) -> None:
    if size > words.MAX_PAYLOAD:
        raise ModelError(
            f"layer {layer.name!r}: its {layer.kept:,} weights take {size:,} bytes, the file holds "
            f"{words.MAX_PAYLOAD:,} of a layer: prune more of it, or share fewer values"
        )


def _layer_section(
    layer: CompressedLayer,
    accumulator_bits: int,
    before: Shape | None,
    sources: tuple[int, ...] | None,
) -> bytes:
    """A LAYER or a CONV.

    Args:
        before: the shape of what the section before gives; None of the first.
        sources: where they are not the section before alone.
    """
    if layer.scales is not None and accumulator_bits > SCALED_BITS_MAX:
        raise ModelError(
            f"layer {layer.name!r}: it has scales and needs accumulators of {accumulator_bits} "
            f"bits, {SCALED_BITS_MAX} are the most before scales"
        )
    tables = dict.fromkeys(("codebook_size", "code_length", "gap_classes", "gap_length"), 0)
    tables["narrow"] = False
    if layer.kept:
        coding = Coding.of(layer)
        codebook = layer.codebook[coding.code_order]
        tables = {
            "codebook_size": coding.code_table.size,
            "code_length": coding.code_table.length,
            "gap_classes": int(coding.gap_order.max()) + 1,
            "gap_length": coding.gap_table.length,
            "narrow": -128 <= codebook.min() and codebook.max() <= 127,
        }
    fields = {
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "entries": layer.kept,
        "shift": layer.shift,
        "bias": layer.bias,
        "bias_exponent": layer.bias_exponent,
        "accumulator_bits": accumulator_bits,
        "scaled": layer.scales is not None,
        "output_fraction": layer.output_fraction & 0xFF,
    } | tables
    short, packed = section_words(
        fields, layer.activation, before, layer.convolution, layer.skip, sources
    )
    kind = words.SECTION_LAYER if layer.convolution is None else words.SECTION_CONV
    payload = _bytes(packed)
    if layer.kept:
        classes = 2 * -(-tables["gap_classes"] // 2)
        gap_lengths = coding.gap_table.lengths(coding.gap_order, classes)
        stored = (
            coding.code_table.stored
            + (gap_lengths[0::2] | gap_lengths[1::2] << 4).tobytes()
            + codebook.astype("i1" if tables["narrow"] else "<i2").tobytes()
        )
        payload += stored + b"\0" * (-len(stored) % 4)
        if layer.scales is not None:
            scales = layer.scales.astype("<i2").tobytes()
            payload += scales + b"\0" * (-len(scales) % 4)
        payload += coding.data.astype(_WORD).tobytes()
        # So that a reader can bound the entries by the section's length before it believes them.
        payload = payload.ljust(4 * -(-layer.kept // 32), b"\0")
        _check_payload(layer, len(payload))
    return _section(kind | words.SHORT * short, payload)


def _by_symbol(table: HuffmanTable, order: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Code and length of each symbol, int64 ``[size]``."""
    by_symbol = np.zeros((2, size), np.int64)
    by_symbol[:, order] = table.codes()
    return by_symbol[0], by_symbol[1]


def save(model: CompressedModel, path: str | Path) -> Path:
    """Write the bitstream of ``model``; the file appears whole or not at all."""
    return write_whole(path, dumps(model))


# --- reading ---------------------------------------------------------------------------------


def load(path: str | Path) -> CompressedModel:
    """Read a bitstream from a file.

    Raises:
        FormatError: see `loads`.
        OSError: the file cannot be read.
    """
    with naming(path):
        return loads(Path(path).read_bytes())


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Whatever a reader finds wrong in this block is said to be in that file."""
    try:
        yield
    except FormatError as error:
        error.args = (f"{path}: {error}",)
        raise


def loads(data: bytes) -> CompressedModel:
    """The model of a bitstream.

    Memory stays in proportion to ``len(data)``, whatever the fields claim.

    Raises:
        FormatError: what docs/bitstream.md refuses, with the byte offset or the layer.
    """
    return parse(data)[0]


def parse(data: bytes) -> tuple[CompressedModel, list[LayerSizes]]:
    """As `loads`, with what each layer with weights takes in the file."""
    info = _read_header(data)
    file = _File(info, Layers(info["version"]))
    meta, meta_offset = Meta(), 12
    offset = 4 * words.HEADER_WORDS
    while offset < len(data):
        kind, payload = _read_section(data, offset)
        if is_layer(kind, info["version"]):
            file.add(kind, payload, offset)
        elif kind == words.SECTION_META:
            meta_offset, meta = offset + 4, _read_meta(payload, offset + 4)
        elif kind < 128:
            raise FormatError(f"unknown section type {kind}", offset)
        offset += len(payload) + 8
    if file.count != info["layers"]:
        raise FormatError(f"{file.count} of the {info['layers']} layers of the header", offset)
    return file.model(meta, meta_offset), file.sizes


def is_layer(kind: int, version: int) -> bool:
    """Whether a section of that type is one of the layers that the header counts."""
    if version == words.VERSIONS[0]:
        return kind in (words.SECTION_LAYER, words.SECTION_CONV)
    return kind in LAYERS


class _File:
    """What is read of a file while its sections come one after the other."""

    def __init__(self, info: dict[str, int], known: Layers):
        self._info, self._known = info, known
        self._type = InputType(info["input_type"])
        self._magnitudes = [self._type.magnitude]
        self._old = info["version"] == words.VERSIONS[0]
        self._geometries: list[Convolution | None] = []
        self._nodes: list[Node] = []
        self.sizes: list[LayerSizes] = []
        self.count = 0

    def add(self, kind: int, payload: bytes, offset: int) -> None:
        """The section of a layer."""
        if self.count == self._info["layers"]:
            raise FormatError(f"more than the {self.count} layers of the header", offset)
        self.count += 1
        name = f"layer {self.count}"
        section = self._known.read(kind, payload, name, offset + 4)
        magnitudes = [self._magnitudes[source] for source in section.sources]
        op: CompressedLayer | Pool | None = section.operator
        if op is None:
            given = self._known.shapes[section.sources[0]] if self._old else None
            op, code_bits, gap_bits = _read_layer(
                section, payload, name, offset + 4, magnitudes, given
            )
            self._geometries.append(section.convolution)
            self.sizes.append(LayerSizes(len(payload) + 8, code_bits, gap_bits))
        self._magnitudes.append(op.out_magnitude(*magnitudes))
        self._nodes.append(Node(name, op, section.sources))

    def model(self, meta: Meta, offset: int) -> CompressedModel:
        """The network; `offset` is where META is in the file."""
        old, nodes = self._old, self._nodes
        if old:
            nodes = old_nodes([node.op for node in nodes], self._geometries)
        graph = Graph(tuple(nodes), self._known.shapes[0])
        names = default_names(graph)
        if meta.layers is not None:
            if len(meta.layers) != self.count:
                raise FormatError(f"META names {len(meta.layers)} layers of {self.count}", offset)
            # Of a file of version 2 a pooling may have been made that has no name there.
            given = iter(meta.layers)
            names = [
                next(given) if isinstance(node.op, CompressedLayer) or not old else name
                for node, name in zip(nodes, names, strict=True)
            ]
        named = [
            replace(
                node,
                name=name,
                op=replace(node.op, name=name) if isinstance(node.op, CompressedLayer) else node.op,
            )
            for node, name in zip(nodes, names, strict=True)
        ]
        fraction = words.signed8(self._info["input_fraction"])
        try:
            model = CompressedModel.of(
                replace(graph, nodes=tuple(named)),
                input_type=self._type,
                input_fraction=fraction,
            )
        except ModelError as error:
            raise FormatError(str(error), 4 * words.HEADER_WORDS) from error
        try:
            model = replace(model, original=self._info["original"])
        except ModelError as error:
            raise FormatError(str(error), 12) from error
        try:
            return replace(model, output_exponents=meta.exponents)
        except ModelError as error:
            raise FormatError(f"META: {error}", offset) from error


def _read_header(data: bytes) -> dict[str, int]:
    if len(data) < 4 * words.HEADER_WORDS:
        raise FormatError(f"{len(data)} bytes are less than a header; is the file truncated?", 0)
    magic, info, length, original, crc = np.frombuffer(data, _WORD, words.HEADER_WORDS).tolist()
    if magic != words.MAGIC:
        raise FormatError(
            "not a Pleach bitstream, which pleach compress writes: it does not begin with PLCH", 0
        )
    version = info & 0xFF
    if version not in words.VERSIONS:
        raise FormatError(
            f"version {version}; this reader knows versions "
            f"{' and '.join(map(str, words.VERSIONS))}",
            4,
        )
    if zlib.crc32(data[:16]) != crc:
        raise FormatError("header CRC does not match; the file is damaged", 16)
    if info & words.HEADER_INFO.reserved():
        raise FormatError("reserved header bits are set", 4)
    if 4 * length != len(data):
        raise FormatError(
            f"the header says {4 * length} bytes, the file has {len(data)}; "
            + ("is it truncated?" if len(data) < 4 * length else "what is behind them?"),
            8,
        )
    fields = words.HEADER_INFO.unpack(info)
    if not fields["layers"]:
        raise FormatError("the header says 0 layers", 4)
    return fields | {"original": original}


def _read_section(data: bytes, offset: int) -> tuple[int, bytes]:
    (head,) = np.frombuffer(data, _WORD, 1, offset).tolist()
    fields = words.SECTION_HEAD.unpack(head)
    end = offset + 4 + 4 * fields["length"]
    if end + 4 > len(data):
        raise FormatError(
            f"a section of {fields['length']} words reaches past the end of the file", offset
        )
    (crc,) = np.frombuffer(data, _WORD, 1, end).tolist()
    if zlib.crc32(data[offset:end]) != crc:
        raise FormatError("section CRC does not match; the file is damaged", end)
    return fields["type"], data[offset + 4 : end]


@dataclass(frozen=True)
class Meta:
    """What META says: names of the layers, where it has them, and the outputs' exponents."""

    layers: list[str] | None = None
    exponents: tuple[int, ...] = ()


def _read_meta(payload: bytes, offset: int) -> Meta:
    try:
        meta = json.loads(payload.decode("utf-8"))
        names, exponents = meta["layers"], meta.get("output_exponents", [])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("META is no JSON object with `layers`", offset) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError("META `layers` is no list of names", offset)
    for name in names:
        if not encodable(name):
            raise FormatError(f"META: {name!r} is no text that UTF-8 can write", offset)
    if not isinstance(exponents, list) or not all(type(each) is int for each in exponents):
        raise FormatError("META `output_exponents` is no list of whole numbers", offset)
    return Meta(names, tuple(exponents))


def _read_layer(
    section: Section,
    payload: bytes,
    name: str,
    offset: int,
    magnitudes: Sequence[int],
    given: Shape | None,
) -> tuple[CompressedLayer, int, int]:
    """One layer, the bits of its codes and of its gaps.

    ``offset`` is the payload's in the file, ``magnitudes`` the largest of each source's values;
    ``given``, of a file of version 2 alone, is the shape of what comes before the layer.
    """
    from pleach.format import interleave

    fields = section.fields

    def refuse(message: str, at: int = 0):
        raise FormatError(f"{name}: {message}", offset + at)

    shape = {
        "name": name,
        "inputs": fields["inputs"],
        "outputs": fields["outputs"],
        "bias": bool(fields["bias"]),
        "shift": fields["shift"],
        "activation": section.activation,
        "bias_exponent": fields["bias_exponent"],
        "output_fraction": words.signed8(fields["output_fraction"]),
        # Of version 2, whose poolings may have a stride of their own: see `old_nodes`.
        "convolution": unpooled(section.convolution),
        "skip": section.skip,
    }

    def claimed(layer: CompressedLayer) -> CompressedLayer:
        claim, need = fields["accumulator_bits"], accumulator_bits(layer, *magnitudes)
        if claim < need:
            refuse(f"claims accumulators of {claim} bits, it needs {need}", 8)
        return replace(layer, claimed_bits=claim) if claim > need else layer

    entries, count = fields["entries"], section.words
    nothing = np.zeros(0, np.int64)
    try:
        empty = CompressedLayer(positions=nothing, codes=nothing, codebook=nothing, **shape)
    except ModelError as error:
        refuse(str(error))
    size = empty.places
    if not entries:
        return claimed(empty), 0, 0
    codebook_size, code_length, gap_classes, gap_length = (
        fields[name] for name in ("codebook_size", "code_length", "gap_classes", "gap_length")
    )
    narrow = fields["narrow"]
    parts, at = [], 4 * count
    width = 1 if narrow else 2
    for length in (max(code_length - 1, 0), -(-gap_classes // 2), width * codebook_size):
        parts.append(payload[at : at + length])
        at += length
    if at > len(payload):
        refuse("its tables reach past the section", 12)
    code_counts, gap_lengths, codebook = parts
    nibbles = np.frombuffer(gap_lengths, np.uint8)
    gap_lengths = np.stack([nibbles & 15, nibbles >> 4], axis=1).ravel()
    try:
        code_table = HuffmanTable.from_counts(codebook_size, code_length, code_counts)
        gap_table, gap_order = HuffmanTable.from_lengths(gap_lengths)
    except FormatError as error:
        refuse(str(error), 4 * count)
    if (gap_order.max(initial=-1) + 1, gap_table.length) != (gap_classes, gap_length):
        refuse("its gap table is not of the size that it claims", 12)
    at += -at % 4
    scales = None
    if fields.get("scaled"):
        rows = fields["outputs"]
        if at + 2 * rows > len(payload):
            refuse("its scales reach past the section", 12)
        scales = np.frombuffer(payload, "<i2", rows, at)
        at += 4 * -(-rows // 2)
    data = np.frombuffer(payload, _WORD)[at // 4 :]
    outcome, positions, codes, gap_bits, code_bits = interleave.decode(
        data, entries, size, gap_table.lookup(gap_order), gap_length,
        code_table.lookup(np.arange(codebook_size)), code_length,
    )  # fmt: skip
    if outcome == interleave.OUT_OF_DATA:
        refuse("the data run out before the last entry", len(payload))
    if outcome == interleave.OUT_OF_LAYER:
        refuse("an entry outside the layer")
    values = np.frombuffer(codebook, "i1" if narrow else "<i2")
    layer = replace(empty, positions=positions, codes=codes, codebook=values, scales=scales)
    if given is not None:
        layer = old_order(layer, given)
    return claimed(layer), code_bits, gap_bits
