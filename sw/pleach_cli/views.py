"""What several commands show of the library's reports on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from statistics import mean
from typing import TYPE_CHECKING

from pleach_cli.output import print_table, say

if TYPE_CHECKING:
    from pleach.report import Answers, CompressionReport, FileReport, LayerReport, Stage
    from pleach_sim.simulate import SimulationResult

#: points, or share of a regression's error, that a stage takes with a note
DEAR, DEAR_SHARE = 5.0, 0.25


def notes_of(stages: Sequence[Stage], *, clusters: bool = False) -> list[str]:
    """What each stage that costs much took, and the options that help.

    Args:
        clusters: the last stage has shared the weights, too.
    """
    more = "more --clusters (regressions often want 64 or more)"
    helps = {
        "pruned": "a higher --density keeps more weights, more --epochs retrain them longer, and "
        "pleach sensitivity says which layers want more than others",
        "shared": f"{more} or more --epochs",
        "fixed point": f"{more}, or " * clusters + "look at the range of inputs and outputs: scale "
        "features of very different size alike, or give --output-scale each",
    }
    notes = []
    for before, after in pairwise(stages):
        if before.error is None or after.error is None:
            continue
        classes = after.metric == "error_pct"
        most = before.error + DEAR if classes else before.error * (1 + DEAR_SHARE)
        if after.error > before.error and after.error >= most:
            known = (text for name, text in helps.items() if after.name.startswith(name))
            help = "".join(f"; what helps: {text}" for text in known)
            notes.append(
                f"{after.name} takes the error from {named(before.metric, before.error)} to "
                f"{error_text(after.metric, after.error)}{help}"
            )
    return notes


def show_compression(report: CompressionReport, notes: Sequence[str] = ()) -> None:
    """What a compression made, stage by stage and layer by layer."""
    from pleach.metrics import BY_NAME

    name = report.stages[0].metric
    figure = "error" if name == "error_pct" else name
    print_table(
        f"Stages and their test {'error' if name == 'error_pct' else BY_NAME[name].title}",
        ("stage", figure, "kept", "time"),
        [
            (
                stage.name,
                error_text(stage.metric, stage.error),
                f"{100 * stage.kept:.2f} %",
                f"{stage.seconds:.0f} s",
            )
            for stage in report.stages
        ],
    )
    for note in notes:
        say(("note:", "yellow"), f" {note}")
    layer_table(report.file.layers)
    say_size(report.file)


def say_size(file: FileReport) -> None:
    """A file's size and checksum."""
    say(
        (file.file, "bold"),
        f": {file.file_bytes:,} bytes for {file.dense_bytes:,} of float32, ",
        (f"{file.ratio:.1f}×", "bold"),
    )
    say(f"sha256 {file.sha256}")


def error_text(metric: str, error: float | None) -> str:
    """A stage's figure with its unit."""
    from pleach.metrics import BY_NAME

    return "" if error is None else BY_NAME[metric].text(error)


def named(metric: str, error: float) -> str:
    """A figure with its name, where the unit does not say enough."""
    return f"{metric} " * (metric != "error_pct") + error_text(metric, error)


def layer_table(reports: Sequence[LayerReport]) -> None:
    """Rows of `pleach.report.LayerReport` in the shape of Deep Compression's tables. Of a layer of
    a few weights, whose tables are larger than they are, no share of float32 is told."""
    rows = []
    for row in reports:
        weights = round(row.kept / row.density) if row.density else prod(row.shape)
        rows.append(
            (
                row.name, f"{weights:,}", f"{100 * row.density:.1f}", str(row.codebook_size),
                str(row.fixed_weight_bits), f"{row.weight_bits:.2f}",
                str(row.fixed_index_bits), f"{row.index_bits:.2f}",
                *(f"{rate:.2f}" if rate < 100 else "–" for rate in (row.fixed_rate, row.rate)),
                f"{row.bytes:,}",
            )
        )  # fmt: skip
    print_table(
        "Per layer: P pruned, Q weights shared, H Huffman-coded",
        (
            "layer", "weights", "kept\n%", "code-\nbook", "weight\nbits\nP+Q", "P+Q+H",
            "index\nbits\nP+Q", "P+Q+H", "% of\nfloat32\nP+Q", "P+Q+H", "bytes",
        ),
        rows,
    )  # fmt: skip


def show_answers(answers: Answers, images: int) -> None:
    """What a network answers to inputs, and how wrong it is."""
    from pleach.metrics import BY_NAME

    if answers.predictions is not None:
        few = answers.predictions[:20]
        more = ", …" * (len(few) < images)
        say(f"classes: {', '.join(map(str, few))}{more}")
    elif answers.outputs is not None:
        few = [f"{value:.4g}" for value in answers.outputs[0][:20]]
        more = ", …" * (len(few) < len(answers.outputs[0]))
        say(f"outputs of the first input: {', '.join(few)}{more}")
    if answers.metric is not None and answers.error is not None:
        figure = BY_NAME[answers.metric].said(answers.error).removesuffix(" error")
        say(f"error of these inputs: {figure}")


def show_simulation(result: SimulationResult, answers: Answers) -> None:
    """What an engine did with inputs, and what it answered."""
    if result.plan is not None:
        say(f"plan, teams × window of output pixels: {result.plan}")
    print_table(
        f"{result.config.pes} PEs, means of {result.images} inputs",
        ("layer", "cycles", "MACs", "utilisation"),
        [
            (
                layer.name,
                f"{layer.compute_cycles:.0f}",
                f"{layer.macs:.0f}",
                f"{100 * layer.utilisation:.0f} %",
            )
            for layer in result.layers
        ],
    )
    overlap = "" if result.config.maps else ": layers overlap"
    say(
        f"{mean(result.latency_cycles):.0f} cycles an input, {min(result.latency_cycles)} to "
        f"{max(result.latency_cycles)}{overlap}; {result.load_cycles:,} to load the file"
    )
    if result.bit_exact:
        show_answers(answers, result.images)
        equal = f"{result.outputs_compared} output words compared with the reference, all equal"
        say((equal, "green"), f" ({result.simulator})")
    else:
        say(("differs from the reference:", "red"), f" {result.mismatch}")
    if result.wave is not None:
        say(f"waveform: {result.wave}")
        if (save := result.wave.with_suffix(".gtkw")).exists():
            say(f"for GTKWave: {save}")
