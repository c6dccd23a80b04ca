"""Make the golden vectors: a model, inputs, outputs, and all of it as packets.

    python -m tests.golden.make

For people who bring their own simulator, or their own decoder. See README.md beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pleach.engine.protocol import Command, EngineError
from pleach.format import dumps
from pleach.host import answer_words, hex_lines, load_packet, run_packet
from pleach.model import CompressedModel, InputType
from pleach.reference import Reference
from tests.strategies import random_inputs, random_model

HERE = Path(__file__).parent


def network() -> CompressedModel:
    """Two layers with odd widths, negative inputs and a bias."""
    rng = np.random.default_rng(11)
    return random_model(
        rng, [21, 13, 5], input_type=InputType.INT16, density=0.3, codebook=9, shift=11
    )


def vectors() -> dict[str, bytes]:
    """Contents of every file by name."""
    model = network()
    data = dumps(model)
    inputs = random_inputs(np.random.default_rng(12), model, 4)
    outputs = Reference(model).run(inputs)

    first = run_packet(inputs[0], model.input_type)
    exchange = [(first, answer_words(Command.RUN, EngineError.NO_MODEL))]
    exchange.append(([0x12345678, 1, 2], answer_words(0, EngineError.BAD_COMMAND)))
    exchange.append((load_packet(data), answer_words(Command.LOAD)))
    for values, wanted in zip(inputs, outputs, strict=True):
        answer = answer_words(Command.RUN, outputs=wanted)
        exchange.append((run_packet(values, model.input_type), answer))
    exchange.append((first[:-1], answer_words(Command.RUN, EngineError.INPUT_LENGTH)))
    return {
        "model.pleach": data,
        "inputs.txt": _rows(inputs),
        "outputs.txt": _rows(outputs),
        "sent.hex": hex_lines(packet for packet, _ in exchange).encode(),
        "answers.hex": hex_lines(packet for _, packet in exchange).encode(),
    }


def _rows(values: np.ndarray) -> bytes:
    return "".join(" ".join(map(str, row)) + "\n" for row in values.tolist()).encode()


if __name__ == "__main__":
    for name, contents in vectors().items():
        (HERE / name).write_bytes(contents)
