"""The page of a network: its figures are those of the reference and the cycle model, and what a
file names cannot leave its place in the page."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image as plt
import numpy as np
import pytest
from typer.testing import CliRunner

import pleach
from pleach import data
from pleach.compile.plan import planned
from pleach.cycles import CycleModel
from pleach.engine.plan import base_engine, default_plan, fitted, said
from pleach.model import CompressedLayer
from pleach.page import Facts, Page, Runs, macs_of_pes, svg
from pleach.reference import Reference
from pleach_cli.app import app
from tests.cocotb.map_cases import map_engine, nasty_maps

FILE = "bench/models/lenet_300_100_small.pleach"
STYLE = Path(svg.__file__).with_name("style.css").read_text("utf-8")
VOID = {"meta", "link", "img", "br", "line", "path"}


class Reader(HTMLParser):
    """Refuses what is not closed in its order, and keeps what is asked for elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.asked, self.kinds = [], [], []

    def handle_starttag(self, tag, attrs):
        self.kinds.append(tag)
        given = dict(attrs)
        self.asked += [given[name] for name in ("src", "href") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.kinds.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def facts():
    model = pleach.load(FILE)
    found = data.load("mnist")
    dense = np.zeros((len(found.test_images), 10), np.float32)
    dense[:, 7] = 1
    return Facts.of(
        FILE, data=found, engine=fitted(model, base_engine(model, 16)), images=2, dense=dense,
        made=(("command", "<b>"),),
    )  # fmt: skip


def test_the_page_is_whole_and_alone(facts):
    page = Page(facts).html()
    reader = Reader()
    reader.feed(page)
    assert not reader.open and reader.kinds.count("h1") == 1
    assert reader.asked and all(each.startswith("data:image/png;base64,") for each in reader.asked)
    assert "http:" not in page and "https:" not in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert len(page) < 300_000
    body = Page(facts)._repr_html_()
    assert body.startswith("<style>") and "<script" not in body


def test_what_it_says_is_what_the_reference_says(facts):
    found = data.load("mnist")
    labels = found.test_labels
    assert facts.confusion.sum() == len(labels)
    wrong = 100 * (1 - np.trace(facts.confusion) / len(labels))
    assert facts.error == pytest.approx(wrong) and len(facts.wrong) == round(wrong * 100)
    said = len(labels) - facts.confusion[:, 7].sum()
    assert len(facts.changed) == said  # all that are not said to be 7
    assert facts.labels[facts.wrong[0][0]] == labels[facts.wrong[0][0]]


def test_bits_and_weights_add_up(facts):
    for layer, row in zip(facts.layers, facts.file.layers, strict=True):
        assert sum(layer.bits.values()) == 8 * row.bytes
        assert layer.counts.sum() == layer.kept == row.kept
    again = json.loads(json.dumps(facts.as_json()))
    assert again["runs"]["layers"][0]["spent"]["broadcasts"] > 0
    assert again["sha256"] == facts.file.sha256


def test_macs_of_pes_are_those_of_the_reference():
    """Of convolutions, groups, skips and biases; teams split them evenly."""
    config = map_engine(4)
    for job in nasty_maps(config):
        model, traces = job.model, iter(Reference(job.model).trace(job.inputs))
        shapes = model.graph.shapes()
        for node in model.graph.nodes:
            if not isinstance(node.op, CompressedLayer):
                continue
            trace, skip = next(traces), shapes[node.sources[-1]]
            for teams in (1, 2):
                found = macs_of_pes(node.op, trace, config, teams, skip)
                assert len(found) == 4
                assert found.sum() == pytest.approx(trace.macs.mean()), job.name


def test_the_page_counts_the_plan_that_is_simulated():
    config, other = map_engine(4), 0
    for job in nasty_maps(config):
        plan = planned(job.model, config, job.inputs)
        runs = Runs.of(job.model, job.inputs, config)
        assert runs.plan == said(job.model, plan)
        wanted = CycleModel(job.model, config, plan).run(job.inputs).latency
        assert (runs.latency == wanted).all(), job.name
        other += plan != default_plan(job.model, config)
    assert other  # the plan does matter


def test_the_engine_s_use_is_its_macs_over_its_cycles():
    model = pleach.load("bench/models/lenet_5_small.pleach")
    inputs = model.quantise(data.load("mnist").test_images[:1])
    config = fitted(model, base_engine(model, 16))
    runs = Runs.of(model, inputs, config)
    macs = [trace.macs.mean() for trace in Reference(model).trace(inputs)]
    whole = runs.utilisation.sum(axis=1) * runs.compute
    np.testing.assert_allclose(whole[whole > 0], macs)
    assert (runs.utilisation <= 1).all()


def test_the_command(tmp_path, monkeypatch):
    file = Path(FILE).resolve()
    monkeypatch.chdir(tmp_path)

    def said(*given):
        found = CliRunner().invoke(app, ["report", *map(str, given)])
        return found.exit_code, found.stdout, str(found.exception)

    code, text, _ = said(file, "--pes", 16, "--images", 1)
    assert code == 0 and "open it in a browser" in text
    page = Path("lenet_300_100_small.html").read_text("utf-8")
    assert "1.7" in page and "ulx3s-85f" in page
    assert said(file, "--dense", "made:of")[2].startswith("give --dataset with --dense")
    Path("stages.json").write_text("[]")
    assert "is not what pleach compress --json prints" in said(file, "--stages", "stages.json")[2]


def browsed(folder, page, *asked):
    """What a browser makes of a page, and what it complains of."""
    (folder / "page.html").write_text(page, "utf-8")
    given = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run"
    ran = subprocess.run(
        ["chromium", *given.split(), "--enable-logging=stderr", f"--user-data-dir={folder}/user",
         "--hide-scrollbars", *asked, f"file://{folder}/page.html"],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    complaints = [line for line in ran.stderr.decode().splitlines() if "CONSOLE" in line]
    return ran.stdout.decode(), complaints


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium, apt install chromium")
def test_in_a_browser(facts, tmp_path):
    """It loads without a complaint, a click sorts a table, and figures have the sizes of their
    figures."""
    click = "<script>document.querySelectorAll('th button')[1].click()</script></body>"
    page = Page(facts).html().replace("</body>", click)
    after, complaints = browsed(tmp_path, page, "--dump-dom")
    assert not complaints
    sorted_names = re.findall(r"<td>(fc\d)</td>", after)[:3]
    sizes = {row.name: row.kept / row.density for row in facts.file.layers}
    assert sorted_names == sorted(sizes, key=sizes.get, reverse=True)
    assert 'aria-sort="descending"' in after

    part = str(svg.parts(facts.layers[0].bits, "bits", sum(facts.layers[0].bits.values())))
    alone = f"<body class=pleach style='margin:0;padding:0'><style>{STYLE}</style>{part}</body>"
    shot = tmp_path / "shot.png"
    _, complaints = browsed(tmp_path, alone, "--window-size=500,100", f"--screenshot={shot}")
    assert not complaints
    pixels = (255 * plt.imread(shot)[..., :3]).round().astype(int)
    line = pixels[8]
    for kind, bits in zip("abc", facts.layers[0].bits.values(), strict=True):
        colour = re.search(rf"--{kind}: #(......)", STYLE)[1]
        wanted = [int(colour[place : place + 2], 16) for place in (0, 2, 4)]
        wide = (np.abs(line - wanted) < 3).all(axis=1).sum()
        assert wide == pytest.approx(360 * bits / sum(facts.layers[0].bits.values()), abs=2)
