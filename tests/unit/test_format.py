"""The bitstream: round trips, what is refused, and the worked example of docs/bitstream.md."""

import re
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.engine import EngineConfig
from pleach.engine.words import HEADER_WORDS
from pleach.errors import CapacityError, FormatError, ModelError, PleachError
from pleach.format import HuffmanTable, dumps, gaps, load, loads, parse, save
from pleach.format.huffman import package_merge
from pleach.model import Activation, CompressedLayer, CompressedModel, Convolution, InputType
from pleach.reference import Reference
from tests.strategies import models, random_inputs, random_layer, random_model, random_part

DOCS = Path(__file__).parents[2] / "docs"


@settings(deadline=None, max_examples=150)
@given(models())
def test_round_trip(model):
    data = dumps(model)
    again = loads(data)
    assert dumps(again) == data
    # The file orders a codebook by frequency and keeps only what is used: compare the weights.
    for before, after in zip(model.layers, again.layers, strict=True):
        assert np.array_equal(before.positions, after.positions)
        assert np.array_equal(before.values, after.values)
        for name in ("shift", "activation", "bias", "bias_exponent", "output_fraction", "name"):
            assert getattr(before, name) == getattr(after, name)
    assert again.input_type == model.input_type


@pytest.mark.parametrize("gap", [0, 3, 4, 511, 512, gaps.MAX_GAP, gaps.MAX_GAP + 1, 3 * 65536 + 7])
def test_gap_edges(gap):
    """A gap of exactly the maximum, one more, and several skips; also before the first entry."""
    layer = CompressedLayer(
        name="fc1", inputs=1000, outputs=1000, bias=False, positions=[gap, 2 * gap + 1],
        codes=[0, 0], codebook=[7], shift=0, activation=Activation.NONE, bias_exponent=0,
        output_fraction=0,
    )  # fmt: skip
    classes, _ = gaps.symbols(layer.positions)
    assert np.count_nonzero(classes == gaps.SKIP) == 2 * (gap // 65536)
    again = loads(dumps(CompressedModel((layer,))))
    assert again.layers[0].positions.tolist() == [gap, 2 * gap + 1]


def test_gap_classes_cover_every_gap_once():
    spans = [range(gaps.base(c), gaps.base(c) + (1 << gaps.extra_bits(c))) for c in range(25)]
    assert [gap for span in spans for gap in span] == list(range(gaps.SKIP_POSITIONS))


@pytest.mark.parametrize(
    ("density", "bits"), [(0.08, 5.08), (0.04, 6.10), (0.02, 7.12), (0.01, 8.13)]
)
def test_gap_bits_per_entry(density, bits):
    """Bits a gap at uniform densities, against the figures the format was designed to."""
    rng = np.random.default_rng(1)
    layer = random_layer(rng, 1500, 1000, density=density, codebook=2)
    _, sizes = parse(dumps(CompressedModel((layer,))))
    entropy = -np.log2(density) - (1 / density - 1) * np.log2(1 - density)
    assert 0.98 * entropy < sizes[0].gap_bits / layer.kept < bits + 0.02


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=40), st.integers(6, 12))
def test_package_merge(frequencies, limit):
    lengths = package_merge(np.array(frequencies), limit).astype(int)
    assert sum(2.0**-lengths) == 1 and lengths.max() <= limit
    # Without the limit in force the cost is Huffman's own.
    if package_merge(np.array(frequencies), 20).max() <= limit:
        assert (lengths * frequencies).sum() == _huffman_cost(frequencies)


def _huffman_cost(frequencies):
    import heapq

    heap, cost = list(frequencies), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


def test_longest_code_is_reached():
    """Frequencies like Fibonacci's want 17 bits; the limit of 12 holds and the file decodes."""
    counts = [1, 1]
    while len(counts) < 18:
        counts.append(counts[-1] + counts[-2])
    codes = np.repeat(np.arange(18), counts)
    layer = replace(
        random_layer(np.random.default_rng(0), 100, 100, density=1, codebook=1),
        positions=np.arange(len(codes)),
        codes=codes,
        codebook=np.arange(1, 19),
    )
    table, _ = HuffmanTable.build(np.array(counts), limit=12)
    assert table.length == 12
    assert np.array_equal(loads(dumps(CompressedModel((layer,)))).layers[0].values, layer.values)


def worked_example() -> bytes:
    text = (DOCS / "bitstream.md").read_text().partition("## Worked example")[2]
    block = re.search(r"```hex\n(.*?)```", text, re.S).group(1)
    return bytes.fromhex("".join(line.split("|")[0] for line in block.splitlines()))


