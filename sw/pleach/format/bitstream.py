"""The bitstream: `dumps` and `loads`, as docs/bitstream.md has it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pleach.engine import words
from pleach.errors import FormatError, ModelError
from pleach.files import write_whole
from pleach.format import gaps
from pleach.format.graph import default_node_names, graph_payload, named, read_graph
from pleach.format.huffman import HuffmanTable
from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    Graph,
    InputType,
    Node,
    accumulator_bits,
)
from pleach.numbers import CODEBOOK_MAX, EXPONENT_MAX, SHIFT_MAX, SIZE_MAX
from pleach.text import encodable

_WORD = np.dtype("<u4")


@dataclass(frozen=True)
class LayerSizes:
    """What a layer takes in the file: bytes of its section, bits of its codes and of its gaps."""

    bytes: int
    code_bits: int
    gap_bits: int


def default_names(layers: Sequence[CompressedLayer]) -> list[str]:
    """The names of layers where a file gives none: conv1, conv2 … and fc1, fc2 …"""
    counts: dict[str, int] = {}
    names = []
    for layer in layers:
        kind = "fc" if layer.convolution is None else "conv"
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
    sections = [
        _section(
            words.SECTION_LAYER if layer.convolution is None else words.SECTION_CONV,
            _layer_payload(layer, bits),
        )
        for layer, bits in zip(model.layers, model.accumulator_bits(), strict=True)
    ]
    names = [layer.name for layer in model.layers]
    nodes: list[str] = []
    if model.joints is not None:
        sections.insert(0, _section(words.SECTION_GRAPH, graph_payload(model.joints)))
        nodes = [node.name for node in model.joints.nodes if node.op is not None]
    own = model.joints is not None and nodes != default_node_names(model.joints)
    if names != default_names(model.layers) or model.output_exponents or own:
        meta: dict[str, Sequence[str | int]] = {"layers": names}
        if model.output_exponents:
            meta["output_exponents"] = model.output_exponents
        if own:
            meta["nodes"] = nodes
        text = json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > words.MAX_PAYLOAD:
            raise ModelError(
                f"the layers' names take {len(text):,} bytes, the file has not as many"
            )
        sections.append(_section(words.SECTION_META, text + b" " * (-len(text) % 4)))
    body = b"".join(sections)
    info = words.HEADER_INFO.pack(
        version=words.VERSION,
        layers=len(model.layers),
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


def _layer_payload(layer: CompressedLayer, accumulator_bits: int) -> bytes:
    tables = dict.fromkeys(words.LAYER_WORDS[3].fields, 0)
    if layer.kept:
        coding = Coding.of(layer)
        codebook = layer.codebook[coding.code_order]
        narrow = -128 <= codebook.min() and codebook.max() <= 127
        tables = {
            "codebook_size": coding.code_table.size,
            "code_length": coding.code_table.length,
            "gap_classes": int(coding.gap_order.max()) + 1,
            "gap_length": coding.gap_table.length,
            "narrow": narrow,
        }
    head = [
        {"inputs": layer.inputs, "outputs": layer.outputs},
        {"entries": layer.kept},
        {
            "shift": layer.shift,
            "activation": layer.activation,
            "bias": layer.bias,
            "bias_exponent": layer.bias_exponent,
            "accumulator_bits": accumulator_bits,
            "output_fraction": layer.output_fraction & 0xFF,
        },
        tables,
    ]
    layout = words.LAYER_WORDS
    if layer.convolution is not None:
        geometry = asdict(layer.convolution)
        layout += words.CONV_WORDS
        head += [{name: geometry[name] for name in word.fields} for word in words.CONV_WORDS]
    payload = _bytes([w.pack(**f) for w, f in zip(layout, head, strict=True)])
    if not layer.kept:
        return payload
    gap_lengths = coding.gap_table.lengths(coding.gap_order, 2 * -(-tables["gap_classes"] // 2))
    stored = (
        coding.code_table.stored
        + (gap_lengths[0::2] | gap_lengths[1::2] << 4).tobytes()
        + codebook.astype("i1" if narrow else "<i2").tobytes()
    )
    payload += stored + b"\0" * (-len(stored) % 4) + coding.data.astype(_WORD).tobytes()
    # So that a reader can bound the entries by the section's length before it believes them.
    payload = payload.ljust(4 * -(-layer.kept // 32), b"\0")
    _check_payload(layer, len(payload))
    return payload


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
    """As `loads`, with what each layer takes in the file."""
    info = _read_header(data)
    input_type = InputType(info["input_type"])
    layers: list[CompressedLayer] = []
    sizes: list[LayerSizes] = []
    meta, meta_offset = Meta(), 12
    joints: Graph | None = None
    chain = tuple(Node("", None, (number,)) for number in range(info["layers"]))
    taken = _Taken(chain, input_type.magnitude)
    first = offset = 4 * words.HEADER_WORDS
    while offset < len(data):
        kind, payload = _read_section(data, offset)
        if kind == words.SECTION_GRAPH:
            if offset != first:
                raise FormatError("a GRAPH that is not the first section", offset)
            joints = read_graph(payload, offset + 4)
            if (count := sum(node.op is None for node in joints.nodes)) != info["layers"]:
                raise FormatError(
                    f"GRAPH: {count} of the {info['layers']} layers of the header", offset + 4
                )
            taken = _Taken(joints.nodes, input_type.magnitude)
        elif kind in (words.SECTION_LAYER, words.SECTION_CONV):
            if len(layers) == info["layers"]:
                raise FormatError(f"more than the {info['layers']} layers of the header", offset)
            name = f"layer {len(layers) + 1}"
            magnitude = taken.by_next()
            layer, code_bits, gap_bits = _read_layer(kind, payload, name, offset + 4, magnitude)
            taken.add(layer)
            if joints is None and layers and layer.values_in != layers[-1].values_out:
                raise FormatError(
                    f"{name} takes {layer.values_in} inputs, "
                    f"the one before gives {layers[-1].values_out}",
                    offset + 4,
                )
            layers.append(layer)
            sizes.append(LayerSizes(len(payload) + 8, code_bits, gap_bits))
        elif kind == words.SECTION_META:
            meta_offset, meta = offset + 4, _read_meta(payload, offset + 4)
        elif kind < 128:
            raise FormatError(f"unknown section type {kind}", offset)
        offset += len(payload) + 8
    if len(layers) != info["layers"]:
        raise FormatError(f"{len(layers)} of the {info['layers']} layers of the header", offset)
    names = default_names(layers) if meta.layers is None else meta.layers
    if len(names) != len(layers):
        raise FormatError(f"META names {len(names)} layers of {len(layers)}", meta_offset)
    layers = [replace(layer, name=name) for layer, name in zip(layers, names, strict=True)]
    fraction = words.signed8(info["input_fraction"])
    if joints is not None and meta.nodes is not None:
        if len(meta.nodes) != len(joints.nodes) - len(layers):
            raise FormatError(f"META names {len(meta.nodes)} nodes that are no layers", meta_offset)
        joints = named(joints, meta.nodes)
    try:
        model = CompressedModel(tuple(layers), input_type, fraction, joints=joints)
    except ModelError as error:
        raise FormatError(f"GRAPH: {error}", first + 4) from error
    try:
        model = replace(model, original=info["original"])
    except ModelError as error:
        raise FormatError(str(error), 12) from error
    try:
        return replace(model, output_exponents=meta.exponents), sizes
    except ModelError as error:
        raise FormatError(f"META: {error}", meta_offset) from error


class _Taken:
    """The largest magnitude of what each layer takes, while the layers come one after the other."""

    def __init__(self, nodes: tuple[Node, ...], of_input: int):
        self._nodes, self._given = iter(nodes), [of_input]

    def by_next(self) -> int:
        """Of what the next layer takes."""
        for node in self._nodes:
            magnitudes = [self._given[source] for source in node.sources]
            if node.op is None:
                return magnitudes[0]
            self._given.append(node.op.out_magnitude(*magnitudes))
        raise AssertionError("more layers than nodes for them")

    def add(self, layer: CompressedLayer) -> None:
        """That layer is read."""
        self._given.append(layer.out_magnitude())


def _read_header(data: bytes) -> dict[str, int]:
    if len(data) < 4 * words.HEADER_WORDS:
        raise FormatError(f"{len(data)} bytes are less than a header; is the file truncated?", 0)
    magic, info, length, original, crc = np.frombuffer(data, _WORD, words.HEADER_WORDS).tolist()
    if magic != words.MAGIC:
        raise FormatError("not a Pleach bitstream: the file does not begin with PLCH", 0)
    version = info & 0xFF
    if version != words.VERSION:
        raise FormatError(f"version {version}; this reader knows version {words.VERSION}", 4)
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
    """What META says: names of the layers and of the nodes that are none, where it has them, and
    the outputs' exponents."""

    layers: list[str] | None = None
    nodes: list[str] | None = None
    exponents: tuple[int, ...] = ()


