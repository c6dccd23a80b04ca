"""What the report says of a layer, and the entropy bound."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pleach.format import LayerSizes, dumps, parse
from pleach.format.gaps import relative_index
from pleach.model import Activation, CompressedLayer, CompressedModel, Convolution
from pleach.report import entropy_bound, layer_reports
from tests.strategies import random_layer, random_model, random_part


def test_shapes_are_those_of_the_torch_weights():
    conv = Convolution(4, 8, 8, 3, 2, groups=2)
    rng = np.random.default_rng(0)
    layer = random_part(rng, conv, 6)
    model = CompressedModel((layer, random_layer(rng, 6 * 6 * 7, 5)))
    rows = layer_reports(model, [LayerSizes(400, 800, 900), LayerSizes(4000, 8000, 9000)])
    assert [row.shape for row in rows] == [(6, 2, 3, 2), (5, 252)]
    assert rows[0].density == layer.kept / (6 * 13)
    assert rows[0].rate == 100 * 400 / (4 * 6 * 13)
    assert rows[0].weight_bits == 800 / layer.kept


def test_the_bound_counts_codes_gaps_and_codebook():
    # Gaps 70000 (no skip is counted), 1, 1, 1: 4 · (¼·log2 4 + ¾·log2 4/3) bits; codes a, a, a, b
    # the same.
    layer = CompressedLayer(
        name="a", inputs=400, outputs=200, bias=False, positions=[70000, 70002, 70004, 70006],
        codes=[0, 0, 0, 1], codebook=[3, 9], shift=0, activation=Activation.NONE,
        bias_exponent=0, output_fraction=0,
    )  # fmt: skip
    each = 2 + 3 * math.log2(4 / 3)
    assert entropy_bound(CompressedModel((layer,))) == pytest.approx((2 * each + 32) / 8)
    empty = replace(layer, positions=[], codes=[], codebook=[])
    assert entropy_bound(CompressedModel((empty,))) == 0


def test_no_file_is_below_the_bound():
    for seed, density in enumerate((0.02, 0.2, 0.9)):
        model = random_model(np.random.default_rng(seed), [300, 200, 10], density=density)
        parsed, sizes = parse(dumps(model))
        rows = layer_reports(parsed, sizes)
        assert all(row.bound_bytes < row.bytes < 1.4 * row.bound_bytes + 100 for row in rows)
        assert sum(row.bound_bytes for row in rows) == pytest.approx(entropy_bound(model))


def test_codes_of_fixed_width():
    for size, bits in ((1, 1), (2, 1), (3, 2), (16, 4), (17, 5), (256, 8)):
        layer = CompressedLayer(
            name="a", inputs=20, outputs=20, bias=False, positions=np.arange(size),
            codes=np.arange(size), codebook=np.arange(1, size + 1), shift=0,
            activation=Activation.NONE, bias_exponent=0, output_fraction=0,
        )  # fmt: skip
        (row,) = layer_reports(CompressedModel((layer,)), [LayerSizes(400, 800, 900)])
        assert row.fixed_weight_bits == bits
        assert row.fixed_rate == 100 * (size * (bits + 5) + 32 * size) / (32 * 400)


def test_fillers_are_counted_as_the_papers_lay_them_out():
    for seed, density in enumerate((0.0, 0.001, 0.02, 1.0)):
        layer = random_layer(np.random.default_rng(seed), 90, 70, density=density)
        row = layer_reports(CompressedModel((layer,)), [LayerSizes(1, 0, 0)])[0]
        kept = np.zeros(layer.size, np.uint8)
        kept[layer.positions] = 1
        entries = len(relative_index(kept, row.fixed_index_bits)[0])
        bits = entries * (row.fixed_weight_bits + row.fixed_index_bits) + 32 * row.codebook_size
        assert row.fixed_rate == pytest.approx(100 * bits / (32 * layer.size))