def test_worked_example():
    """docs/bitstream.md shows this model in hex, and the hex is what we write."""
    data = worked_example()
    assert loads(data).layers[0].dense().tolist() == [
        [0, 0, 100, 0, 0],
        [0, 0, 100, 0, -7],
        [100, 0, 0, 0, 0],
        [0, 0, -7, 0, 0],
    ]
    assert dumps(loads(data)) == data


def test_relative_index_example_of_the_paper():
    weights = np.array([0, 0, 1, 2, *[0] * 18, 3])
    runs, values = gaps.relative_index(weights)
    assert runs.tolist() == [2, 0, 15, 2] and values.tolist() == [1, 2, 0, 3]
    assert gaps.from_relative_index(runs, values, len(weights)).tolist() == weights.tolist()


# --- what is refused -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return dumps(random_model(np.random.default_rng(3), [20, 12, 5]))


def patched(data: bytes, word: int, value: int, *, fix: bool = True) -> bytes:
    """The file with one word changed and, unless told otherwise, every CRC made right again."""
    words = np.frombuffer(data, "<u4").copy()
    words[word] = value
    if fix:
        words[4] = zlib.crc32(words[:4].tobytes())
        at = HEADER_WORDS
        while at < len(words):
            end = at + 1 + int(words[at] >> 8)
            if end >= len(words):
                break
            words[end] = zlib.crc32(words[at:end].tobytes())
            at = end + 1
    return words.tobytes()


@pytest.mark.parametrize(
    ("word", "value", "says"),
    [
        (0, 0x12345678, "byte 0: not a Pleach bitstream"),
        (1, 0x00000201, "version 1"),
        (1, 0x08000003, "0 layers"),
        (1, 0x08000103, "more than the 1 layers"),
        (1, 0x08000303, "2 of the 3 layers"),
        (1, 0x08800203, "reserved"),
        (2, 0x00FFFFFF, "the header says"),
        (5, 0xFFFFFF01, "past the end"),
        (5, 0x00000405, "unknown section type 5|past the end|CRC"),
        (6, 0x00000014, "a shape of"),
        (6, 0xFFFFFFFF, "a shape of"),
        (7, 0xFFFFFFFF, "entries in"),
        (7, 12 * 21, "the data run out|entries in a payload|outside the layer"),
        (8, 0xFFFFFFFF, "reserved"),
        (8, 0x00000030, "out of range"),
        (9, 0x0000FFFF, "longer than|codebook of|break the Kraft|tables|no Huffman"),
        (9, 0x04000000, "reserved"),
        (9, 0x00800000, "in streams or slices"),
    ],
)  # fmt: skip
def test_refused(data, word, value, says):
    with pytest.raises(FormatError, match=says):
        loads(patched(data, word, value))


def test_every_damaged_bit_is_found(data):
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            loads(bytes(damaged))


def test_every_truncation_is_found(data):
    for length in range(len(data)):
        with pytest.raises(FormatError):
            loads(data[:length])


