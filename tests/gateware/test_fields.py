"""The reader of a layer's fields, and what says whether an engine has room for the layer."""

import numpy as np
import pytest

from pleach.engine import EngineConfig, words
from pleach.engine.program import lower
from pleach.engine.protocol import EngineError, Resource
from pleach.model import Activation, InputType
from pleach_hw.load.commit import Commit
from pleach_hw.load.fields import CHECK_CYCLES, FieldReader
from tests.gateware.streams import plain, send, simulate
from tests.strategies import random_model

LAYER, CONV, POOL, CELL = (
    words.SECTION_LAYER, words.SECTION_CONV, words.SECTION_POOL, words.SECTION_CELL
)  # fmt: skip
SHORT = words.SHORT
SCALE = {
    "shift": 5, "function": 1, "bias": 1, "bias_exponent": 3, "accumulator_bits": 30, "scaled": 0,
    "joined": 0, "output_fraction": 8,
}  # fmt: skip
TABLES = {
    "codebook_size": 7, "code_length": 3, "gap_classes": 4, "gap_length": 2, "narrow": 0,
    "streams": 0, "sliced": 0,
}  # fmt: skip
#: Fields that are right, of any word.
GOOD = SCALE | TABLES | {
    "inputs": 20, "outputs": 12, "entries": 40, "low": 3, "high": 7,
    "source": 1, "skip": 2, "skip_channels": 6, "skip_stride_height": 1, "skip_stride_width": 1,
    "height": 8, "width": 8, "channels": 5,
    "kernel_height": 2, "kernel_width": 2, "stride": 1, "padding": 0, "pool": 1, "sides": 0,
    "stride_height": 1, "stride_width": 2, "groups": 300,
    "padding_top": 1, "padding_left": 0, "padding_bottom": 1, "padding_right": 0, "sum": 1,
}  # fmt: skip
EMPTY = {name: 0 for name in ("entries", *TABLES)}


def layouts(kind, values):
    """The words that a section of version 3 has."""
    short = kind & SHORT
    if kind & ~SHORT == POOL:
        yield from () if short else (words.CHANNELS_WORD, words.MAP_WORD)
        yield from (words.WINDOW_WORD, words.PADDING_WORD, words.POOL_WORD)
        return
    yield from (words.SHORT_WORD,) if short else words.LONG_WORDS
    yield from (words.SCALE_WORD, words.TABLES_WORD)
    if values["function"] > 1:
        yield words.BOUNDS_WORD
    if values["joined"]:
        yield words.JOINED_WORD
        if values["skip_channels"]:
            yield words.SKIP_WORD
    if kind & ~SHORT == CONV:
        yield from () if short else (words.MAP_WORD,)
        yield words.KERNEL_WORD
        if values["sides"]:
            yield from (words.SIDES_WORD, words.PADDING_WORD)


def packed(kind, reserved=None, **changed):
    """The words of `GOOD` with some fields changed; `reserved` is a word whose free bit is set."""
    values = GOOD | changed
    used = list(layouts(kind, values))
    made = [word.pack(**{n: values[n] for n in word.fields if n[0] != "_"}) for word in used]
    if reserved is not None:
        free = used[reserved].reserved()
        made[reserved] |= free & -free
    return made


def read_fields(cases, *, maps=False, version=3):
    """What the reader says of sections ``(type, length, words)``: ``(error, fields)``."""
    dut = FieldReader(maps=maps)
    said = []

    async def bench(ctx):
        ctx.set(dut.version, version)
        for kind, length, sent in cases:
            ctx.set(dut.section, {"type": kind, "length": length})
            ctx.set(dut.exhausted, length == 0)
            await ctx.tick().repeat(2)
            ctx.set(dut.begin, 1)
            if not ctx.get(dut.refuse):
                await ctx.tick()
                ctx.set(dut.begin, 0)
                await send(ctx, dut.i, sent[:length], idle=0.3, seed=length)
                ctx.set(dut.exhausted, length <= len(sent))
                for _ in range(CHECK_CYCLES):
                    if ctx.get(dut.refuse):
                        break
                    await ctx.tick()
                assert ctx.get(dut.done) != ctx.get(dut.refuse)
            error = EngineError(ctx.get(dut.error) if ctx.get(dut.refuse) else 0)
            said.append((error, plain(ctx.get(dut.fields))))
            await ctx.tick()
            ctx.set(dut.begin, 0)
            assert not ctx.get(dut.done)
            await ctx.tick()

    simulate(dut, bench)
    return said


