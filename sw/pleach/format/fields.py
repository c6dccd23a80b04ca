"""The words of a layer's section, as docs/bitstream.md has them: to fields and back.

What a section says of its maps is completed from what came before it, and checked: no weights here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pleach.engine import words
from pleach.errors import FormatError, ModelError
from pleach.format import gaps
from pleach.model import Activation, Convolution, Pool, Shape, Skip, Window
from pleach.numbers import CODEBOOK_MAX, EXPONENT_MAX, SCALED_BITS_MAX, SHIFT_MAX, SIZE_MAX

#: types of the sections that the header counts as layers
LAYERS = (
    *(words.SECTION_LAYER, words.SECTION_CONV, words.SECTION_POOL, words.SECTION_CELL),
    *(words.SECTION_LAYER + words.SHORT, words.SECTION_CONV + words.SHORT),
    words.SECTION_POOL + words.SHORT,
)
_WORD = np.dtype("<u4")


@dataclass(frozen=True)
class Section:
    """A layer's section before its tables.

    Args:
        type: of the section, without the bit of the short form.
        sources: the numbers of what it takes.
        fields: those of its words that are not in the other arguments.
        operator: of a POOL.
        convolution, skip, activation: of any other.
        words: that it took.
    """

    type: int
    sources: tuple[int, ...]
    fields: dict[str, int]
    words: int
    operator: Pool | None = None
    convolution: Convolution | None = None
    skip: Skip | None = None
    activation: Activation = Activation.NONE

    def shape_out(self) -> Shape:
        """Of what it gives."""
        if self.operator is not None:
            return self.operator.out_shape(self.operator.window.shape)
        return (self.fields["outputs"], *(self.convolution.pooled if self.convolution else ()))


class Layers:
    """The sections of a file's layers, one after the other.

    Args:
        version: of the file.

    Attributes:
        shapes: of the network's input and of what each layer gives; the first is empty until a
            layer has said it.
    """

    def __init__(self, version: int):
        self._version = version
        self.shapes: list[Shape] = [()]

    def read(self, kind: int, payload: bytes, name: str, offset: int) -> Section:
        """The next one.

        Args:
            kind: the section's type.
            name: for errors.
            offset: of the payload in the file.

        Raises:
            FormatError: what the page refuses.
        """
        reader = _Reader(payload, name, offset)
        if self._version == words.VERSIONS[0]:
            found = _old_section(reader, kind, len(self.shapes) - 1)
        else:
            found = self._section(reader, kind)
        try:
            self._join(found)
        except ModelError as error:
            reader.refuse(str(error))
        return found

    def _section(self, reader: _Reader, kind: int) -> Section:
        short, kind = bool(kind & words.SHORT), kind & ~words.SHORT
        if kind == words.SECTION_CELL:
            reader.refuse("is a CELL, a recurrent layer: this reader has none yet")
        before = self.shapes[-1]
        wanted = 1 if kind == words.SECTION_LAYER else 3
        if short and len(before) != wanted:
            reader.refuse("has the short form and does not follow what it could take the map of")
        if kind == words.SECTION_POOL:
            return self._pool(reader, short)
        fields = {"inputs": before[0]} | reader.take(words.SHORT_WORD) if short else {}
        if not short:
            fields = reader.take(words.LONG_WORDS[0]) | reader.take(words.LONG_WORDS[1])
        fields |= reader.take(words.SCALE_WORD) | reader.take(words.TABLES_WORD)
        if fields["streams"] or fields["sliced"]:
            reader.refuse("its weights are in streams or slices: this reader has none yet")
        activation = reader.activation(fields.pop("function"))
        sources, skip = (len(self.shapes) - 1,), None
        if fields["joined"]:
            if short:
                reader.refuse("has the short form and says its source")
            sources, skip = self._sources(reader)
        convolution = None
        if kind == words.SECTION_CONV:
            shape = before if short else (fields["inputs"], *reader.take(words.MAP_WORD).values())
            convolution = reader.checked(lambda: _convolution(reader, shape))
            fields["inputs"] = convolution.columns
        elif skip is not None and skip.stride != (1, 1):
            reader.refuse("the skip of a fully connected layer has no strides")
        _check_fields(reader, fields, convolution, skip)
        return Section(kind, sources, fields, reader.at, None, convolution, skip, activation)

    def _sources(self, reader: _Reader) -> tuple[tuple[int, ...], Skip | None]:
        joined = reader.take(words.JOINED_WORD)
        source, skip = joined["source"], joined["skip"]
        if max(source, skip) >= len(self.shapes):
            reader.refuse(f"takes layer {max(source, skip)}, which does not come before it")
        if not joined["skip_channels"]:
            if skip:
                reader.refuse("names a skip of no channels")
            return (source,), None
        strides = tuple(reader.take(words.SKIP_WORD).values())
        taken = reader.checked(lambda: Skip(joined["skip_channels"], strides))
        return (source, skip), taken

    def _pool(self, reader: _Reader, short: bool) -> Section:
        shape = self.shapes[-1]
        if not short:
            channels = reader.take(words.CHANNELS_WORD)["channels"]
            shape = (channels, *reader.take(words.MAP_WORD).values())
        window, padding = (reader.take(word) for word in (words.WINDOW_WORD, words.PADDING_WORD))
        pool = reader.take(words.POOL_WORD)
        if pool["source"] >= len(self.shapes):
            reader.refuse(f"takes layer {pool['source']}, which does not come before it")
        if short and pool["source"] != len(self.shapes) - 1:
            reader.refuse("has the short form and takes another layer than the one before")
        if pool["shift"] and not pool["sum"]:
            reader.refuse("shifts what is no sum")
        high, wide, *strides = window.values()
        operator = reader.checked(
            lambda: Pool(
                Window(
                    *shape,
                    kernel_height=high,
                    kernel_width=wide,
                    stride=tuple(strides),
                    padding=tuple(padding.values()),
                ),
                pool["shift"] if pool["sum"] else None,
            )
        )
        if reader.at != reader.count:
            reader.refuse("has words behind its last")
        return Section(words.SECTION_POOL, (pool["source"],), {}, reader.at, operator)

    def _join(self, section: Section) -> None:
        """What the section takes is what its sources give.

        Raises:
            ModelError: it is not.
        """
        taken = _map_of(section)
        if section.sources[0] == 0 and len(self.shapes[0]) < len(taken):
            if self.shapes[0] and math.prod(self.shapes[0]) != math.prod(taken):
                raise ModelError("takes another number of inputs than a layer before it")
            self.shapes[0] = taken
        given = self.shapes[section.sources[0]]
        if math.prod(taken) != math.prod(given):
            raise ModelError(
                f"takes {math.prod(taken)} inputs, what comes before it gives {math.prod(given)}"
            )
        if len(taken) == len(given) == 3 and taken != given:
            raise ModelError(f"takes a map of {taken}, what comes before it gives {given}")
        self.shapes.append(section.shape_out())


def _map_of(section: Section) -> Shape:
    """The shape that a section says of what it takes."""
    if section.operator is not None:
        return section.operator.window.shape
    return section.convolution.shape if section.convolution else (section.fields["inputs"],)


class _Reader:
    """The words of a payload, one after the other."""

    def __init__(self, payload: bytes, name: str, offset: int):
        self._words = np.frombuffer(payload, _WORD).tolist()
        self._name, self._offset = name, offset
        self.at, self.count = 0, len(self._words)

    def refuse(self, message: str, at: int = 0) -> NoReturn:
        raise FormatError(f"{self._name}: {message}", self._offset + at)

    def take(self, layout: words.Word) -> dict[str, int]:
        if self.at == self.count:
            self.refuse(f"a payload of {4 * self.count} bytes")
        word = self._words[self.at]
        if word & layout.reserved():
            self.refuse("reserved bits are set", 4 * self.at)
        self.at += 1
        return layout.unpack(word)

    def checked(self, make: Callable):
        """What is made, where the model has such a thing."""
        try:
            return make()
        except ModelError as error:
            self.refuse(str(error), 4 * (self.at - 1))

    def activation(self, function: int) -> Activation:
        if function <= words.RELU:
            return Activation.RELU if function else Activation.NONE
        bounds = [words.signed16(value) for value in self.take(words.BOUNDS_WORD).values()]
        made = self.checked(lambda: Activation(*bounds, sign=function == words.SIGN))
        return made.integer(self._name)


def _convolution(reader: _Reader, shape: Shape) -> Convolution:
    kernel = reader.take(words.KERNEL_WORD)
    sides = kernel.pop("sides")
    stride, padding, groups = (kernel.pop("stride"),) * 2, (kernel.pop("padding"),) * 4, 1
    if sides:
        if any(stride) or any(padding):
            raise ModelError("stride and padding are said twice")
        *stride, groups = reader.take(words.SIDES_WORD).values()
        padding = reader.take(words.PADDING_WORD).values()
    return Convolution(
        *shape, stride=tuple(stride), padding=tuple(padding), groups=groups, **kernel
    )


def _check_fields(
    reader: _Reader, fields: dict[str, int], conv: Convolution | None, skip: Skip | None
) -> None:
    """Refuse fields out of range, and sizes that the section cannot have."""
    inputs, outputs, entries = (fields[name] for name in ("inputs", "outputs", "entries"))
    columns = inputs + (skip.channels if skip else 0) + fields["bias"]
    if not inputs or not outputs or columns > SIZE_MAX:
        reader.refuse(f"a shape of {columns} columns and {outputs} outputs")
    if conv is not None and outputs % conv.groups:
        reader.refuse(f"{outputs} output channels in {conv.groups} groups")
    places = (columns - inputs) * outputs + inputs * (outputs // (conv.groups if conv else 1))
    if entries > places:
        reader.refuse(f"{entries} entries in {places} positions", 4)
    if entries > 32 * reader.count:
        reader.refuse(f"{entries} entries in a payload of {4 * reader.count} bytes", 4)
    if fields["shift"] > SHIFT_MAX or fields["bias_exponent"] > EXPONENT_MAX:
        reader.refuse("shift or bias_exponent out of range", 8)
    if fields.get("scaled") and fields["accumulator_bits"] > SCALED_BITS_MAX:
        reader.refuse(f"accumulators of more than {SCALED_BITS_MAX} bits before scales", 8)
    if fields["code_length"] > words.MAX_CODE_LENGTH or fields["gap_length"] > words.MAX_GAP_LENGTH:
        reader.refuse("a code longer than the format allows", 12)
    if not entries:
        tables = [fields[name] for name in words.TABLES_WORD.fields if name in fields]
        if any(tables) or fields.get("scaled") or reader.at != reader.count:
            reader.refuse("an empty layer with tables or data", 12)
    elif not 1 <= fields["codebook_size"] <= CODEBOOK_MAX or not (
        1 <= fields["gap_classes"] <= gaps.CLASSES
    ):
        reader.refuse(
            f"a codebook of {fields['codebook_size']} and {fields['gap_classes']} gap classes", 12
        )


def _old_section(reader: _Reader, kind: int, number: int) -> Section:
    """A LAYER or CONV of version 2; the order of its columns is that of version 2."""
    fields: dict[str, int] = {}
    for layout in words.LAYER_WORDS:
        fields |= reader.take(layout)
    if fields["activation"] > words.RELU:
        reader.refuse("shift, activation or bias_exponent out of range", 8)
    activation = reader.activation(fields.pop("activation"))
    convolution = None
    if kind == words.SECTION_CONV:
        geometry: dict[str, int] = {}
        for layout in words.CONV_WORDS:
            geometry |= reader.take(layout)
        if not geometry["pool_stride"]:
            reader.refuse("a pooling stride of 0", 4 * (reader.at - 1))
        made: dict[str, Any] = geometry
        convolution = reader.checked(lambda: Convolution(**made))
        if fields["inputs"] * convolution.groups != convolution.columns:
            reader.refuse(f"{fields['inputs']} columns for a kernel of {convolution}")
        fields["inputs"] = convolution.columns
    _check_fields(reader, fields, convolution, None)
    return Section(kind, (number,), fields, reader.at, None, convolution, None, activation)


def section_words(
    fields: dict[str, int],
    activation: Activation,
    shape: Shape | None,
    convolution: Convolution | None,
    skip: Skip | None,
    sources: Sequence[int] | None,
) -> tuple[bool, list[int]]:
    """Whether a LAYER or CONV has the short form, and its words before the tables.

    Args:
        fields: of the words that both forms have, and `inputs`, `outputs`, `entries`.
        shape: of what the section before gives; None of the first.
        sources: where they are not the section before alone.
    """
    fields = dict(fields)
    inputs, outputs, entries = (fields.pop(name) for name in ("inputs", "outputs", "entries"))
    conv = convolution
    wanted = conv.shape if conv else (inputs,)
    short = shape == wanted and sources is None and entries < 1 << 16
    low, high = activation.bounds
    function = words.SIGN if activation.sign else words.CLIP
    if activation in (Activation.NONE, Activation.RELU):
        function = words.NO_FUNCTION if activation == Activation.NONE else words.RELU
    if short:
        found = [words.SHORT_WORD.pack(outputs=outputs, entries=entries)]
    else:
        first = conv.channels if conv else inputs
        found = [words.LONG_WORDS[0].pack(inputs=first, outputs=outputs), entries]
    scale = {name: fields[name] for name in words.SCALE_WORD.fields if name in fields}
    tables = {name: fields[name] for name in words.TABLES_WORD.fields if name in fields}
    found.append(words.SCALE_WORD.pack(function=function, joined=sources is not None, **scale))
    found.append(words.TABLES_WORD.pack(streams=0, sliced=0, **tables))
    if function >= words.CLIP:
        found.append(words.BOUNDS_WORD.pack(low=low & 0xFFFF, high=high & 0xFFFF))
    if sources is not None:
        source, second = (*sources, 0)[:2]
        channels = skip.channels if skip else 0
        found.append(words.JOINED_WORD.pack(source=source, skip=second, skip_channels=channels))
        if skip:
            down, right = skip.stride
            found.append(words.SKIP_WORD.pack(skip_stride_height=down, skip_stride_width=right))
    if conv is not None:
        found += _geometry_words(conv, short)
    return short, found


def _geometry_words(conv: Convolution, short: bool) -> list[int]:
    found = [] if short else [words.MAP_WORD.pack(height=conv.height, width=conv.width)]
    down, right = conv.stride
    same = down == right and len(set(conv.padding)) == 1 and conv.groups == 1
    sides = not same or max(down, conv.padding[0]) > 15
    found.append(
        words.KERNEL_WORD.pack(
            kernel_height=conv.kernel_height,
            kernel_width=conv.kernel_width,
            stride=0 if sides else down,
            padding=0 if sides else conv.padding[0],
            pool=conv.pool,
            sides=sides,
        )
    )
    if sides:
        found.append(
            words.SIDES_WORD.pack(stride_height=down, stride_width=right, groups=conv.groups)
        )
        found.append(_padding_word(conv.padding))
    return found


def _padding_word(padding: tuple[int, ...]) -> int:
    return words.PADDING_WORD.pack(**dict(zip(words.PADDING_WORD.fields, padding, strict=True)))


def pool_words(pool: Pool, shape: Shape | None, source: int, own: int) -> tuple[bool, list[int]]:
    """Whether a POOL has the short form, and its words.

    Args:
        shape: of what the section before gives; None of the first.
        source, own: numbers of what it takes and of itself.
    """
    window = pool.window
    short = source == own - 1 and shape == window.shape
    found = (
        []
        if short
        else [
            words.CHANNELS_WORD.pack(channels=window.channels),
            words.MAP_WORD.pack(height=window.height, width=window.width),
        ]
    )
    found.append(
        words.WINDOW_WORD.pack(
            kernel_height=window.kernel_height,
            kernel_width=window.kernel_width,
            stride_height=window.stride[0],
            stride_width=window.stride[1],
        )
    )
    found.append(_padding_word(window.padding))
    shift = pool.shift or 0
    found.append(words.POOL_WORD.pack(source=source, sum=pool.shift is not None, shift=shift))
    return short, found
