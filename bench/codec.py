"""The software's speed and memory beside those of other packages, all in one run.

    pip install -e '.[bench]'
    python bench/codec.py --json build/codec.json   # minutes, most of them in `optimum`
    python bench/codec.py huffman                   # one part

Weights are random and seeded: normal, the largest share of them kept. Times are medians of
`--repeats` after one call that compiles; a peer that is not installed is left out and said. Huffman
coding is one thread's work, ours and the peers', and takes processor time, not the clock's.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from pleach.compile.real import kernel_order
from pleach.compression import kmeans
from pleach.files import write_whole
from pleach.format import (
    ALEXNET,
    PublishedLayer,
    dumps,
    interleave,
    load,
    loads,
    read_published,
    save,
    write_published,
)
from pleach.format.bitstream import Coding
from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    Graph,
    Node,
    Pool,
    Window,
)
from pleach.reference import Reference
from pleach_cli.output import print_table

MODEL = Path(__file__).parent / "models/lenet_300_100_small.pleach"
FC6 = (4096, 9216)
FEW = 400_000  # values for peers that take minutes for all
# Deep Compression, table 4: shares kept; then channels, side, stride, padding, groups, pooling.
DENSITY = (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25)
PLACES = (
    (3, 227, 4, 0, 1, 3), (96, 27, 1, 2, 2, 3), (256, 13, 1, 1, 1, 1), (384, 13, 1, 1, 2, 1),
    (384, 13, 1, 1, 2, 3),
)  # fmt: skip


def pruned(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> np.ndarray:
    """Normal float32 weights of which the largest are kept."""
    weights = rng.standard_normal(shape, np.float32)
    flat = weights.reshape(-1)
    cut = np.partition(np.abs(flat[: 1 << 20]), -max(1, round(density * min(flat.size, 1 << 20))))
    flat[np.abs(flat) < cut[-max(1, round(density * len(cut)))]] = 0
    return weights


def shared_layer(weights, clusters: int, name: str = "fc6", convolution=None) -> CompressedLayer:
    """Cluster and number the weights of a pruned layer; its codebook in 12 fraction bits."""
    matrix = weights.reshape(len(weights), -1)
    if convolution is not None:
        matrix = kernel_order(matrix, convolution)
    columns, rows = np.nonzero(matrix.T)
    values = matrix[rows, columns]
    centroids, codes = kmeans(values, clusters, initialisation="optimal")
    empty = CompressedLayer(
        name, matrix.shape[1], len(matrix), False, [], [], [], 12, Activation.RELU, 0, 0,
        convolution,
    )  # fmt: skip
    codebook = np.rint(centroids * 4096).astype(np.int16)
    return replace(
        empty, positions=empty.position_of(columns, rows), codes=codes, codebook=codebook
    )


def median(action, repeats: int, clock=time.perf_counter) -> float:
    """Seconds of the median call, the first one left out."""
    action()
    times = []
    for _ in range(repeats):
        start = clock()
        action()
        times.append(clock() - start)
    return statistics.median(times)


def spread(values, centroids, codes) -> float:
    return float(((values - np.asarray(centroids)[codes]) ** 2).sum())


def fc6_values() -> np.ndarray:
    """The kept weights of fc6, float32."""
    weights = pruned(np.random.default_rng(0), FC6, 0.09)
    return weights[weights != 0]


def peer_kmeans(who: str, values: np.ndarray, ours: tuple, action) -> list[dict]:
    """A row with the seconds of a peer and our sum of squares over its."""
    try:
        start = time.perf_counter()
        codes, centroids = action(values)
        seconds = time.perf_counter() - start
    except ImportError:
        print(f"{who} is not installed", file=sys.stderr)
        return []
    squares = spread(values, *ours) / spread(values, centroids, codes)
    return [{"what": f"k-means, {len(values):,} values", "who": who, "unit": "s",
             "figure": seconds, "sum_of_squares_ours_over_theirs": squares}]  # fmt: skip


def by_kmeans1d(values):
    import kmeans1d

    codes, centroids = kmeans1d.cluster(values, 32)
    return np.array(codes), centroids


def by_ckwrap(values):
    import ckwrap

    result = ckwrap.ckmeans(values, 32)
    return result.labels, result.centers


def by_sklearn(values):
    from sklearn.cluster import KMeans

    result = KMeans(32, n_init=1, random_state=0).fit(values[:, None])
    return result.labels_, result.cluster_centers_[:, 0]


def bench_kmeans(repeats: int) -> list[dict]:
    every = fc6_values()
    few = np.sort(np.random.default_rng(0).permutation(every)[:FEW]).astype(np.float64)
    rows = [
        {"what": f"k-means, {len(values):,} values", "who": "pleach", "unit": "s",
         "figure": median(lambda values=values: kmeans(values, 32, initialisation="optimal"),
                          repeats)}
        for values in (every, few)
    ]  # fmt: skip
    ours = kmeans(few, 32, initialisation="optimal")
    for who, action in (
        ("kmeans1d", by_kmeans1d), ("ckwrap", by_ckwrap), ("scikit-learn", by_sklearn)
    ):  # fmt: skip
        rows += peer_kmeans(who, few, ours, action)
    return rows


def bench_optimum(repeats: int) -> list[dict]:
    """All values through an exact peer, once."""
    every = fc6_values()
    ours = kmeans(every, 32, initialisation="optimal")
    return peer_kmeans("kmeans1d", every.astype(np.float64), ours, by_kmeans1d)


def bench_huffman(repeats: int) -> list[dict]:
    layer = shared_layer(pruned(np.random.default_rng(0), FC6, 0.09), 32)
    coding = Coding.of(layer)
    counts = np.bincount(layer.codes, minlength=256)
    symbols = layer.kept + int(interleave.count(layer.positions).sum())
    gap_table = coding.gap_table.lookup(coding.gap_order)
    code_table = coding.code_table.lookup(coding.code_order)

    def decode():
        return interleave.decode(
            coding.data, layer.kept, layer.size, gap_table, coding.gap_table.length, code_table,
            coding.code_table.length,
        )  # fmt: skip

    assert np.array_equal(decode()[2], layer.codes)
    rows = []

    def add(what, who, count, action):
        seconds = median(action, repeats, time.process_time)
        rows.append({"what": what, "who": who, "unit": "M symbols/s",
                     "figure": count / seconds / 1e6})  # fmt: skip

    # Two symbols an entry, and with the counting and the tables.
    add("Huffman encode", "pleach", symbols, lambda: Coding.of(layer))
    add("Huffman decode", "pleach", symbols, decode)
    codes = layer.codes
    try:
        from bitarray import bitarray
        from bitarray.util import huffman_code

        table = huffman_code({int(s): int(n) for s, n in enumerate(counts) if n})
        listed = codes.tolist()
        bits = bitarray()
        bits.encode(table, listed)
        add("Huffman encode", "bitarray", len(codes), lambda: bitarray().encode(table, listed))
        add("Huffman decode", "bitarray", len(codes), lambda: list(bits.decode(table)))
    except ImportError:
        print("bitarray is not installed", file=sys.stderr)
    try:
        import constriction

        present = counts[counts > 0] / len(codes)
        model = constriction.stream.model.Categorical(present, perfect=False)
        numbers = np.searchsorted(np.flatnonzero(counts), codes).astype(np.int32)

        def encode():
            coder = constriction.stream.stack.AnsCoder()
            coder.encode_reverse(numbers, model)
            return coder.get_compressed()

        def decode_again():
            return constriction.stream.stack.AnsCoder(coded).decode(model, len(codes))

        coded = encode()
        add("Huffman encode", "constriction (ANS)", len(codes), encode)
        add("Huffman decode", "constriction (ANS)", len(codes), decode_again)
    except ImportError:
        print("constriction is not installed", file=sys.stderr)
    return rows


def fc6() -> None:
    """In a process of its own: seconds from array to file and peak memory over the layer's."""
    weights = pruned(np.random.default_rng(0), FC6, 0.09)
    shared_layer(weights[:64], 32)
    dumps(CompressedModel((shared_layer(weights[:64], 32),)))
    with tempfile.TemporaryDirectory() as folder:
        # Linux: the peak so far is forgotten, what is resident now is the baseline.
        Path("/proc/self/clear_refs").write_text("5")
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        start = time.perf_counter()
        path = save(CompressedModel((shared_layer(weights, 32),)), f"{folder}/fc6.pleach")
        seconds = time.perf_counter() - start
        peak = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        size = path.stat().st_size
    memory = (peak - resident + weights.nbytes) / weights.nbytes
    print(json.dumps({"seconds": seconds, "memory": memory, "bytes": size}))


