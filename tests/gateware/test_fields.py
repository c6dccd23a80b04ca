"""The reader of a layer's fields, and what says whether an engine has room for the layer."""

import numpy as np
import pytest

from pleach.engine import EngineConfig, words
from pleach.engine.program import lower
from pleach.engine.protocol import EngineError, Resource
from pleach.model import InputType
from pleach_hw.load.commit import Commit
from pleach_hw.load.fields import CHECK_CYCLES, FieldReader
from tests.gateware.streams import plain, send, simulate
from tests.strategies import random_model

#: Fields that are right, of a layer and of what a convolution has besides.
GOOD = (
    {"inputs": 20, "outputs": 12},
    {"entries": 40},
    {"shift": 5, "activation": 1, "bias": 1, "bias_exponent": 3, "accumulator_bits": 30,
     "output_fraction": 8},
    {"codebook_size": 7, "code_length": 3, "gap_classes": 4, "gap_length": 2, "narrow": 0},
    {"height": 8, "width": 8},
    {"channels": 5, "groups": 1},
    {"kernel_height": 2, "kernel_width": 2, "stride": 1, "padding": 0, "pool": 1, "pool_stride": 1},
)  # fmt: skip
EMPTY = {"entries": 0, "codebook_size": 0, "code_length": 0, "gap_classes": 0, "gap_length": 0}
LAYOUTS = words.LAYER_WORDS + words.CONV_WORDS


def packed(convolution, **changed):
    """The words of `GOOD` with some fields changed; ``reserved`` is a word whose bit 31 is set."""
    reserved = changed.pop("reserved", None)
    made = []
    for word, good in zip(LAYOUTS, GOOD, strict=True):
        fields = good | {name: changed.pop(name) for name in good if name in changed}
        made.append(word.pack(**fields))
    assert not changed
    if reserved is not None:
        free = LAYOUTS[reserved].reserved()
        made[reserved] |= free & -free
    return made if convolution else made[: len(words.LAYER_WORDS)]


def read_fields(cases):
    """What the reader says of sections ``(type, length, words)``: ``(error, fields)``."""
    dut = FieldReader()
    said = []

    async def bench(ctx):
        for kind, length, sent in cases:
            ctx.set(dut.section, {"type": kind, "length": length})
            await ctx.tick().repeat(2)
            ctx.set(dut.begin, 1)
            if not ctx.get(dut.refuse):
                await ctx.tick()
                ctx.set(dut.begin, 0)
                await send(ctx, dut.i, sent, idle=0.3, seed=length)
                await ctx.tick().repeat(CHECK_CYCLES)
                assert ctx.get(dut.done) != ctx.get(dut.refuse)
            error = EngineError(ctx.get(dut.error) if ctx.get(dut.refuse) else 0)
            said.append((error, plain(ctx.get(dut.fields))))
            await ctx.tick()
            ctx.set(dut.begin, 0)
            assert not ctx.get(dut.done)

    simulate(dut, bench)
    return said


def test_fields_that_are_wrong():
    """The most that each field may be, and one more."""
    right = [
        {}, {"shift": 47}, {"bias_exponent": 14}, {"codebook_size": 256}, {"inputs": 65534},
        {"inputs": 65535, "bias": 0}, {"outputs": 65535}, {"code_length": 12}, {"gap_classes": 26},
        {"gap_length": 8}, {"activation": 0}, {"entries": 640},
        {"codebook_size": 1, "code_length": 0},
    ]  # fmt: skip
    wrong = [
        {"shift": 48}, {"bias_exponent": 15}, {"codebook_size": 257}, {"inputs": 65535},
        {"inputs": 0}, {"outputs": 0}, {"code_length": 13}, {"gap_classes": 27},
        {"gap_length": 9}, {"activation": 2}, {"entries": 641}, {"entries": 2**32 - 1},
        {"entries": 0}, {"codebook_size": 0, "code_length": 0}, {"gap_classes": 0},
        {"reserved": 2}, {"reserved": 3}, EMPTY,
    ]  # fmt: skip
    table = [{"codebook_size": 1}, {"code_length": 0}]
    expected = [(right, EngineError.OK), (wrong, EngineError.BAD_FIELD)]
    expected += [(table, EngineError.BAD_TABLE)]
    for kind in (words.SECTION_LAYER, words.SECTION_CONV):
        convolution = kind == words.SECTION_CONV
        cases, errors = [], []
        for changes, error in expected:
            cases += [(kind, 20, packed(convolution, **each)) for each in changes]
            errors += [error] * len(changes)
        if convolution:
            cases += [(kind, 20, packed(True, reserved=5))]
            errors += [EngineError.BAD_FIELD]
        # No entry, no word behind the fields.
        for length in (len(cases[0][2]), len(cases[0][2]) + 1):
            cases += [(kind, length, packed(convolution, **EMPTY))]
        errors += [EngineError.OK, EngineError.BAD_FIELD]
        said = read_fields(cases)
        for case, (error, fields), expected_error in zip(cases, said, errors, strict=True):
            assert error == expected_error, case
            names = ("size", "count", "scale", "tables")
            for name, word, sent in zip(names, words.LAYER_WORDS, case[2], strict=False):
                read = {key: fields[name][key] for key in word.fields if not key.startswith("_")}
                assert word.pack(**read) == sent & ~word.reserved()
            assert fields["columns"] == fields["size"]["inputs"] + fields["scale"]["bias"]
            assert fields["convolution"] == convolution


def test_sections_that_are_no_layers():
    """Their words are not looked at."""
    cases = [
        (words.SECTION_LAYER, 3, []),
        (words.SECTION_CONV, 6, []),
        (3, 20, []),
        (0, 20, []),
        (words.SECTION_LAYER, 20, packed(False)),
    ]
    assert [error for error, _ in read_fields(cases)] == [
        EngineError.BAD_FIELD, EngineError.BAD_FIELD, EngineError.SECTION_TYPE,
        EngineError.SECTION_TYPE, EngineError.OK,
    ]  # fmt: skip


