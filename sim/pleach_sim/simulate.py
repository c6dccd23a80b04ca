"""Simulate the engine on a model: the RTL's outputs against the reference's, and its cycles."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import pleach.format
from pleach.compile.plan import planned
from pleach.engine import EngineConfig
from pleach.engine.plan import (
    LayerPlan,
    base_engine,
    check,
    default_plan,
    fitted,
    geometry,
    said,
)
from pleach.errors import ConfigError, ModelError
from pleach.model import CompressedLayer, CompressedModel, Pool
from pleach.reference import Reference
from pleach_hw.build.export import engine_verilog
from pleach_sim.bulk import bulk_verilog, skeleton, write_contents
from pleach_sim.runner import require, run_cocotb, silent
from pleach_sim.wave import save_file

#: name of the top module and module of the cocotb test
TOP, JOBS = "engine", "pleach_sim.benches.jobs"


@dataclass(frozen=True)
class Mismatch:
    """The first output that differs from the reference's.

    ``layer`` is its index; `None` where only the network's outputs were compared.
    ``cycle`` counts from the start of the simulation, when the answer's last word was taken.
    ``rows`` of the same layer and image differ in all.
    """

    image: int
    layer: int | None
    row: int
    rows: int
    cycle: int
    expected: int
    got: int

    def __str__(self) -> str:
        where = "" if self.layer is None else f", layer {self.layer}"
        return (
            f"image {self.image}{where}, row {self.row} ({self.rows} rows differ): "
            f"expected {self.expected}, got {self.got}, cycle {self.cycle}"
        )


@dataclass(frozen=True)
class LayerCycles:
    """A layer's means over the images.

    ``macs`` are products of a kept weight and a non-zero activation; ``utilisation`` is
    ``macs / PEs / compute_cycles``.
    """

    name: str
    compute_cycles: float
    macs: float
    utilisation: float


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation found.

    ``latency_cycles`` has one value an image, taken at the pins: first input word accepted to last
    output word accepted; ``compute_cycles`` has a list an image, one value a layer, and
    ``pass_cycles`` one a layer or pooling. ``mismatch`` is `None` where every output was equal.
    ``waits`` counts, where the host paused, what `EngineBench.pause` says. ``plan`` says how an
    engine with a map memory ran the layers.
    """

    bit_exact: bool
    images: int
    outputs_compared: int
    latency_cycles: list[int]
    compute_cycles: list[list[int]]
    pass_cycles: list[list[int]]
    load_cycles: int
    layers: list[LayerCycles]
    simulator: str
    config: EngineConfig
    mismatch: Mismatch | None = None
    wave: Path | None = None
    waits: dict[str, int] = field(default_factory=dict)
    plan: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For a program, without the host's pauses."""
        return {
            "bit_exact": self.bit_exact,
            "outputs_compared": self.outputs_compared,
            "inputs": self.images,
            "latency_cycles": self.latency_cycles,
            "load_cycles": self.load_cycles,
            "simulator": self.simulator,
            "layers": [asdict(layer) for layer in self.layers],
            "engine": asdict(self.config),
            "plan": self.plan,
            "mismatch": None if self.mismatch is None else asdict(self.mismatch),
            "wave": None if self.wave is None else str(self.wave),
        }


@dataclass(frozen=True)
class Job:
    """A model, its inputs ``[n, inputs]`` and when the host pauses (`pleach_sim.patterns`).

    ``data`` is the file to LOAD; `None` writes one of the model. ``plan`` says how its layers run
    on an engine with a map memory.
    """

    name: str
    model: CompressedModel
    inputs: np.ndarray
    idle: str = "none"
    stall: str = "none"
    data: bytes | None = None
    plan: tuple[LayerPlan, ...] | None = None