def _read_meta(payload: bytes, offset: int) -> Meta:
    try:
        meta = json.loads(payload.decode("utf-8"))
        names, exponents = meta["layers"], meta.get("output_exponents", [])
        nodes = meta.get("nodes")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("META is no JSON object with `layers`", offset) from error
    for key, found in (("layers", names), ("nodes", [] if nodes is None else nodes)):
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise FormatError(f"META `{key}` is no list of names", offset)
        for name in found:
            if not encodable(name):
                raise FormatError(f"META: {name!r} is no text that UTF-8 can write", offset)
    if not isinstance(exponents, list) or not all(type(each) is int for each in exponents):
        raise FormatError("META `output_exponents` is no list of whole numbers", offset)
    return Meta(names, nodes, tuple(exponents))


def _read_layer(
    kind: int, payload: bytes, name: str, offset: int, magnitude: int
) -> tuple[CompressedLayer, int, int]:
    """One layer, the bits of its codes and of its gaps.

    ``offset`` is the payload's in the file, ``magnitude`` the largest of the layer's inputs.
    """
    from pleach.format import interleave

    def refuse(message: str, at: int = 0):
        raise FormatError(f"{name}: {message}", offset + at)

    layout = words.LAYER_WORDS + (words.CONV_WORDS if kind == words.SECTION_CONV else ())
    count = len(layout)
    if len(payload) < 4 * count:
        refuse(f"a payload of {len(payload)} bytes")
    fields: dict[str, int] = {}
    for index, word in enumerate(np.frombuffer(payload, _WORD, count).tolist()):
        if word & layout[index].reserved():
            refuse("reserved bits are set", 4 * index)
        fields |= layout[index].unpack(word)
    inputs, outputs, entries = fields["inputs"], fields["outputs"], fields["entries"]
    columns = inputs + fields["bias"]
    size = columns * outputs
    if not inputs or not outputs or columns > SIZE_MAX:
        refuse(f"a shape of {inputs} inputs and {outputs} outputs")
    if entries > size:
        refuse(f"{entries} entries in {size} positions", 4)
    if entries > 8 * len(payload):
        refuse(f"{entries} entries in a payload of {len(payload)} bytes", 4)
    if (
        fields["shift"] > SHIFT_MAX
        or fields["activation"] > max(Activation)
        or fields["bias_exponent"] > EXPONENT_MAX
    ):
        refuse("shift, activation or bias_exponent out of range", 8)
    if fields["code_length"] > words.MAX_CODE_LENGTH or fields["gap_length"] > words.MAX_GAP_LENGTH:
        refuse("a code longer than the format allows", 12)
    convolution = None
    if kind == words.SECTION_CONV:
        try:
            convolution = Convolution(**{f: fields[f] for f in Convolution.__dataclass_fields__})
        except ModelError as error:
            refuse(str(error), 16)
        if inputs != convolution.columns or outputs % convolution.groups:
            refuse(f"{inputs} columns and {outputs} channels for a kernel of {convolution}")
    table_sizes = [fields[f] for f in words.LAYER_WORDS[3].fields]
    shape = {
        "name": name,
        "inputs": inputs,
        "outputs": outputs,
        "bias": bool(fields["bias"]),
        "shift": fields["shift"],
        "activation": Activation(fields["activation"]),
        "bias_exponent": fields["bias_exponent"],
        "output_fraction": words.signed8(fields["output_fraction"]),
        "convolution": convolution,
    }

    def claimed(layer: CompressedLayer) -> CompressedLayer:
        claim, need = fields["accumulator_bits"], accumulator_bits(layer, magnitude)
        if claim < need:
            refuse(f"claims accumulators of {claim} bits, it needs {need}", 8)
        return replace(layer, claimed_bits=claim) if claim > need else layer

    if not entries:
        if any(table_sizes) or len(payload) != 4 * count:
            refuse("an empty layer with tables or data", 12)
        nothing = np.zeros(0, np.int64)
        empty = CompressedLayer(positions=nothing, codes=nothing, codebook=nothing, **shape)
        return claimed(empty), 0, 0

    codebook_size, code_length, gap_classes, gap_length, narrow = table_sizes
    if not 1 <= codebook_size <= CODEBOOK_MAX or not 1 <= gap_classes <= gaps.CLASSES:
        refuse(f"a codebook of {codebook_size} and {gap_classes} gap classes", 12)

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
    data = np.frombuffer(payload, _WORD)[-(-at // 4) :]
    outcome, positions, codes, gap_bits, code_bits = interleave.decode(
        data, entries, size, gap_table.lookup(gap_order), gap_length,
        code_table.lookup(np.arange(codebook_size)), code_length,
    )  # fmt: skip
    if outcome == interleave.OUT_OF_DATA:
        refuse("the data run out before the last entry", len(payload))
    if outcome == interleave.OUT_OF_LAYER:
        refuse("an entry outside the layer")
    values = np.frombuffer(codebook, "i1" if narrow else "<i2")
    layer = CompressedLayer(positions=positions, codes=codes, codebook=values, **shape)
    return claimed(layer), code_bits, gap_bits
