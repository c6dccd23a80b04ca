"""Models and inputs on which engines break, each made so that what it is about does happen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pleach.engine import EngineConfig
from pleach.model import Activation, CompressedLayer, CompressedModel, InputType
from pleach.reference import Reference
from pleach_sim.simulate import Job
from tests.strategies import random_inputs, random_layer, random_model

NONE, RELU = Activation.NONE, Activation.RELU


def small_engine(pes: int) -> EngineConfig:
    """An engine that holds every case and builds fast; queues are short, so that they fill up.

    With 16 PEs they are in four groups, and pointers in blocks of four. One PE is made as for a
    small chip: it loads bit by bit, and memories have no output registers.
    """
    groups = 4 if pes == 16 else 1
    small = pes == 1
    return EngineConfig(
        pes=pes,
        groups=groups,
        layers=4,
        columns=1024,
        block=4 if groups > 1 else 1,
        entries=8192 // pes * groups,
        codebook=512,
        accumulators=256 if groups > 1 else max(32, 512 // pes),
        accumulator_bits=40,
        queue_depth=8,
        vectors=1 if small else 16,
        ram_latency=1 if small else 2,
        serial_loader=small,
    )


def layer(
    inputs: int,
    outputs: int,
    weights: dict[tuple[int, int], int],
    *,
    shift: int = 0,
    activation: Activation = NONE,
    bias: bool = False,
    bias_exponent: int = 0,
) -> CompressedLayer:
    """A layer of ``{(row, column): integer weight}``; column `inputs` is the bias."""
    positions = [column * outputs + row for row, column in weights]
    order = np.argsort(positions)
    codebook, codes = np.unique(list(weights.values()), return_inverse=True)
    return CompressedLayer(
        name="fc1",
        inputs=inputs,
        outputs=outputs,
        bias=bias,
        positions=np.array(positions, np.int64)[order],
        codes=codes[order],
        codebook=codebook,
        shift=shift,
        activation=activation,
        bias_exponent=bias_exponent,
        output_fraction=0,
    )


def dense(rng: np.random.Generator, rows, columns) -> dict[tuple[int, int], int]:
    """A small random weight, never zero, in each of these rows and columns."""
    values = (-5, -2, -1, 1, 3, 4)
    return {(row, column): int(rng.choice(values)) for column in columns for row in rows}


def nasty(pes: int) -> list[Job]:
    """The cases by name, for rows dealt to `pes` PEs; the same ones on every call."""
    rng = np.random.default_rng(1)

    def job(name, *layers, inputs=None, input_type=InputType.UINT8, count=3, density=0.7):
        model = CompressedModel(layers, input_type, 0)
        if inputs is None:
            inputs = random_inputs(rng, model, count, density)
        return Job(name, model, np.asarray(inputs, model.input_type.dtype))

    jobs = [
        job("1x1", layer(1, 1, {(0, 0): 3}), inputs=[[7], [0], [255]]),
        job("no entry", layer(5, 3, {})),
        job("no entry, then a bias", layer(5, 3, {}), layer(3, 2, {(1, 3): 9}, bias=True)),
        job("only the last weight", layer(9, 7, {(6, 8): -4}), density=1.0),
        job(
            "empty columns: first, last and runs of them",
            layer(40, 2 * pes + 1, dense(rng, range(2 * pes + 1), (3, 4, 9, 20, 38))),
            density=1.0,
        ),
        job("PEs without a row", layer(20, max(1, pes // 2), dense(rng, [0], range(20)))),
        job("one row, every column", layer(200, 1, dense(rng, [0], range(200))), density=1.0),
        job(
            "two rows of one PE take turns",
            layer(60, pes + 1, dense(rng, [0, pes], range(60))),
            density=1.0,
        ),
        job(
            "all weights in one PE: its queue fills, the others are idle",
            layer(50, 4 * pes, dense(rng, range(0, 4 * pes, pes), range(50)), shift=3),
            density=1.0,
        ),
        job(
            "a PE without weights",
            layer(30, 3 * pes, dense(rng, set(range(3 * pes)) - {0, pes, 2 * pes}, range(30))),
        ),
        job(
            "gaps of the maximum and one more",
            layer(800, 200, {divmod(p, 200)[::-1]: p % 7 - 3 for p in (0, 65536, 131073)}),
            count=1,
            density=1.0,
        ),
        job("longest codes", _longest_codes(rng)),
        job("256 codes", random_layer(rng, 40, 30, density=0.9, codebook=256, shift=8)),
        job(
            "all-zero inputs, without and with bias",
            random_layer(rng, 33, 17, density=0.4, bias=False),
            random_layer(rng, 17, 9, density=0.5, bias=True),
            inputs=np.zeros((2, 33)),
        ),
        job(
            "all-zero activations between the layers",
            layer(12, 9, {(r, 12): -1 - r for r in range(9)}, bias=True, activation=RELU),
            layer(9, 3, dense(rng, range(3), range(10)), bias=True, bias_exponent=14),
        ),
        job(
            "saturation both ways, negative inputs",
            layer(4, 6, {(r, c): (-1) ** r * 30000 for r in range(6) for c in range(4)}),
            inputs=[[32767] * 4, [-32768] * 4, [1, -1, 1, -1]],
            input_type=InputType.INT16,
        ),
        job(
            "ties",
            layer(1, 4, {(0, 0): 1, (1, 0): -1, (2, 0): 3, (3, 0): -3}, shift=1),
            inputs=[[1], [2], [3], [5]],
        ),
        job("the largest shift", layer(3, 2, dense(rng, range(2), range(3)), shift=47)),
        job(
            "negative activations between the layers",
            random_layer(rng, 11, 13, density=0.6, activation=NONE, shift=2),
            random_layer(rng, 13, 7, density=0.6, activation=NONE, shift=4),
        ),
        job(
            "wide, narrow, wide",
            random_layer(rng, 50, 100, density=0.2, shift=6),
            random_layer(rng, 100, 1, density=0.9, shift=6),
            random_layer(rng, 1, 100, density=0.9, shift=2),
            random_layer(rng, 100, 10, density=0.3, shift=6),
        ),
    ]
    for seed in range(6):
        rng = np.random.default_rng(seed)
        widths = [int(w) for w in rng.integers(1, 70, rng.integers(2, 6))]
        model = random_model(
            rng, widths, input_type=InputType(seed % 2), density=float(rng.choice([0.05, 0.2, 0.5]))
        )
        jobs.append(Job(f"random {seed}: {widths}", model, random_inputs(rng, model, 3)))
    return jobs


def _longest_codes(rng: np.random.Generator) -> CompressedLayer:
    """Codes of 12 bits and gap classes of 8: the lengths that frequencies of Fibonacci give."""
    counts = [1, 1]
    while len(counts) < 13:
        counts.append(counts[-1] + counts[-2])
    codes = rng.permutation(np.repeat(np.arange(13), counts))
    gap_counts = [*counts[:8], len(codes) - sum(counts[:8])]
    gaps = rng.permutation(np.repeat([16, 12, 8, 6, 4, 3, 2, 1, 0], gap_counts))
    positions = np.cumsum(gaps + 1) - 1
    outputs = 23
    return CompressedLayer(
        name="fc1",
        inputs=int(positions[-1]) // outputs + 1,
        outputs=outputs,
        bias=False,
        positions=positions,
        codes=codes,
        codebook=np.arange(13) * 3 - 17,
        shift=4,
        activation=NONE,
        bias_exponent=0,
        output_fraction=0,
    )


def network(seed: int = 3, widths=(64, 40, 24, 10)) -> CompressedModel:
    """A network such as people train: sparse, with biases, its layers' names in a META section."""
    rng = np.random.default_rng(seed)
    model = random_model(rng, list(widths), density=0.25, codebook=16, shift=9)
    named = [replace(layer, name=f"body.{n}.fc") for n, layer in enumerate(model.layers)]
    return replace(model, layers=named)


def images(model: CompressedModel, count: int, seed: int = 4) -> np.ndarray:
    """Inputs of which a third is not zero and of which no two give the same outputs."""
    inputs = random_inputs(np.random.default_rng(seed), model, count, density=0.3)
    assert len(np.unique(Reference(model).run(inputs), axis=0)) == count
    return inputs
