"""The plan's records alone: which packets are refused, and for which pass."""

from random import Random

from pleach.engine.maps import PLAN_HEAD, PLAN_WORDS, PassKind
from pleach.engine.plan import lower
from pleach.engine.protocol import EngineError
from pleach.host import plan_packet
from pleach_hw.maps.records import Records
from tests.cocotb.map_cases import attacked, map_engine
from tests.cocotb.plans import fields_of, wrong_plans
from tests.gateware.streams import send, simulate


def fields(words, layouts):
    """The fields of words."""
    found = {}
    for value, word in zip(words, layouts, strict=True):
        low = 0
        for name, bits in word.fields.items():
            found[name] = value >> low & (1 << bits) - 1
            low += bits
    return found


def bad_head(head, config):
    shape = config.pes, config.groups, config.neighbours
    return (
        tuple(head[name] for name in ("pes", "groups", "neighbours")) != shape
        or not 1 <= head["passes"] <= config.layers
        or not all(1 <= head[name] <= config.maps for name in ("inputs", "outputs"))
    )


def bad_pass(said, config, bits):
    """What the engine has not, or what has no end. `bits` are the widths of its fields."""

    def taken(name):
        return said[name] & (1 << bits[name]) - 1

    if not (taken("units_x") and taken("units_y") and taken("rows")):
        return True
    if said["units_x"] * said["units_y"] > config.maps:
        return True
    if said["kind"] == PassKind.POOL:
        return not taken("pixel_x") or said["group_channels"] not in (1, config.neighbours)
    return (
        said["teams"] > (config.groups - 1).bit_length()
        or not 1 <= said["local_rows"] <= config.named_rows
        or not 1 <= said["slot"] * said["slots"] <= config.accumulators
        or said["local_rows"] * config.pes >> said["teams"] < said["rows"]
        or max(said["edge_x"], said["edge_y"]) > said["side"]
    )


def expected(words, config, bits):
    """The number of the pass for which a plan is refused, or None."""
    head, size = len(PLAN_HEAD), len(PLAN_WORDS)
    if len(words) <= head or bad_head(said := fields(words[:head], PLAN_HEAD), config):
        return 0
    for number in range(said["passes"]):
        part = words[head + number * size :][:size]
        last = number + 1 == said["passes"]
        ended = len(words) == head + (number + 1) * size
        if len(part) < size or bad_pass(fields(part, PLAN_WORDS), config, bits) or last != ended:
            return number
    return None


def answers(config, packets):
    """What becomes of packets, one after the other: error, number of the pass, and whether there is
    a plan then."""
    dut, found = Records(config), []

    async def bench(ctx):
        for words in packets:
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            said = [{"data": word, "last": 0} for word in words]
            said[-1]["last"] = 1
            await send(ctx, dut.i, said)
            for _ in range(8):
                if ctx.get(dut.done):
                    break
                await ctx.tick()
            assert ctx.get(dut.done), "it was not answered"
            found.append((ctx.get(dut.error), ctx.get(dut.detail), ctx.get(dut.planned)))
            await ctx.tick()
            assert not ctx.get(dut.done)

    simulate(dut, bench, limit=200 * len(packets))
    bits = {name: len(getattr(dut.pass_, name)) for name, _ in dut.pass_.shape()}
    return found, bits


def changed(packet, number, **values):
    """A packet with other fields in its pass `number`."""
    words, seen = list(packet), dict.fromkeys(values, 0)
    for name, at, low, bits in fields_of(packet):
        if name in values:
            if seen[name] == number:
                words[at] = words[at] & ~((1 << bits) - 1 << low) | values[name] << low
            seen[name] += 1
    assert words != packet
    return words


def test_what_is_refused():
    """Each kind of wrong plan by itself, and many at random; right ones in between."""
    config = map_engine(4)
    first, second = (plan_packet(lower(job.model, config), config) for job in attacked())
    wrong = [
        changed(first, 1, edge_x=2),
        changed(first, 2, edge_y=1),
        changed(first, 0, units_x=1 << 7, units_y=1 << 7),
        changed(first, 0, slots=0),
        changed(first, 1, slots=7, slot=300),
        changed(first, 1, teams=3),
        changed(first, 2, local_rows=0),
        changed(first, 2, local_rows=1, rows=300),
        changed(second, 1, pixel_x=0),
        changed(second, 1, group_channels=3),
        changed(second, 1, units_x=0),
        [*first, 0],
        first[:-1],
        first[:3],
    ]
    random = [
        words
        for packet, seed in ((first, 5), (second, 6))
        for _, words in wrong_plans(packet, 30, seed)
        if len(words) > 1
    ]
    packets = [first, *wrong, second, *random, first]
    Random(1).shuffle(packets)
    found, bits = answers(config, [packet[1:] for packet in packets])
    for packet, (error, detail, planned) in zip(packets, found, strict=True):
        wanted = expected(packet[1:], config, bits)
        assert planned == (wanted is None)
        assert error == (EngineError.OK if wanted is None else EngineError.PLAN)
        assert detail == (wanted or 0)
    assert all(expected(words[1:], config, bits) is not None for words in wrong)
    assert 10 < sum(planned for *_, planned in found) < len(packets) - 20