def simulate(
    model: CompressedModel | str | Path,
    images: np.ndarray,
    config: EngineConfig | None = None,
    *,
    simulator: str = "verilator",
    seed: int = 1,
    patterns: tuple[str, str] = ("none", "none"),
    wave: str | Path | None = None,
    plan: tuple[LayerPlan, ...] | None = None,
    progress: Callable[..., object] = silent,
) -> SimulationResult:
    """Load a model into a simulated engine, run images, compare every output bit.

    After a mismatch the first wrong layer is searched, by running the network cut short after each
    layer on the image concerned, and without `wave` that image is run once more with a waveform,
    ``NAME.mismatch.vcd`` beside the file (or ``model.mismatch.vcd`` here).

    Args:
        model: a model or the path of a ``.pleach`` file, whose very bytes are then loaded.
        images: network inputs, ``[n, inputs]``, uint8 or int16 as the model has it.
        config: the engine; by default 16 PEs and what the model needs.
        simulator: ``verilator``, or ``icarus`` where it is installed.
        seed: of the pauses and of the simulator.
        patterns: pauses before words to the engine and of words from it; `PATTERNS` has the names.
        wave: file for a waveform (VCD from Verilator, FST from Icarus). Beside a VCD stands a save
            file for GTKWave, ``NAME.gtkw``.
        progress: called with what is done next, and how much of how much of it is done.

    Raises:
        FormatError: the file is not a bitstream.
        CapacityError: the model does not fit the engine.
        ModelError: the images are not what the model takes.
        ToolError: the simulation did not end well; names its log.
    """
    beside, data = Path("model"), None
    if not isinstance(model, CompressedModel):
        beside, data = Path(model).with_suffix(""), Path(model).read_bytes()
        with pleach.format.naming(model):
            model = pleach.format.loads(data)
    config = config or fitted(model, base_engine(model))
    if config.maps and plan is None and len(images):
        progress("planning the layers")
        plan = planned(model, config, images)
    job = Job("model", model, images, *patterns, data, plan)
    (found,) = simulate_jobs(
        [job], config, simulator=simulator, seed=seed, wave=wave, progress=progress
    )
    mismatch = found.mismatch
    if mismatch is None:
        return found
    progress("an output differs: looking for the first layer that does")
    if len(model.layers) > 1 and model.is_chain:
        layer, first = _first_wrong_layer(job, mismatch, config, simulator, seed)
        mismatch = replace(first, layer=layer)
    if wave is None:
        wave = beside.with_name(f"{beside.name}.mismatch.vcd")
        image = slice(mismatch.image, mismatch.image + 1)
        again = replace(job, inputs=images[image])
        simulate_jobs([again], config, simulator=simulator, seed=seed, wave=wave)
    return replace(found, mismatch=mismatch, wave=Path(wave))


def simulate_jobs(
    jobs: Sequence[Job],
    config: EngineConfig,
    *,
    simulator: str = "verilator",
    seed: int = 1,
    wave: str | Path | None = None,
    bulk: bool = False,
    progress: Callable[..., object] = silent,
) -> list[SimulationResult]:
    """Run several jobs one after the other on one engine, without a reset between them.

    With `bulk`, which takes one job, weights go into the memories past LOAD (`pleach_sim.bulk`).

    Raises as `simulate`.
    """
    if bulk and len(jobs) != 1:
        raise ConfigError(f"the bulk path takes one job at a time, not {len(jobs)}")
    for job in jobs:
        if not len(job.inputs):
            raise ModelError(f"{job.name}: there are no images to simulate")
        check(job.model, job.plan, config)
    require(simulator)
    progress("computing what the engine must answer")
    traces = [Reference(job.model).trace(job.inputs) for job in jobs]
    # What a network gives, which ends with a pooling or a layer.
    outputs = [Reference(job.model).run(job.inputs) for job in jobs]
    with tempfile.TemporaryDirectory(prefix="pleach-jobs-") as folder:
        described = []
        for number, (job, wanted) in enumerate(zip(jobs, outputs, strict=True)):
            data = Path(folder, f"{number}.npz")
            np.savez(data, inputs=job.inputs, outputs=wanted)
            file = Path(folder, f"{number}.pleach")
            file.write_bytes(_file(job, config, Path(folder) if bulk else None))
            described.append(
                {
                    "name": job.name,
                    "model": str(file),
                    "data": str(data),
                    "idle": job.idle,
                    "stall": job.stall,
                    "seed": seed,
                    "engine": asdict(config),
                    "plan": job.plan and [astuple(each) for each in job.plan],
                }
            )
        progress("writing the engine's Verilog")
        verilog = bulk_verilog(config) if bulk else engine_verilog(config)
        reported = run_cocotb(
            verilog,
            TOP,
            JOBS,
            parameters={"jobs": described, "limit": _limit(jobs)},
            simulator=simulator,
            seed=seed,
            wave=wave,
            plusargs=[f"+bulk={folder}"] if bulk else [],
            progress=progress,
        )
    if wave is not None and simulator == "verilator":
        save_file(wave, TOP)
    return [
        _result(job, trace, found, config, simulator, wave)
        for job, trace, found in zip(jobs, traces, reported["jobs"], strict=True)
    ]