RIGHT = [
    {}, {"shift": 47}, {"bias_exponent": 14}, {"codebook_size": 256}, {"outputs": 65535},
    {"code_length": 12}, {"gap_classes": 26}, {"gap_length": 8}, {"function": 0}, {"entries": 640},
    {"codebook_size": 1, "code_length": 0},
]  # fmt: skip
WRONG = [
    {"shift": 48}, {"bias_exponent": 15}, {"codebook_size": 257}, {"outputs": 0},
    {"code_length": 13}, {"gap_classes": 27}, {"gap_length": 9}, {"entries": 641},
    {"entries": 65535}, {"entries": 0}, {"codebook_size": 0, "code_length": 0},
    {"gap_classes": 0}, EMPTY,
]  # fmt: skip
TABLE = [{"codebook_size": 1}, {"code_length": 0}]


@pytest.mark.parametrize("kind", [LAYER, LAYER + SHORT, CONV, CONV + SHORT])
def test_fields_that_are_wrong(kind):
    """The most that each field may be, and one more."""
    right, wrong = list(RIGHT), list(WRONG)
    if not kind & SHORT:
        right += [{"inputs": 65535}]
        wrong += [{"inputs": 0}, {"entries": 2**32 - 1}]
    maps = kind != LAYER
    if kind & ~SHORT == CONV and not kind & SHORT:
        wrong += [{"joined": 1, "reserved": 5}]
    if maps:
        right += [{"function": 2}, {"function": 2, "low": 7}]
        joined = [{"joined": 1}, {"joined": 1, "skip_channels": 0}]
        joined += [{"function": 2, "joined": 1, "low": 65535}]
        if kind & SHORT:
            wrong += joined
        else:
            right += joined
        wrong += [{"function": 2, "low": 8}, {"function": 2, "low": 0, "high": 65535}]
    if kind & ~SHORT == CONV:
        right += [{"sides": 1}]
        wrong += [{"sides": 1, "reserved": -3}, {"reserved": -1}]
    wrong += [{"reserved": 1 if kind & SHORT else 2}]
    cases = [(kind, 20, packed(kind, **each)) for each in right + wrong + TABLE]
    errors = [EngineError.OK] * len(right) + [EngineError.BAD_FIELD] * len(wrong)
    errors += [EngineError.BAD_TABLE] * len(TABLE)
    # No entry, no word behind the fields.
    length = len(packed(kind, **EMPTY))
    cases += [(kind, each, packed(kind, **EMPTY)) for each in (length, length + 1)]
    errors += [EngineError.OK, EngineError.BAD_FIELD]
    # Fewer words than the fields have.
    cases += [(kind, each, packed(kind)) for each in (0, length - 1)]
    errors += [EngineError.BAD_FIELD] * 2
    said = read_fields(cases, maps=maps)
    for (_, _, sent), (error, _), expected in zip(cases, said, errors, strict=True):
        assert error == expected, [hex(word) for word in sent]
    for each, (_, fields) in zip(right, said, strict=False):
        values = GOOD | each
        got = {name: fields[name] for name in ("outputs", "entries")}
        got |= fields["scale"] | fields["tables"]
        assert all(got[name] == values[name] for name in got if name in values)
        bounds = [(0x8000, 32767), (0, 32767), (values["low"], values["high"])]
        signed = [words.signed16(each) for each in bounds[values["function"]]]
        assert [fields["low"], fields["high"]] == signed
        assert (fields["short"], fields["pool"]) == (int(bool(kind & SHORT)), 0)
        assert kind & SHORT or fields["inputs"] == values["inputs"]


def test_a_pool_has_no_weights():
    cases = [(kind, len(packed(kind)), packed(kind)) for kind in (POOL, POOL + SHORT)]
    long = packed(POOL)
    cases += [(POOL, len(long) + 1, long), (POOL, len(long) - 1, long)]
    cases += [(POOL, len(long), packed(POOL, reserved=n)) for n in (0, -1)]
    said = read_fields(cases, maps=True)
    assert [error for error, _ in said] == [EngineError.OK] * 2 + [EngineError.BAD_FIELD] * 4
    for _, fields in said[:2]:
        assert (fields["pool"], fields["entries"], fields["scale"]["shift"]) == (1, 0, 5)
        assert (fields["low"], fields["high"]) == (-32768, 32767)


