"""The files: inputs, sums and outputs of every layer, packets, and the network in C."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pleach.compile.plan import planned
from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan, lower
from pleach.engine.protocol import Command
from pleach.files import write_whole
from pleach.format import loads, naming
from pleach.host.packets import (
    answer_words,
    hex_lines,
    load_packet,
    plan_packet,
    run_packet,
)
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference import Reference
from pleach.vectors.c_model import c_tables

#: a host in plain Verilog, which sends and compares the packets
TESTBENCH = "verilog_testbench.v"
#: of the C model, beside the tables
C_FILES = ("pleach_net.h", "pleach_net.c", "pleach_check.c")


def write_all(
    model: str | Path,
    inputs: np.ndarray,
    folder: str | Path,
    *,
    engine: EngineConfig | None = None,
    plan: Sequence[LayerPlan] | None = None,
) -> list[Path]:
    """Write the vectors of a network into a folder, which is made where it is not.

    ``inputs``, ``outputs`` and of each layer and pooling ``NN_name.inputs``, ``.sums``,
    ``.outputs``, each as ``.npy`` ``[n, values]`` and as ``.hex``, a value a line in two's
    complement, for ``$readmemh``. ``sent.hex`` and ``answers.hex`` have the engine's packets, which
    the host in ``verilog_testbench.v`` sends and compares. The C model is in ``c``.
    ``manifest.json`` says what each file is.

    Args:
        model: the ``.pleach`` file.
        inputs: integers, ``[n, inputs]``, as `CompressedModel.quantise` gives.
        engine: with a map memory it takes a PLAN packet first; without one the packets are the same
            for every engine.
        plan: of such an engine; by default the fastest on these inputs.

    Returns:
        The files.

    Raises:
        FormatError: the file is no bitstream.
        ModelError: the inputs are not what the model takes.
        CapacityError: the engine does not hold the network.
    """
    data = Path(model).read_bytes()
    with naming(model):
        network = loads(data)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = dict(_arrays(network, inputs))
    written: list[Path] = []
    about: dict[str, Any] = {}
    for name, values in arrays.items():
        raw = io.BytesIO()
        np.save(raw, values)
        written.append(write_whole(folder / f"{name}.npy", raw.getvalue()))
        bits = 16 if values.dtype.itemsize <= 2 else 64
        written.append(write_whole(folder / f"{name}.hex", hex_values(values, bits)))
        about[name] = {"shape": list(values.shape), "bits": bits, "type": str(values.dtype)}
    packets = _packets(network, data, inputs, arrays["outputs"], engine, plan)
    for name, words in zip(("sent.hex", "answers.hex"), packets, strict=True):
        written.append(write_whole(folder / name, hex_lines(words)))
    host = Path(__file__).with_name(TESTBENCH).read_text("utf-8")
    written.append(write_whole(folder / TESTBENCH, host))
    written += _write_c(network, arrays, folder / "c")
    manifest = {
        "file": str(model),
        "sha256": sha256(data).hexdigest(),
        "network": network.line,
        "inputs": len(inputs),
        "arrays": about,
        "packets": {"sent.hex": "tlast, tdata: 33 bits a word", "answers.hex": "alike"},
    }
    written.append(write_whole(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n"))
    return written


def hex_values(values: np.ndarray, bits: int) -> str:
    """A value a line, in two's complement of that many bits.

    >>> hex_values(np.array([[1, -1]]), 16).split()
    ['0001', 'ffff']
    """
    mask, digits = (1 << bits) - 1, bits // 4
    return "".join(f"{int(value) & mask:0{digits}x}\n" for value in values.ravel())


def _arrays(network: CompressedModel, inputs: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    """Name and values, ``[n, values]``, as they come: what each node takes and gives."""
    reference = Reference(network)
    traces = iter(reference.trace(inputs))
    yield "inputs", np.asarray(inputs)
    for number, (node, given) in enumerate(
        zip(network.graph.nodes, reference.nodes(inputs), strict=True), start=1
    ):
        name = f"{number:02}_{re.sub(r'[^A-Za-z0-9_.-]', '_', node.name)}"
        if isinstance(node.op, CompressedLayer):
            trace = next(traces)
            yield f"{name}.inputs", trace.inputs
            if node.op.skip is not None:
                yield f"{name}.skip", trace.skips
            yield f"{name}.sums", trace.accumulators
        yield f"{name}.outputs", given
    yield "outputs", given


def _packets(
    network: CompressedModel,
    data: bytes,
    inputs: np.ndarray,
    outputs: np.ndarray,
    engine: EngineConfig | None,
    plan: Sequence[LayerPlan] | None,
) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    sent: list[Sequence[int]] = []
    answers: list[Sequence[int]] = []
    if engine is not None and engine.maps:
        plan = planned(network, engine, inputs) if plan is None else plan
        sent.append(plan_packet(lower(network, engine, plan), engine))
        answers.append(answer_words(Command.PLAN))
    sent.append(load_packet(data))
    answers.append(answer_words(Command.LOAD))
    sent += [run_packet(values, network.input_type) for values in inputs]
    answers += [answer_words(Command.RUN, outputs=values) for values in outputs]
    return sent, answers


def _write_c(network: CompressedModel, arrays: dict[str, np.ndarray], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    here = Path(__file__).parent
    files = {name: (here / name).read_text("utf-8") for name in C_FILES}
    files["pleach_net_data.c"] = c_tables(network)
    nodes = [values for name, values in arrays.items() if re.match(r"\d+_.*\.outputs$", name)]
    texts = {
        "inputs.txt": arrays["inputs"],
        "layers.txt": np.concatenate(nodes, axis=1),
        "outputs.txt": arrays["outputs"],
    }
    for name, values in texts.items():
        files[name] = "".join(" ".join(map(str, row)) + "\n" for row in values.tolist())
    return [write_whole(folder / name, text) for name, text in files.items()]
