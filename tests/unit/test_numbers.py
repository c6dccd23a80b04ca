"""The limits are the largest numbers of the fields that hold them, and no copy is left."""

import re
from pathlib import Path

import pytest

from pleach import numbers
from pleach.engine import words

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("field", "limit"),
    {
        "inputs": numbers.SIZE_MAX,
        "outputs": numbers.SIZE_MAX,
        "accumulator_bits": numbers.CLAIMED_BITS_MAX,
        "height": numbers.SIZE_MAX,
        "width": numbers.SIZE_MAX,
        "channels": numbers.SIZE_MAX,
        "groups": numbers.SIZE_MAX,
        "kernel_height": numbers.SIDE_MAX,
        "kernel_width": numbers.SIDE_MAX,
        "stride_height": numbers.SIDE_MAX,
        "padding_top": numbers.SIDE_MAX,
        "pool": numbers.POOL_MAX,
        "skip_channels": numbers.SIZE_MAX,
        "source": numbers.LAYERS_MAX,
    }.items(),
)
def test_fields_hold_their_limit_and_no_more(field, limit):
    widths = {}
    for word in vars(words).values():
        if isinstance(word, words.Word):
            widths |= word.fields
    widths |= words.LONG_WORDS[0].fields
    assert limit == (1 << widths[field]) - 1


def test_narrower_limits_fit_their_fields():
    scale, tables = words.SCALE_WORD.fields, words.TABLES_WORD.fields
    assert numbers.POOL_SHIFT_MAX < 1 << words.POOL_WORD.fields["shift"]
    assert numbers.SHIFT_MAX < 1 << scale["shift"]
    assert numbers.EXPONENT_MAX < 1 << scale["bias_exponent"]
    assert numbers.CODEBOOK_MAX < 1 << tables["codebook_size"]
    assert numbers.LAYERS_MAX == (1 << words.HEADER_INFO.fields["layers"]) - 1
    assert 1 << numbers.EXPONENT_MAX <= numbers.INT16_MAX < 2 << numbers.EXPONENT_MAX
    most = numbers.SIZE_MAX * numbers.INT16_MIN**2
    assert most.bit_length() + 1 <= numbers.ACCUMULATOR_BITS_MAX


def test_no_limit_is_written_out_a_second_time():
    """Of the numbers that can mean nothing else."""
    copies = []
    for folder in ("sw", "hw"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text("utf-8"))
            if path.name != "numbers.py" and re.search(r"\b(32767|32768|65535)\b", code):
                copies.append(path.name)
    assert copies == []