def bench_fc6(repeats: int) -> list[dict]:
    runs = [
        json.loads(subprocess.check_output([sys.executable, __file__, "--fc6"], text=True))
        for _ in range(repeats)
    ]
    what = "AlexNet fc6, array in, file out"
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return [
        {"what": what, "who": "pleach", "unit": "s", "figure": middle["seconds"]},
        {"what": f"{what}: peak memory, the array included", "who": "pleach",
         "unit": "× the float32 layer", "figure": middle["memory"]},
    ]  # fmt: skip


def bench_reference(repeats: int) -> list[dict]:
    reference = Reference(load(MODEL))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, 784)).astype(np.uint8)
    images[rng.random(images.shape) < 0.8] = 0
    seconds = median(lambda: reference.run(images), repeats)
    return [{"what": "reference, LeNet-300-100, 10,000 images", "who": "pleach", "unit": "s",
             "figure": seconds}]  # fmt: skip


def bench_alexnet(repeats: int) -> list[dict]:
    """All eight layers, once, through both formats."""
    rng = np.random.default_rng(0)
    nodes, published = [], []
    for index, (shape, density) in enumerate(zip(ALEXNET, DENSITY, strict=True)):
        conv, pool = None, 1
        if len(shape.shape) == 4:
            channels, side, stride, padding, groups, pool = PLACES[index]
            conv = Convolution(channels, side, side, *shape.shape[2:], stride, padding, groups)
        weights = pruned(rng, shape.shape, density)
        layer = shared_layer(weights, (1 << shape.bits) - 1, shape.name, conv)
        nodes.append(Node(shape.name, layer, (len(nodes),)))
        if pool > 1:  # of windows that overlap
            window = Window(layer.outputs, *conv.map, pool, pool, 2)
            nodes.append(Node(f"{shape.name}.pool", Pool(window), (len(nodes),)))
    model = CompressedModel.of(Graph(tuple(nodes), (3, 227, 227)))
    layers = model.layers
    for shape, (real, _) in zip(ALEXNET, model.weights(), strict=True):
        real = real.astype(np.float32)
        published.append(PublishedLayer.of(shape.name, real, None, shape.bits))
    rows = []
    for who, write, read, same in (
        (".pleach", lambda: dumps(model), loads,
         lambda got: all(np.array_equal(a.positions, b.positions)
                         and np.array_equal(a.values, b.values)
                         for a, b in zip(got.layers, layers, strict=True))),
        ("published layout", lambda: write_published(published),
         lambda data: read_published(data, ALEXNET),
         lambda got: all(np.array_equal(a.codes, b.codes)
                         and np.array_equal(a.codebook, b.codebook)
                         for a, b in zip(got, published, strict=True))),
    ):  # fmt: skip
        start = time.perf_counter()
        data = write()
        written = time.perf_counter()
        got = read(data)
        done = time.perf_counter()
        assert same(got), who
        for what, figure, unit in (
            ("out", written - start, "s"), ("in", done - written, "s"), ("size", len(data), "bytes")
        ):  # fmt: skip
            rows.append({"what": f"AlexNet, eight layers, {what}", "who": who, "unit": unit,
                         "figure": figure})  # fmt: skip
    return rows


def main() -> None:
    parts = {name.removeprefix("bench_"): part for name, part in globals().items()
             if name.startswith("bench_")}  # fmt: skip
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="all without one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--fc6", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fc6:
        fc6()
        return
    rows = []
    for name in args.parts or parts:
        rows += parts[name](args.repeats)
    cells = []
    for row in rows:
        ours = next((r for r in rows if r["what"] == row["what"] and r["who"] == "pleach"), None)
        ratio = f"{row['figure'] / ours['figure']:.2f}" if ours else ""
        squares = row.get("sum_of_squares_ours_over_theirs")
        cells.append((f"{row['what']}: {row['who']}", f"{row['figure']:,.3f}", row["unit"], ratio,
                      f"{squares:.5f}" if squares else ""))  # fmt: skip
    print_table("Speed, in one run", ("what: who", "figure", "unit", "× pleach", "squares"), cells)
    if args.json:
        write_whole(args.json, json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