def _file(job: Job, config: EngineConfig, bulk: Path | None) -> bytes:
    """What a job LOADs. With a folder for the bulk path, all but the weights, which go there."""
    data = pleach.format.dumps(job.model) if job.data is None else job.data
    if bulk is None:
        return data
    whole = pleach.format.loads(data)  # the file numbers codes by their frequency
    write_contents(whole, config, bulk, job.plan)
    return pleach.format.dumps(skeleton(whole))


def _limit(jobs: Sequence[Job]) -> int:
    """Cycles that no RUN passes: as if one PE did everything, its host pausing mostly."""
    worst = max(sum(_work(node.op) for node in job.model.graph.nodes) for job in jobs)
    return 10_000 + 16 * worst


def _work(op: CompressedLayer | Pool) -> int:
    """Cycles that one PE takes for a layer or a pooling, by far."""
    shape = geometry(op)
    if isinstance(op, Pool):
        pixel = 4 * math.prod(shape.kernel) * shape.channels
    else:
        pixel = op.kept + 4 * op.size
    return math.prod(shape.map) * (pixel + 64)


def _result(job, trace, found, config, simulator, wave) -> SimulationResult:
    layers = []
    # The engine counts a pass for each node.
    passes = [n for n, node in enumerate(job.model.graph.nodes) if node.op in job.model.layers]
    for index, layer, traced in zip(passes, job.model.layers, trace, strict=True):
        cycles = float(np.mean([image[index] for image in found["compute_cycles"]]))
        macs = float(traced.macs.mean())
        share = macs / config.pes / cycles if cycles else 0.0
        layers.append(LayerCycles(layer.name, cycles, macs, share))
    mismatch = None
    if found["mismatches"]:
        layer = 0 if len(job.model.layers) == 1 else None
        mismatch = Mismatch(layer=layer, **found["mismatches"][0])
    return SimulationResult(
        bit_exact=mismatch is None,
        images=len(job.inputs),
        outputs_compared=len(job.inputs) * job.model.outputs,
        latency_cycles=found["latency_cycles"],
        compute_cycles=[[image[n] for n in passes] for image in found["compute_cycles"]],
        pass_cycles=[image[: len(job.model.graph.nodes)] for image in found["compute_cycles"]],
        load_cycles=found["load_cycles"],
        layers=layers,
        simulator=simulator,
        config=config,
        mismatch=mismatch,
        wave=None if wave is None else Path(wave),
        waits=found["waits"],
        plan=said(job.model, job.plan or default_plan(job.model, config)) if config.maps else None,
    )


def _first_wrong_layer(
    job: Job, mismatch: Mismatch, config: EngineConfig, simulator: str, seed: int
) -> tuple[int | None, Mismatch]:
    """The first layer whose outputs differ on the mismatch's image, and how."""
    image = slice(mismatch.image, mismatch.image + 1)
    cuts = [
        replace(
            job,
            name=f"first {count} layers",
            data=None,
            model=replace(job.model, layers=job.model.layers[:count]),
            inputs=job.inputs[image],
            plan=None,
        )
        for count in range(1, len(job.model.layers) + 1)
    ]
    for layer, found in enumerate(simulate_jobs(cuts, config, simulator=simulator, seed=seed)):
        if found.mismatch is not None:
            return layer, replace(found.mismatch, image=mismatch.image)
    return None, mismatch