CONFIG = EngineConfig(
    pes=4, groups=2, block=2, columns=32, entries=64, codebook=16, accumulators=16,
    accumulator_bits=40, layers=3,
)  # fmt: skip


def commit(networks):
    """Of each network, `(refusal, passes, bases)`: lists of layers' fields are its layers.

    The refusal is that of the first layer that was refused, which ends the network.
    """
    dut = Commit(CONFIG)
    said = []

    async def bench(ctx):
        for layers in networks:
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            refusal, passes, bases = None, [], []
            for number, fields in enumerate(layers):
                ctx.set(dut.layers, number)
                ctx.set(dut.last, number == len(layers) - 1)
                ctx.set(dut.fields, fields)
                await ctx.tick().repeat(4)
                bases.append((ctx.get(dut.column_base), ctx.get(dut.codebook_base)))
                if ctx.get(dut.refused):
                    refusal = plain(ctx.get(dut.refusal))
                    refusal = EngineError(refusal["error"]), Resource(refusal["resource"])
                    break
                ctx.set(dut.commit, 1)
                await ctx.tick()
                ctx.set(dut.commit, 0)
                assert ctx.get(dut.program.write) and ctx.get(dut.program.index) == number
                passes.append(plain(ctx.get(dut.program.pass_)))
                await ctx.tick()
                assert not ctx.get(dut.program.write)
            said.append((refusal, passes, bases, ctx.get(dut.convolutional)))

    simulate(dut, bench)
    return said


def fields_of(inputs, outputs, **changed):
    """The fields of a layer, as `FieldReader` has them."""
    values = {name: value for word in GOOD[:4] for name, value in word.items()}
    values |= {"bias": 0, "entries": 1, "codebook_size": 2}
    values |= {"inputs": inputs, "outputs": outputs}
    convolution = changed.pop("convolution", 0)
    values |= changed
    names = ("size", "count", "scale", "tables")
    parts = {
        part: {key: values[key] for key in word.fields if not key.startswith("_")}
        for part, word in zip(names, words.LAYER_WORDS, strict=True)
    }
    return parts | {"columns": inputs + values["bias"], "convolution": convolution}


def test_passes_are_those_of_the_program():
    """What is written for a layer is what `lower` makes of it, layer by layer."""
    rng = np.random.default_rng(5)
    models = [
        random_model(rng, widths, density=0.3, codebook=3, input_type=InputType.INT16)
        for widths in ([5, 9, 3, 12], [20, 8], [1, 1, 30])
    ]
    networks = [
        [
            fields_of(
                layer.inputs, layer.outputs, bias=int(layer.bias), shift=layer.shift,
                bias_exponent=layer.bias_exponent, activation=int(layer.activation),
                codebook_size=len(layer.codebook),
            )
            for layer in model.layers
        ]
        for model in models
    ]  # fmt: skip
    for model, (refusal, passes, _, _) in zip(models, commit(networks), strict=True):
        assert refusal is None
        program = lower(model, CONFIG).passes
        assert len(passes) == len(program)
        for written, each in zip(passes, program, strict=True):
            for name in ("inputs", "bias", "bias_exponent", "rows", "parity", "shift", "relu"):
                assert written[name] == int(getattr(each, name)), name
            assert written["column_base"] == each.column_base
            assert written["codebook_base"] == each.codebook_base
            assert written["last"] == int(each is program[-1])


@pytest.mark.parametrize("spare", [0, 1])
def test_room_for_a_layer(spare):
    """What just fits beside another layer, and one more; in the order of the errors."""
    error, more = EngineError, 1 - spare
    cases = {
        "columns": [fields_of(4, 2), fields_of(2, 3), fields_of(3, 3)],
        Resource.COLUMNS: [fields_of(20, 2, convolution=1), fields_of(44 + 4 * more, 2)],
        Resource.ROWS: [fields_of(4, 20), fields_of(20, 12 + more)],
        Resource.CODEBOOK: [
            fields_of(4, 2, codebook_size=9), fields_of(2, 1, codebook_size=7 + more),
        ],
        Resource.ACCUMULATOR_BITS: [fields_of(4, 2, accumulator_bits=40 + more)],
        error.SHAPE: [fields_of(4, 2), fields_of(2 + more, 99 * more + 1)],
        error.BAD_FIELD: [fields_of(4, 2, entries=4095 + more)],
        "two of them": [fields_of(99, 2, codebook_size=20)],
    }  # fmt: skip
    said = dict(zip(cases, commit(cases.values()), strict=True))
    assert said["columns"][0] is None and said["two of them"][0] == (
        error.CAPACITY,
        Resource.COLUMNS,
    )
    # Blocks of two columns in each of two groups.
    assert [base for base, _ in said["columns"][2]] == [0, 2, 4]
    assert [base for _, base in said[Resource.CODEBOOK][2]] == [0, 9]
    assert [said[name][3] for name in ("columns", Resource.COLUMNS)] == [0, 1]
    for name in cases:
        if isinstance(name, Resource):
            assert said[name][0] == ((error.CAPACITY, name) if more else None), name
        elif isinstance(name, error):
            assert (said[name][0] or [None])[0] == (name if more else None), name


def test_a_convolution_chains_with_anything():
    layers = [fields_of(4, 3), fields_of(7, 5, convolution=1), fields_of(9, 2), fields_of(2, 2)]
    ((refusal, passes, _, convolutional),) = commit([layers])
    assert (refusal, len(passes), convolutional) == (None, 4, 1)
