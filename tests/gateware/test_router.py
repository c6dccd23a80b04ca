"""Vectors on their way to the groups, or out of the engine."""

from random import Random

import pytest

from pleach.engine import EngineConfig
from pleach.engine.program import Sink, Source
from pleach_hw.compute.router import VectorRouter
from tests.gateware.streams import plain, send, simulate
from tests.gateware.test_lnzd import vectors_of

CONFIGS = [
    EngineConfig(pes=1),
    EngineConfig(pes=2),
    EngineConfig(pes=4, groups=4, lanes=1),
    EngineConfig(pes=16, groups=2, lanes=8),
]


def activations(vectors):
    """What lanes hold by their columns; the last vector of a pass, and no other, says so."""
    found = {}
    for number, vector in enumerate(vectors):
        assert vector["last"] == (number + 1 == len(vectors))
        for lane, value in enumerate(vector["values"]):
            if vector["mask"] >> lane & 1:
                assert found.setdefault(vector["column"] + lane, value) == value
    return found


def routed(config, source, sink, inputs, drained, *, stall=0.4):
    """What comes out for each group, and outside, while both inputs offer vectors."""
    dut = VectorRouter(config)
    ports = [*dut.o, dut.outputs]
    got = [[] for _ in ports]
    random = Random(7)

    async def offer(ctx, stream, vectors):
        await send(ctx, stream, vectors, idle=0.3, seed=1)

    async def offer_inputs(ctx):
        await offer(ctx, dut.inputs, inputs)

    async def offer_drained(ctx):
        await offer(ctx, dut.drained, drained)

    async def bench(ctx):
        ctx.set(dut.source, source)
        ctx.set(dut.sink, sink)
        for _ in range(8 * (len(inputs) + len(drained)) + 8):
            ready = [random.random() >= stall for _ in ports]
            for port, value in zip(ports, ready, strict=True):
                ctx.set(port.ready, value)
            _, _, *offered = await ctx.tick().sample(
                *(port.valid for port in ports), *(port.payload for port in ports)
            )
            valid, payloads = offered[: len(ports)], offered[len(ports) :]
            assert len(set(valid[:-1])) == 1, "a vector for some groups only"
            assert not valid[0] or all(ready[:-1]), "a group was not ready"
            for number, payload in enumerate(payloads):
                if valid[number] and ready[number]:
                    got[number].append(plain(payload))

    simulate(dut, bench, background=[offer_inputs, offer_drained])
    return got[:-1], got[-1]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("sink", Sink)
def test_vectors_go_where_the_passes_say(config, source, sink):
    """Each group gets its columns and no other; what the pass does not take stays where it is."""
    random = Random(config.pes)
    count = random.randint(20, 40)
    first, rows = ([random.randint(-32768, 32767) for _ in range(count)] for _ in range(2))
    inputs, drained = vectors_of(first, config.vector), vectors_of(rows, config.drained)
    groups, outputs = routed(config, source, sink, inputs, drained)
    assert activations(outputs) == (dict(enumerate(rows)) if sink == Sink.OUTPUTS else {})
    taken = first if source == Source.INPUTS else rows if sink == Sink.NEXT else []
    for group, vectors in enumerate(groups):
        assert activations(vectors) == dict(enumerate(taken[group :: config.groups]))
