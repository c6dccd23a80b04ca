"""The control unit alone, between models of the processing elements and of the drain unit."""

from functools import partial
from random import Random

import pytest

from pleach.engine import EngineConfig
from pleach.engine.program import Sink, Source
from pleach_hw.compute.control import ControlUnit
from tests.gateware.streams import send, simulate
from tests.gateware.test_pe import pause, wait_for

CONFIGS = [
    EngineConfig(pes=1, columns=64, layers=1),
    EngineConfig(pes=2, columns=64, layers=5),
    EngineConfig(pes=8, groups=4, columns=64, layers=5),
]


def random_program(random, config, count):
    """Passes whose fields say nothing of their numbers, and of each the tokens of every group."""
    program, tokens = [], []
    for number in range(count):
        base = random.randrange(8)
        inputs = random.randint(1, 40 * config.groups)
        program.append(
            {
                "source": random.choice(list(Source)),
                "inputs": inputs,
                "bias": random.getrandbits(1),
                "bias_exponent": random.randrange(15),
                "column_base": base,
                "codebook_base": random.randrange(config.codebook),
                "parity": random.getrandbits(1),
                "rows": random.randint(1, config.most_rows),
                "shift": random.randrange(48),
                "relu": random.getrandbits(1),
                "sink": random.choice(list(Sink)),
                "last": int(number == count - 1),
            }
        )
        tokens.append(
            [random_tokens(random, inputs // config.groups) for _ in range(config.groups)]
        )
    return program, tokens


def random_tokens(random, columns):
    """Some of a group's columns in order, or none, and the end."""
    places = sorted(random.sample(range(columns), random.choice([0, min(columns, 7)])))
    found = [
        {"value": random.randint(-32768, 32767), "column": c, "present": 1, "last": 0}
        for c in places
    ]
    if not found or random.getrandbits(1):
        found.append({"value": 77, "column": 0, "present": 0, "last": 0})
    found[-1]["last"] = 1
    return found


def broadcasts(each, tokens, groups):
    """What has to be broadcast in a pass to each group."""
    columns = [
        [(each["column_base"] + t["column"], t["value"]) for t in mine if t["present"]]
        for mine in tokens
    ]
    if each["bias"]:
        group, place = each["inputs"] % groups, each["inputs"] // groups
        columns[group].insert(0, (each["column_base"] + place, 1 << each["bias_exponent"]))
    return columns


class Array:
    """PEs that take columns and need some cycles for each, and a drain unit that does for a pass.

    Gathers what was broadcast in each pass and what the drain unit was told, and asserts in each
    cycle what both rely on.
    """

    def __init__(self, dut, config, random, *, stall):
        self.dut, self.config, self.random, self.stall = dut, config, random, stall
        self.cleared = False
        self.begin([])

    def begin(self, program):
        self.program = program
        self.passes, self.commands, self.cycles, self.drained = [], [], [], 0
        self.open()

    def open(self):
        self.passes.append([[] for _ in range(self.config.groups)])
        self.first = None

    async def run(self, ctx):
        dut, random, groups = self.dut, self.random, self.config.groups
        ports = [(bus.valid, bus.column, bus.activation) for bus in dut.broadcast]
        drain = dut.drain
        command = (drain.last_row, drain.shift, drain.relu, drain.parity, dut.sink)
        standing = (dut.standing.parity, dut.standing.codebook_base, dut.source)
        work = [(0, 0)] * groups  # each group has MACs to issue from … to
        ready, done_at, clear_at, cycle = [[1] * groups] * 3, None, None, 0
        while True:
            _, _, start, clear, *got = await ctx.tick().sample(
                drain.start, drain.clear, *sum(ports, ()), *command, *standing
            )
            cycle += 1
            told, stands = tuple(got[-8:-3]), tuple(got[-3:])
            for group in range(groups):
                valid, column, activation = got[3 * group : 3 * group + 3]
                if valid:
                    each = self.program[len(self.passes) - 1]
                    bias = each["bias"] and self.first is None
                    assert bias or ready[-3][group], "broadcast to a group that was not ready"
                    self.passes[-1][group].append((column, activation))
                    self.first = self.first or cycle
                    begin = max(cycle + 3, work[group][1])
                    work[group] = (cycle + 3, begin + random.choice([0, 1, 1, 9]))
            if any(cycle < end for _, end in work) or self.first == cycle:
                each = self.program[len(self.passes) - 1]
                expected = each["parity"], each["codebook_base"], each["source"]
                assert stands == expected, "what stands still changed while there was work"
            if start:
                assert all(end <= cycle for _, end in work), "drained before all was issued"
                assert done_at is None, "the drain before has not ended"
                self.commands.append(told)
                begun = self.first or cycle - 1
                done_at = cycle + random.choice([6, 20])
                self.open()
            ctx.set(drain.done, done_at == cycle + 1)
            if done_at == cycle + 1:
                self.cycles.append(done_at - begun + 1)
                self.drained, done_at = self.drained + 1, None
            if clear:
                clear_at = cycle + 9
                self.cleared = True
            ctx.set(drain.clear_busy, clear_at is not None and cycle < clear_at)
            ready.append([int(random.random() >= self.stall) for _ in range(groups)])
            for group, bus in enumerate(dut.broadcast):
                ctx.set(bus.ready, ready[-1][group])
                shown, end = work[group]
                ctx.set(bus.issued, not shown <= cycle + 1 < end)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("idle", "stall"), [(0.0, 0.0), (0.3, 0.5)])
def test_programs_are_run_as_their_passes_say(config, idle, stall):
    """Programs of one to all passes one after the other, each run twice."""
    random = Random(config.groups)
    dut = ControlUnit(config)
    array = Array(dut, config, random, stall=stall)
    sent = []  # what each group's tokens wait for: the pass before drained

    async def feed(ctx, group):
        taken = 0
        while True:
            while taken == len(sent):
                await ctx.tick()
            number, tokens = sent[taken]
            taken += 1
            await send(ctx, dut.i[group], tokens[group][:-1], idle=idle, seed=random.random())
            while array.drained < number:
                await ctx.tick()
            await send(ctx, dut.i[group], tokens[group][-1:], idle=idle, seed=random.random())

    async def bench(ctx):
        assert ctx.get(dut.busy)
        await wait_for(ctx, ~dut.busy)
        assert array.cleared
        for count in range(1, config.layers + 1):
            program, tokens = random_program(random, config, count)
            for index, each in enumerate(program):
                ctx.set(dut.program.index, index)
                ctx.set(dut.program.pass_, each)
                ctx.set(dut.program.write, 1)
                await ctx.tick()
            ctx.set(dut.program.write, 0)
            await pause(ctx, 2)
            assert ctx.get(dut.inputs) == program[0]["inputs"]
            for _ in range(2):
                array.begin(program)
                ctx.set(dut.start, 1)
                await ctx.tick()
                ctx.set(dut.start, 0)
                assert ctx.get(dut.busy)
                sent.extend(enumerate(tokens))
                await wait_for(ctx, ~dut.busy)
                # Nothing more than the program's own passes, whatever lies behind them.
                await pause(ctx, 12)
                expected = [
                    broadcasts(each, mine, config.groups)
                    for each, mine in zip(program, tokens, strict=True)
                ]
                assert array.passes == [*expected, [[] for _ in range(config.groups)]]
                assert array.commands == [
                    (e["rows"] - 1, e["shift"], e["relu"], e["parity"], e["sink"]) for e in program
                ]
                counted = []
                for index in range(count):
                    ctx.set(dut.cycles.index, index)
                    counted.append(ctx.get(dut.cycles.cycles))
                assert counted == array.cycles

    feeds = [partial(feed, group=group) for group in range(config.groups)]
    simulate(dut, bench, background=[array.run, *feeds])
