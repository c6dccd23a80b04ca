"""Convolutions on which engines break, each made so that what it is about does happen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan, choices, lower
from pleach.model import (
    Activation,
    CompressedModel,
    Convolution,
    Graph,
    InputType,
    Node,
    Pool,
    Skip,
    Window,
)
from pleach.numbers import INT16
from pleach_sim.simulate import Job
from tests.strategies import random_inputs, random_part


def map_engine(pes: int) -> EngineConfig:
    """An engine with a map memory that holds every case; rings and queues are short, so that they
    fill up.

    With one PE the ring is in block RAM, and there are no scales; with 16 they are in four groups.
    """
    return EngineConfig(
        pes=pes,
        groups=max(1, pes // 4),
        lanes=2 if pes > 1 else 1,
        columns=2048,
        block=2 if pes == 4 else 1,
        entries=8192 if pes < 16 else 4096,
        codebook=256,
        codes=16,
        accumulators={1: 256, 4: 64, 16: 16}[pes],
        entry_rows={1: 64, 4: 16, 16: 8}[pes],
        accumulator_bits=40,
        queue_depth=8,
        vectors=4,
        scales={1: 0, 4: 64, 16: 8}[pes],
        maps=4096,
        neighbours=4 if pes == 4 else 8,
    )


def conv(rng, channels, height, width, kernel, rows, *, skip=None, **shape):
    """A layer with a kernel of ``(height, width)`` over a map, most of its weights kept."""
    layer = {
        name: shape.pop(name)
        for name in ("density", "bias", "activation", "shift", "codebook")
        if name in shape
    }
    over = Convolution(channels, height, width, *kernel, **shape)
    return random_part(rng, over, rows, skip, **{"density": 0.6, "shift": 8} | layer)


def model_of(channels, height, width, *nodes, input_type=InputType.UINT8):
    """A network of nodes ``(operator, *sources)``; those without sources take the one before."""
    made = [
        Node(f"n{number}", op, tuple(sources) or (number,))
        for number, (op, *sources) in enumerate(nodes)
    ]
    graph = Graph(tuple(made), (channels, height, width))
    return CompressedModel.of(graph, input_type=input_type)


def nasty_maps(config: EngineConfig) -> list[Job]:
    """The cases by name; the same ones on every call."""
    rng = np.random.default_rng(1)
    clip = Activation(-7, 90)

    def job(name, model, *, count=2, density=0.6, plan=None):
        return Job(name, model, random_inputs(rng, model, count, density), plan=plan)

    def one(channels, height, width, kernel, rows, **shape):
        return model_of(
            channels, height, width, (conv(rng, channels, height, width, kernel, rows, **shape),)
        )

    def planned(name, model, wanted):
        """The same model with every plan of its first layer that is `wanted`."""
        plans = [each for each in choices(model.graph.nodes[0].op, config) if wanted(each)]
        rest = tuple(choices(node.op, config)[-1] for node in model.graph.nodes[1:])
        return [job(f"{name}: {plan}", model, plan=(plan, *rest)) for plan in plans]

    jobs = [
        job("a kernel of one value", one(1, 5, 7, (1, 1), 3)),
        job("a kernel larger than the map", one(2, 2, 3, (5, 5), 5, padding=2)),
        job("a stride larger than the kernel", one(3, 9, 8, (2, 2), 5, stride=3)),
        job("rows and columns of padding only", one(2, 3, 3, (1, 1), 3, padding=(2, 1, 3, 2))),
        job("padding only, without a bias", one(2, 3, 2, (1, 2), 3, padding=3, bias=False)),
        job("odd maps, a remainder of the pool", one(3, 7, 9, (3, 3), 5, pool=2)),
        job("pools of three", one(2, 8, 9, (2, 3), 2, pool=3, activation=clip)),
        job("300 channels", one(300, 2, 2, (2, 2), 5, padding=(0, 1, 1, 0), density=0.1)),
        job("a group for each channel", one(6, 5, 5, (3, 3), 6, groups=6, padding=1)),
        job("two groups", one(6, 4, 5, (3, 2), 4, groups=2, stride=(1, 2))),
        job("no weight and no bias", one(3, 4, 4, (3, 3), 3, density=0.0, bias=False)),
        job("zeros only", one(3, 6, 6, (3, 3), 3), density=0.0),
        job("windows of zeros only", one(1, 12, 12, (3, 3), 6, pool=2), density=0.03),
        job("every value", one(3, 6, 5, (3, 3), 7, density=1.0), density=1.0),
        *planned("teams that outnumber the windows", one(2, 3, 4, (3, 3), 9), lambda _: True),
        *planned(
            "rings that are exactly full",
            one(2, 5, 6, (2, 2), config.accumulators // 4 * config.row_pes),
            lambda plan: plan.side == 2 or plan.teams == 1,
        ),
    ]
    a, b = conv(rng, 2, 6, 5, (3, 3), 4, padding=1), conv(rng, 4, 6, 5, (3, 3), 4, padding=1)
    c = conv(rng, 4, 6, 5, (3, 3), 4, padding=1, skip=Skip(4), activation=Activation.NONE)
    dense = random_part(rng, None, 10, inputs=120, density=0.3, shift=8)
    residual = model_of(2, 6, 5, (a,), (b,), (c, 2, 1), (dense,))
    jobs += [
        job("a residual that overwrites its source", residual),
        *planned("the same", residual, lambda plan: plan.side == 2),
    ]
    short = conv(rng, 4, 6, 5, (1, 1), 5, stride=2, skip=Skip(4, (2, 2)), bias=False)
    jobs.append(job("a shortcut with a stride", model_of(2, 6, 5, (a,), (b,), (short, 2, 1))))
    mean = Pool(Window(4, 6, 5, kernel_height=6, kernel_width=5), shift=5)
    over = Pool(Window(4, 6, 5, kernel_height=3, kernel_width=3, stride=2, padding=1))
    jobs += [
        job("a mean of the whole map", model_of(2, 6, 5, (a,), (mean,))),
        job("a pool that overlaps", model_of(2, 6, 5, (a,), (over,))),
        job("fully connected, one after the other", _dense(rng)),
    ]
    jobs.append(job("signs of signs", _signs(rng, 0)))
    if config.scales:
        jobs += [job("scales", _signs(rng, 1)), *planned("signs", _signs(rng, 0.1), lambda _: True)]
    assert any(LayerPlan(config.groups, 2) == (each.plan or [None])[0] for each in jobs)
    return jobs


def attacked() -> list[Job]:
    """Two small networks for tests that cut them short: a residual, a pool and a fully connected
    layer; and a mean over a map."""
    rng = np.random.default_rng(2)
    a = conv(rng, 2, 4, 5, (3, 3), 4, padding=1)
    b = conv(rng, 4, 4, 5, (3, 2), 4, padding=(1, 0, 1, 1), skip=Skip(4), pool=2)
    dense = random_part(rng, None, 5, inputs=16, density=0.4, shift=8)
    whole = model_of(2, 4, 5, (a,), (b, 1, 1), (dense,))
    short = conv(rng, 1, 4, 5, (2, 2), 4)
    mean = Pool(Window(4, 3, 4, kernel_height=3, kernel_width=4), shift=4)
    pooled = model_of(1, 4, 5, (short,), (mean,))
    return [
        Job(name, model, random_inputs(rng, model, 2, 0.6))
        for name, model in (("a residual", whole), ("a mean", pooled))
    ]


def overwriting(config: EngineConfig, jobs: list[Job]) -> int:
    """Passes that write their map where their skip is read."""
    passes = [each for job in jobs for each in lower(job.model, config, job.plan).passes]
    return sum(bool(each.skip) and each.sink == each.skip_source for each in passes)


def idle_teams(config: EngineConfig, jobs: list[Job]) -> int:
    """Passes with fewer windows than teams."""
    passes = [each for job in jobs for each in lower(job.model, config, job.plan).passes]
    return sum(1 << each.teams > each.units_x * each.units_y for each in passes)


def full_rings(config: EngineConfig, jobs: list[Job]) -> int:
    """The jobs whose first layer leaves no word of the ring free."""
    full = 0
    for job in jobs:
        op = job.model.graph.nodes[0].op
        if job.plan and not isinstance(op, Pool):
            rows = -(-op.outputs // (config.pes // job.plan[0].teams)) * job.plan[0].side ** 2
            full += rows * min(7, config.accumulators // rows) == config.accumulators
    return full


def _signs(rng, scale):
    """A binary network, its functions signs, behind a pool and not, with bounds of any signs; with
    scales of up to so much of what these can be, on layers of its own, or without."""
    more = 14 if scale else 0

    def binary(layer, rows=0):
        scales = (rng.integers(*INT16, rows) * scale).astype(np.int16) if scale and rows else None
        codes = rng.integers(0, 2, len(layer.codes))
        codebook = np.array([-700, 700], np.int16)
        return replace(layer, codes=codes, codebook=codebook, scales=scales)

    def one(channels, height, width, kernel, rows, **layer):
        layer = {"codebook": 2, "bias": False} | layer
        return conv(rng, channels, height, width, kernel, rows, **layer)

    signs, clip = Activation(5, 90, True), Activation(-3000, 2000)
    parts = [
        binary(one(2, 9, 8, (3, 3), 7, padding=1, pool=2, activation=signs, shift=2 + more), 7),
        binary(one(7, 4, 4, (3, 2), 9, activation=Activation(-3, 3, True), shift=3)),
        binary(one(9, 2, 3, (1, 1), 7, activation=clip, shift=2 + more), 7),
        binary(random_part(rng, None, 5, inputs=42, shift=9 + more, codebook=2, density=0.5), 5),
    ]
    return model_of(2, 9, 8, *((part,) for part in parts))


def _dense(rng):
    layers = [
        random_part(rng, None, rows, inputs=inputs, density=0.4, shift=8)
        for inputs, rows in ((30, 17), (17, 9), (9, 1))
    ]
    graph = Graph(tuple(Node(f"n{k}", layer, (k,)) for k, layer in enumerate(layers)), (30,))
    return CompressedModel.of(graph, input_type=InputType.INT16)