def test_layers_that_do_not_chain(data):
    inputs, outputs = 20, 11
    with pytest.raises(FormatError, match="takes 12 inputs|outside|entries in"):
        loads(patched(data, 6, inputs | outputs << 16))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_lies_with_right_checksums(data, choice):
    """Any word may lie behind a right CRC: an error of ours or a valid model, in little memory."""
    word = choice.draw(st.integers(0, len(data) // 4 - 1))
    value = choice.draw(st.integers(0, 2**32 - 1))
    lie = patched(data, word, value)
    tracemalloc.start()
    try:
        model = loads(lie)
        assert isinstance(model, CompressedModel)
    except PleachError as error:
        assert str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_accumulator_claim_is_checked():
    model = random_model(np.random.default_rng(3), [20, 12])
    data = dumps(model)
    word = int.from_bytes(data[32:36], "little")
    need = model.accumulator_bits()[0]
    lie = word & ~(63 << 13) | (need - 1) << 13
    with pytest.raises(FormatError, match=f"it needs {need}"):
        loads(patched(data, 8, lie))


def test_a_claim_beyond_the_need_is_kept_and_checked_as_the_engine_does():
    model = random_model(np.random.default_rng(3), [20, 12])
    data = dumps(model)
    assert model.accumulator_bits()[0] < 32
    word = int.from_bytes(data[32:36], "little") & ~(63 << 13)
    wide = loads(patched(data, 8, word | 40 << 13))
    assert (wide.layers[0].claimed_bits, wide.accumulator_bits()) == (40, model.accumulator_bits())
    config = EngineConfig(pes=4)
    config.check(model)
    with pytest.raises(CapacityError, match="accumulator_bits 40 of 32: give accumulator_bits=40"):
        config.check(wide)
    assert config.grown(wide).accumulator_bits == 40
    with pytest.raises(CapacityError, match="no engine has more than 48 accumulator_bits"):
        config.grown(loads(patched(data, 8, word | 63 << 13)))
    # What is written claims what is needed; a claim that is just that is none.
    assert dumps(wide) == data and loads(data).layers[0].claimed_bits == 0


def test_a_layer_without_weights_needs_a_bit():
    data = dumps(random_model(np.random.default_rng(3), [20, 12], density=0.0))
    word = int.from_bytes(data[32:36], "little")
    assert word >> 13 & 63 == 1
    with pytest.raises(FormatError, match="claims accumulators of 0 bits, it needs 1"):
        loads(patched(data, 8, word & ~(63 << 13)))


def test_the_last_gap_class_occurs():
    data = worked_example()
    word = int.from_bytes(data[36:40], "little")
    assert word >> 13 & 31 == 5  # so that a sixth has a place in the table already
    with pytest.raises(FormatError, match="gap table is not of the size that it claims"):
        loads(patched(data, 9, word + (1 << 13)))


def test_a_payload_pays_for_32_entries_a_word():
    """No gap and no code takes a bit: the words alone bound the entries."""
    data = dumps(CompressedModel((one_code(32 * 6),)))
    assert len(data) == 4 * (5 + 1 + 6 + 1)
    assert loads(data).layers[0].kept == 192
    with pytest.raises(FormatError, match="193 entries in a payload of 24 bytes"):
        loads(patched(data, 7, 193))


def one_code(kept: int) -> CompressedLayer:
    """The first `kept` positions of a large layer, all of one weight."""
    return CompressedLayer(
        "fc1", 1000, 1000, False, np.arange(kept), np.zeros(kept, np.uint8), [7], 0,
        Activation.NONE, 0, 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("word", "bits"),
    [(11, 0x00000100), (11, 0xFF000000), (12, 1), (13, 1), (14, 1), (14, 0x20000000)],
)
def test_what_a_reader_need_not_look_at(word, bits):
    """Padding after the tables, and the bits left over of each of the three readers."""
    data = worked_example()
    at = int.from_bytes(data[4 * word : 4 * word + 4], "little")
    assert not at & bits
    again = loads(patched(data, word, at | bits))
    assert again == loads(data) and dumps(again) == data


def test_padding_words_are_not_looked_at():
    data = dumps(CompressedModel((one_code(192),)))
    assert dumps(loads(patched(data, 11, 0xDEADBEEF))) == data


def test_the_same_weights_in_other_words():
    """A bias_exponent where there is no bias, a codebook in int16 that would fit int8, a value
    twice in it: all of it is read, the writer makes the least of the last two."""
    data = dumps(CompressedModel((replace(one_code(192), bias_exponent=3),)))
    assert loads(data).layers[0].bias_exponent == 3
    narrow = int.from_bytes(data[36:40], "little")
    assert narrow >> 22 == 1
    wide = bytearray(patched(data, 9, narrow & ~(1 << 22)))
    assert wide[40:44] == b"\x01\x07\0\0"  # the gap table's byte, then the value
    assert dumps(loads(bytes(wide))) == data
    twice = replace(one_code(192), codes=np.arange(192) % 2, codebook=[7, 7])
    assert loads(dumps(CompressedModel((twice,)))).layers[0].codebook.tolist() == [7, 7]


def with_section(data: bytes, kind: int, text: bytes) -> bytes:
    """The file with one section more."""
    text += b" " * (-len(text) % 4)
    head = (len(text) // 4 << 8 | kind).to_bytes(4, "little")
    words = np.frombuffer(data + head + text + b"\0" * 4, "<u4")
    return patched(words.tobytes(), 2, len(words))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[1]", "no JSON object with `layers`"),
        (b"{}", "no JSON object with `layers`"),
        (b'"layers"', "no JSON object with `layers`"),
        (b"\xff", "no JSON object with `layers`"),
        (b"[" * 4000, "no JSON object with `layers`"),
        (b'{"layers": "ab"}', "no list of names"),
        (b'{"layers": ["a"]}', "META names 1 layers of 2"),
        (b'{"layers": ["a", "\\udfff"]}', "'.udfff' is no text that UTF-8 can write"),
        (b'{"layers": ["a", "b"], "output_exponents": 1}', "no list of whole numbers"),
        (b'{"layers": ["a", "b"], "output_exponents": [true]}', "no list of whole numbers"),
        (b'{"layers": ["a", "b"], "output_exponents": [1]}', "1 output_exponents for the 5 rows"),
        (b'{"layers": ["a", "b"], "output_exponents": [0, 0, 0, 0, 1' + b"0" * 30 + b"]}", "META:"),
    ],
)  # fmt: skip
def test_meta_is_refused_with_its_byte(data, text, says):
    with pytest.raises(FormatError, match=says) as refused:
        loads(with_section(data, 128, text))
    assert refused.value.offset in (len(data), len(data) + 4)


def test_the_last_meta_counts_and_unknown_sections_are_skipped(data):
    more = with_section(data, 128, b'{"layers": ["a", "b"], "other": [1]}')
    more = with_section(more, 200, b"whatever")
    more = with_section(more, 128, '{"layers": ["ä", "b"]}'.encode())
    assert [layer.name for layer in loads(more).layers] == ["ä", "b"]


def test_a_convolution_sees_a_row_as_a_map_and_no_map_as_another():
    rng = np.random.default_rng(0)
    last = random_part(rng, Convolution(2, 8, 8, 2, 2), 3)
    model = loads(dumps(CompressedModel((random_layer(rng, 4, 128), last))))
    assert Reference(model).run(random_inputs(rng, model, 2)).shape == (2, 3 * 49)
    first = random_part(rng, Convolution(1, 5, 5, 2, 2), 8)
    with pytest.raises(ModelError, match="takes a map of 2 × 8 × 8, .* gives 8 × 4 × 4"):
        CompressedModel((first, last))
    with pytest.raises(ModelError, match="takes 64 inputs, .* gives 128"):
        small = Convolution(2, 4, 8, 2, 2)
        CompressedModel((first, replace(last, convolution=small)))


def test_the_padded_map_is_not_smaller_than_the_kernel():
    assert Convolution(1, 2, 2, 4, 4, padding=1).map == (1, 1)
    for small in ({"padding": 0}, {"padding": 1, "pool": 2}):
        with pytest.raises(ModelError, match="smaller than its kernel or its pooling window"):
            Convolution(1, 2, 2, 4, 4, **small)


def test_a_layer_too_long_for_its_section_is_refused_before_it_is_written(monkeypatch):
    model = random_model(np.random.default_rng(5), [60, 40], density=0.9)
    size = len(dumps(model)) - 4 * (HEADER_WORDS + 2)
    monkeypatch.setattr("pleach.engine.words.MAX_PAYLOAD", size)
    dumps(model)
    # A word less is found when the data are there, as it hangs on their order, half before.
    monkeypatch.setattr("pleach.engine.words.MAX_PAYLOAD", size - 1)
    with pytest.raises(ModelError, match=f"layer 'fc1': its .* weights take {size:,} bytes"):
        dumps(model)
    monkeypatch.setattr("pleach.format.interleave.encode", None)
    monkeypatch.setattr("pleach.engine.words.MAX_PAYLOAD", size // 2)
    with pytest.raises(ModelError, match="layer 'fc1': its .* weights take .* prune more"):
        dumps(model)
    named = replace(model, layers=(replace(model.layers[0], name="n" * 200, positions=[], codes=[],
                                           codebook=[]),))  # fmt: skip
    monkeypatch.setattr("pleach.engine.words.MAX_PAYLOAD", 100)
    with pytest.raises(ModelError, match="the layers' names take 215 bytes"):
        dumps(named)


def test_entries_without_bits_are_paid_for():
    """A layer of one code and no gaps costs no bits; padding keeps its entries honest."""
    layer = random_layer(np.random.default_rng(0), 100, 100, density=1.0, codebook=1)
    data = dumps(CompressedModel((layer,)))
    assert len(data) >= layer.kept / 8
    assert loads(data).layers[0].kept == layer.kept


def test_save_is_whole_or_nothing(tmp_path, monkeypatch):
    model = random_model(np.random.default_rng(5), [6, 4])
    path = save(model, tmp_path / "model.pleach")
    assert dumps(load(path)) == path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(random_model(np.random.default_rng(6), [9, 4]), path)
    assert dumps(load(path)) == dumps(model)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pleach"]


def test_names_travel_in_meta():
    model = random_model(np.random.default_rng(5), [6, 4])
    named = CompressedModel((replace(model.layers[0], name="größe"),), InputType.UINT8, 8)
    assert loads(dumps(named)).layers[0].name == "größe"
    assert len(dumps(model)) < len(dumps(named))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"positions": [1, 1]}, "increase strictly"),
        ({"positions": [1, 99]}, "outside"),
        ({"codes": [0, 9]}, "code 9"),
        ({"codes": [0]}, "positions for"),
        ({"shift": 48}, "shift is 48"),
        ({"bias_exponent": 15}, "bias_exponent"),
        ({"outputs": 0}, "outputs is 0"),
    ],
)
def test_bad_layers_are_named(change, says):
    good = CompressedLayer("fc7", 4, 3, True, [0, 1], [0, 1], [5, 6], 1, Activation.RELU, 0, 0)
    with pytest.raises(ModelError, match=f"'fc7'.*{says}"):
        replace(good, **change)
