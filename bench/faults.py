"""Damaged files through the software decoder.

    python bench/faults.py                # 100,000 files
    python bench/faults.py --count 1000 --seed 7

Bits are flipped, files cut, words and sections swapped, header and layer fields made to lie; in
half of the files every CRC is put right again, so that the damage gets past it. The decoder must
refuse with an error of ours, or give a model whose own file says the same.
"""

import argparse
import json
import resource
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from pleach.compile import RealLayer, calibrate
from pleach.engine.words import HEADER_WORDS
from pleach.errors import FormatError
from pleach.files import write_whole
from pleach.format import dumps, loads
from pleach.model import (
    Activation,
    Add,
    AveragePool,
    Clip,
    Concat,
    Convolution,
    Graph,
    MaxPool,
    Node,
    Window,
)

MODELS = Path(__file__).parent / "models"
NONE, RELU = Activation.NONE, Activation.RELU
#: the words of a section that lie, its head and as many fields as there can be
FIELDS = 12


def joined() -> bytes:
    """A small network of every kind of section: convolutions, a depthwise one among them, a sum, a
    concatenation, poolings of both kinds and a clip."""
    rng = np.random.default_rng(0)

    def layer(name: str, conv: Convolution | None, outputs: int, columns: int) -> RealLayer:
        weight = rng.integers(-8, 9, (outputs, columns)) * (rng.random((outputs, columns)) < 0.6)
        return RealLayer(name, weight / 16, rng.integers(-3, 4, outputs) / 16, RELU, conv)

    maps = (4, 7, 6)
    depthwise = Convolution(*maps, kernel_height=3, kernel_width=3, padding=1, groups=4)
    window = Window(8, 7, 6, kernel_height=3, kernel_width=2, stride=(2, 2), padding=(1, 0, 0, 0))
    mean = Window(8, 3, 3, kernel_height=3, kernel_width=3)
    nodes = (
        Node("first", layer("first", Convolution(2, 7, 6, 1, 1), 4, 2), (0,)),
        Node("deep", replace(layer("deep", depthwise, 4, 9), activation=NONE), (1,)),
        Node("sum", Add(), (2, 1)),
        Node("six", Clip(0.0, 6.0), (3,)),
        Node("both", Concat(), (4, 1)),
        Node("largest", MaxPool(window), (5,)),
        Node("mean", AveragePool(mean), (6,)),
        Node("last", layer("last", None, 3, 8), (7,)),
    )
    return dumps(calibrate(Graph(nodes, (2, 7, 6)), rng.random((9, 84)).astype(np.float32)))


def sections(words: np.ndarray) -> list[tuple[int, int]]:
    """First word and end of each section, as far as they can be followed."""
    found, at = [], HEADER_WORDS
    while at < len(words):
        end = at + 2 + (int(words[at]) >> 8)
        if end > len(words):
            break
        found.append((at, end))
        at = end
    return found


def resealed(words: np.ndarray) -> bytes:
    """The file with its CRCs right again."""
    words = words.copy()
    words[4] = zlib.crc32(words[:4].tobytes())
    for start, end in sections(words):
        words[end - 1] = zlib.crc32(words[start : end - 1].tobytes())
    return words.tobytes()


def damaged(good: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One damaged version of a file and how it was damaged."""
    words = np.frombuffer(good, "<u4").copy()
    kind = ("bits", "cut", "swap", "section", "header", "layer")[rng.integers(6)]
    if kind == "bits":
        for _ in range(rng.integers(1, 9)):
            words[rng.integers(len(words))] ^= np.uint32(1 << int(rng.integers(32)))
    elif kind == "cut":
        words = words[: rng.integers(len(words))]
        if rng.integers(2) and len(words) >= HEADER_WORDS:
            words[2] = len(words)
    elif kind == "swap":
        here, there = rng.integers(len(words), size=2)
        words[[here, there]] = words[[there, here]]
    elif kind == "section":
        parts = [words[start:end] for start, end in sections(words)]
        order = rng.integers(len(parts), size=len(parts))
        words = np.concatenate([words[:HEADER_WORDS], *(parts[i] for i in order)])
        words[2] = len(words)
    else:
        start, end = 0, HEADER_WORDS + 3
        if kind == "layer":
            found = sections(words)
            start, end = found[rng.integers(len(found))]
        words[start + rng.integers(min(FIELDS, end - start))] = rng.integers(1 << 32)
    if rng.integers(2) and len(words) >= HEADER_WORDS:
        return f"{kind}, CRCs right", resealed(words)
    return kind, words.tobytes()


def outcome(data: bytes) -> str:
    """``refused`` with an error that says something, or ``a model`` that its own file gives back.

    Any other exception is a bug and comes through.
    """
    try:
        model = loads(data)
    except FormatError as error:
        if not str(error):
            raise AssertionError("an error without words") from error
        return "refused"
    again = loads(dumps(model))
    for one, other in zip(model.layers, again.layers, strict=True):
        same = np.array_equal(one.positions, other.positions)
        if not same or not np.array_equal(one.values, other.values):
            raise AssertionError(f"layer {one.name!r} is another one after a second trip")
    return "a model"


def run(files: list[bytes], count: int, seed: int) -> tuple[Counter, float]:
    """Outcomes of `count` damaged files by kind, and the longest seconds that one took."""
    rng = np.random.default_rng(seed)
    counts, longest = Counter(), 0.0
    for good in files:  # whole files are models; and what is compiled is compiled
        if outcome(good) != "a model":
            raise AssertionError("a file is refused before it is damaged")
    while counts.total() < count:
        good = files[rng.integers(len(files))]
        kind, data = damaged(good, rng)
        if data == good:
            continue
        start = time.process_time()
        result = outcome(data)
        longest = max(longest, time.process_time() - start)
        if result == "a model" and not kind.endswith("right"):
            raise AssertionError(f"{kind}: damage that no CRC noticed")
        counts[kind, result] += 1
    return counts, longest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    files = sorted((path.read_bytes() for path in MODELS.glob("*.pleach")), key=len)[:2]
    files.append(joined())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, longest = run(files, args.count, args.seed)
    for (kind, result), number in sorted(counts.items()):
        print(f"{kind:22} {result:8} {number:>8,}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{sum(counts.values()):,} damaged files, the slowest {longest * 1000:.0f} ms, peak memory "
        f"grew by {grown:.0f} MB"
    )
    if args.json:
        outcomes = [
            {"damage": kind, "outcome": result, "files": number}
            for (kind, result), number in sorted(counts.items())
        ]
        found = {"files": counts.total(), "slowest_seconds": longest, "grown_mb": grown}
        write_whole(args.json, json.dumps(found | {"outcomes": outcomes}, indent=2))


if __name__ == "__main__":
    main()
