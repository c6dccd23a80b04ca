"""The last value that is allowed and the first that is not, in the format's fields and tables."""

import numpy as np
import pytest

from pleach.errors import FormatError
from pleach.format import HuffmanTable, dumps, gaps, loads
from pleach.model import Activation, CompressedLayer, CompressedModel
from tests.cocotb.damage import LAYER, edited, field, words_of


def layer(**changes) -> CompressedLayer:
    given = dict(
        name="fc1", inputs=1, outputs=9, bias=False, positions=[8], codes=[0], codebook=[5],
        shift=0, activation=Activation.NONE, bias_exponent=0, output_fraction=0,
    )  # fmt: skip
    return CompressedLayer(**given | changes)


@pytest.mark.parametrize("fraction", [-128, -1, 127])
@pytest.mark.parametrize("least, most", [(-128, 127), (-128, 128), (-129, 127), (-32768, 32767)])
def test_extremes_of_the_fields(fraction, least, most):
    whole = layer(
        positions=[7, 8], codes=[0, 1], codebook=[least, most], output_fraction=fraction,
        shift=47, bias=True, bias_exponent=14,
    )  # fmt: skip
    model = CompressedModel((whole,), input_fraction=fraction)
    again = loads(dumps(model))
    assert again.layers[0].values.tolist() == [least, most]
    assert again.input_fraction == again.layers[0].output_fraction == fraction
    narrow = words_of(dumps(model))[LAYER + 3] >> 22 & 1
    assert narrow == (least >= -128 and most <= 127)


def test_the_first_position_outside():
    data = dumps(CompressedModel((layer(),)))
    assert loads(data).layers[0].positions.tolist() == [8]
    with pytest.raises(FormatError, match="outside the layer"):
        loads(edited(data, field(LAYER, 16, 16, 8)))


@pytest.mark.parametrize("gap", [14, 15, 16, 31, 32])
def test_relative_indexes_around_a_filler(gap):
    weights = np.zeros(2 * gap + 3)
    weights[[gap, 2 * gap + 1]] = 7
    runs, values = gaps.relative_index(weights)
    assert runs.max() <= 15 and len(runs) == 2 * (1 + gap // 16)
    assert gaps.from_relative_index(runs, values, len(weights)).tolist() == weights.tolist()


@pytest.mark.parametrize(
    ("size", "counts"),
    [(3, [0]), (3, [2]), (2, [1, 1]), (4, [0, 3]), (5, [1, 2]), (2, [0]), (9, [1, 1])],
)
def test_codes_that_are_none(size, counts):
    """Too few codes for their lengths, too many, or none of the longest."""
    with pytest.raises(FormatError, match="Kraft|no Huffman"):
        HuffmanTable.from_counts(size, len(counts) + 1, bytes(counts))


@pytest.mark.parametrize("length", range(4))
def test_a_symbol_alone_has_no_length(length):
    lengths = np.array([0, length])
    if length < 2:
        table, order = HuffmanTable.from_lengths(lengths)
        assert (table.length, order.tolist()) == (0, [1][:length])
        return
    with pytest.raises(FormatError, match="more than 1 bit"):
        HuffmanTable.from_lengths(lengths)