def test_sections_that_an_engine_never_runs():
    """Their words are not looked at."""
    error = EngineError
    for maps in (False, True):
        cases = [(kind, 20, packed(kind)) for kind in (CONV, CONV + SHORT)]
        expected = [error.OK if maps else error.UNSUPPORTED] * 2
        cases += [(CELL, 20, []), (0, 20, []), (5, 20, []), (CELL + SHORT, 20, [])]
        expected += [error.UNSUPPORTED] + [error.SECTION_TYPE] * 3
        unsupported = [{"scaled": 1}, {"streams": 1}, {"sliced": 1}]
        if not maps:
            unsupported += [{"function": 2}, {"function": 3}, {"joined": 1}]
        for each in unsupported:
            cases.append((LAYER, 20, packed(LAYER, **each)[: None if maps else 4]))
            expected.append(error.UNSUPPORTED)
        assert [said for said, _ in read_fields(cases, maps=maps)] == expected


def test_version_2_has_long_layers_alone():
    error = EngineError
    cases = [(LAYER, 20, packed(LAYER)), (LAYER + SHORT, 20, []), (POOL, 20, []), (CONV, 20, [])]
    cases += [(LAYER, 20, packed(LAYER, **each)) for each in ({"scaled": 1}, {"streams": 1})]
    expected = [error.OK, error.SECTION_TYPE, error.SECTION_TYPE, error.UNSUPPORTED]
    expected += [error.BAD_FIELD] * 2
    for maps in (False, True):
        assert [said for said, _ in read_fields(cases, maps=maps, version=2)] == expected


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
            said.append((refusal, passes, bases))

    simulate(dut, bench)
    return said


def fields_of(inputs, outputs, **changed):
    """The fields of a layer, as `FieldReader` has them."""
    changed = {"bias": 0, "entries": 1, "codebook_size": 2} | changed
    short = changed.pop("short", 0)
    parts = {
        part: {name: changed.pop(name, values[name]) for name in values}
        for part, values in (("scale", SCALE), ("tables", TABLES))
    }
    return parts | {"inputs": inputs, "outputs": outputs, "short": short} | changed


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
                bias_exponent=layer.bias_exponent, codebook_size=len(layer.codebook),
                function=int(layer.activation == Activation.RELU),
            )
            for layer in model.layers
        ]
        for model in models
    ]  # fmt: skip
    for model, (refusal, passes, _) in zip(models, commit(networks), strict=True):
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
        Resource.COLUMNS: [fields_of(44 + 4 * more, 20), fields_of(0, 2, short=1)],
        Resource.ROWS: [fields_of(4, 20), fields_of(20, 12 + more)],
        Resource.CODEBOOK: [
            fields_of(4, 2, codebook_size=9), fields_of(2, 1, codebook_size=7 + more),
        ],
        Resource.ACCUMULATOR_BITS: [fields_of(4, 2, accumulator_bits=40 + more)],
        error.SHAPE: [fields_of(4, 2), fields_of(2 + more, 99 * more + 1)],
        error.BAD_FIELD: [fields_of(4, 2, entries=4095 + more)],
        "two of them": [fields_of(99, 2, codebook_size=20)],
        "a short first one": [fields_of(0, 2, short=1)],
    }  # fmt: skip
    said = dict(zip(cases, commit(cases.values()), strict=True))
    assert said["a short first one"][0][0] == error.BAD_FIELD
    assert said["columns"][0] is None and said["two of them"][0] == (
        error.CAPACITY,
        Resource.COLUMNS,
    )
    # Blocks of two columns in each of two groups.
    assert [base for base, _ in said["columns"][2]] == [0, 2, 4]
    assert [base for _, base in said[Resource.CODEBOOK][2]] == [0, 9]
    for name in cases:
        if isinstance(name, Resource):
            assert said[name][0] == ((error.CAPACITY, name) if more else None), name
        elif isinstance(name, error):
            assert (said[name][0] or [None])[0] == (name if more else None), name
