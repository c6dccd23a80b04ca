"""The engine for a model on a board, and how fast it is there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pleach.compile.explore import SIZES, engines, latency, macs
from pleach.engine import EngineConfig
from pleach.engine.plan import base_engine
from pleach.engine.protocol import Command
from pleach.errors import CapacityError
from pleach.host.frames import HostFrame, frame, pack_packet
from pleach.host.packets import answer_words, load_packet, run_packet
from pleach.host.serial import DATA_BYTES
from pleach.model import CompressedModel
from pleach.reference import Reference, Taken
from pleach_hw.boards import Board, boards
from pleach_hw.build.estimate import needs, shortage

#: parameters that are looked through: on a chip with few tables as its board's engine has them
GROUPS, LANES, BLOCKS = (1, 2, 4, 8), (1, 2, 4, 8), (1, 4, 8)
#: parameters that are the board's own engine's
KEPT = ("accumulator_bits", "queue_depth", "outputs", "vectors", "ram_latency", "serial_loader")
#: inputs that an engine with a map memory is measured with: every way to run each layer is counted
MEASURED = 2
#: the same of engines with a map memory
NEIGHBOURS, KEPT_WITH_MAPS = (8, 16), ("accumulator_bits", "ram_latency", "serial_loader")


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """An engine for a model on a board.

    Args:
        engine: its parameters.
        latency_cycles: from the first input to the last output, mean of the inputs.
        fitting, looked_at: engines that the chip holds, by estimate, and all that there were.
    """

    engine: EngineConfig
    latency_cycles: float
    fitting: int
    looked_at: int

    def describe(self) -> str:
        """On one line."""
        values = " ".join(f"{name}={str(v).lower()}" for name, v in asdict(self.engine).items())
        return (
            f"engine: {values}; the fastest of {self.fitting} that the chip holds by estimate, of "
            f"{self.looked_at} looked at"
        )


def fastest_engine(
    model: CompressedModel,
    taken: Sequence[Taken],
    chip: Board,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Sizing:
    """The engine that runs the model in the fewest cycles, of those that the chip holds.

    Of two as fast it is the one of fewer tables. What an engine takes is `needs`, an estimate.

    Args:
        taken: by each layer, `Reference.taken`, to measure with.
        progress: called with the number of engines measured and how many there are.

    Raises:
        CapacityError: the chip holds no engine for the model; with what the least one wants, and
            the boards that have it.
    """
    looked = _engines(model, chip)
    fitting = [config for config in looked if not shortage(needs(config, chip), chip)]
    if not fitting:
        raise CapacityError(_refusal(model, chip, looked))
    few = [(source[:MEASURED], skip[:MEASURED]) for source, skip in taken]
    if base_engine(model).maps:
        taken = few
    measured: dict[int, float] = {}
    least = macs(model, taken)
    for done, number in enumerate(sorted(range(len(fitting)), key=lambda n: -fitting[n].pes)):
        config = fitting[number]
        # A PE does one in a cycle: more PEs may be faster already than these can be.
        if least / config.pes <= min(measured.values(), default=math.inf):
            measured[number] = latency(model, taken, config)
        progress(done + 1, len(fitting))
    best = min(measured, key=lambda n: (measured[n], needs(fitting[n], chip)["lut4"], n))
    return Sizing(
        engine=fitting[best],
        latency_cycles=measured[best],
        fitting=len(fitting),
        looked_at=len(looked),
    )


def _engines(model: CompressedModel, chip: Board) -> list[EngineConfig]:
    own = asdict(chip.engine)
    small = chip.engine.serial_loader
    if base_engine(model).maps:
        return engines(
            model,
            pes=[pes for pes in SIZES if pes <= chip.mult],
            groups=GROUPS,
            neighbours=NEIGHBOURS,
            **{name: (own[name],) for name in KEPT_WITH_MAPS},
        )
    return engines(
        model,
        pes=[pes for pes in SIZES if pes <= chip.mult],
        groups=(1,) if small else GROUPS,
        lanes=(chip.engine.lanes,) if small else LANES,
        block=BLOCKS,
        **{name: (own[name],) for name in KEPT},
    )


def _refusal(model: CompressedModel, chip: Board, looked: Sequence[EngineConfig]) -> str:
    """What the engine that comes closest wants, and whose chip holds one."""

    def overrun(config):
        wanted = needs(config, chip)
        return max(number / max(getattr(chip, name), 0.5) for name, number in wanted.items())

    def holds(other):
        return any(not shortage(needs(each, other), other) for each in _engines(model, other))

    text = f"{chip.name} holds no engine for this model"
    if looked:
        closest = min(looked, key=overrun)
        short = ", ".join(shortage(needs(closest, chip), chip))
        text += f": of {len(looked)} the closest, of {closest.pes} PEs, wants {short}"
    others = [other.name for other in boards() if other.lut4 > chip.lut4 and holds(other)]
    fits = f"it fits {', '.join(others)}" if others else "no board that Pleach knows holds one"
    return f"{text}; {fits}. Prune it more, or train a smaller one, for {chip.name}"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Inputs that a model's speed is measured with.

    Args:
        inputs: as the engine takes them, ``[n, inputs]``.
        outputs: the reference's, ``[n, outputs]``.
        taken: by each layer, `Reference.taken`.
        source: what they are, on a line.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    taken: list[Taken]
    source: str

    @classmethod
    def of(cls, model: CompressedModel, inputs: np.ndarray, source: str) -> Trial:
        """
        Args:
            inputs: as `CompressedModel.quantise` gives them.
        """
        reference = Reference(model)
        return cls(
            inputs=inputs,
            outputs=reference.run(inputs),
            taken=reference.taken(inputs),
            source=source,
        )

    @classmethod
    def random(cls, model: CompressedModel, number: int = 10) -> Trial:
        """Uniform ones, for a model that no data set is known for."""
        limits = np.iinfo(model.input_type.dtype)
        drawn = np.random.default_rng(0).integers(
            limits.min, limits.max, (number, model.inputs), dtype=limits.dtype, endpoint=True
        )
        return cls.of(model, drawn, f"{number} uniform random inputs, as no data set was given")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a model is on a board: by the cycle model, at the clock that was routed, and by the
    bytes on the wire.

    Args:
        latency_cycles: from the first input word to the last output word, mean of the inputs.
        images_per_second: of the engine alone, one after the other.
        images_per_second_link: over the serial port, with requests one behind the other; the
            slower direction counts, or the engine.
        load_seconds: for the model's file over the serial port.
    """

    latency_cycles: float
    images_per_second: float
    images_per_second_link: float
    load_seconds: float

    @classmethod
    def of(
        cls, model: CompressedModel, trial: Trial, file: bytes, config: EngineConfig,
        *, clock_mhz: float, baud: int,
    ) -> Speed:  # fmt: skip
        """
        Args:
            file: the model's.
            clock_mhz: the engine's.
        """
        cycles = latency(model, trial.taken, config)
        there = [_wire_bytes(run_packet(row, model.input_type)) for row in trial.inputs]
        back = [_wire_bytes(answer_words(Command.RUN, outputs=row)) for row in trial.outputs]
        wire = 10 * max(np.mean(there), np.mean(back)) / baud
        engine = cycles / (clock_mhz * 1e6)
        return cls(
            latency_cycles=cycles,
            images_per_second=1 / engine,
            images_per_second_link=1 / max(float(wire), engine),
            load_seconds=10 * _wire_bytes(load_packet(file)) / baud,
        )

    def describe(self) -> str:
        """On a line."""
        return (
            f"speed: {self.latency_cycles:.0f} cycles an image, {self.images_per_second:,.0f} "
            f"images a second in the engine, {self.images_per_second_link:,.0f} over the serial "
            f"port; {self.load_seconds:.2f} s to load the model"
        )


def _wire_bytes(words: Sequence[int]) -> float:
    """Bytes that a packet is on the wire, its part of the frames included."""
    data = pack_packet(words)
    overhead = len(frame(HostFrame(session=0, data=bytes(DATA_BYTES)).pack())) - DATA_BYTES
    return len(data) * (1 + overhead / DATA_BYTES)
