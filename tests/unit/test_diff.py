"""Two networks side by side: places, values and answers, worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import pleach
from pleach.difference import Answered, layer_differences
from pleach.format import dumps
from pleach.model import Activation, CompressedLayer, CompressedModel
from pleach_cli.app import app


def network(positions, codes, codebook, **changes):
    about = {
        "inputs": 64, "outputs": 2, "bias": False, "shift": 1, "activation": Activation.NONE,
        "bias_exponent": 0, "output_fraction": 0,
    }  # fmt: skip
    layer = CompressedLayer(
        "fc1", positions=positions, codes=codes, codebook=codebook, **about | changes
    )
    return CompressedModel((layer,))


def test_layers_by_hand():
    """Of fractions that differ by 8 bits: 3 and 768 are the same weight."""
    one = network([0, 5, 7], [0, 1, 1], [3, 5])
    other = network([0, 5, 8], [0, 1, 2], [768, 512, 256], shift=9)
    (found,) = layer_differences(dumps(one), dumps(other))
    assert (found.name, found.kept, found.codebook) == ("fc1", (3, 3), (2, 3))
    assert (found.common, found.changed) == (2, 1)
    unit = 2.0 ** -one.weight_fractions()[0]
    assert found.rms == pytest.approx(unit * np.sqrt((3**2 + 5**2 + 1) / 128))
    (found,) = layer_differences(dumps(one), dumps(network([0], [0], [1], outputs=3)))
    assert found.common is None and found.rms is None
    assert sum(found.bytes) > 0


def test_answers_by_hand():
    one = np.array([[1.0, 2.0], [5.0, 0.0], [0.0, 1.0]])
    found = Answered.of(one, np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]]))
    assert found.changed == ((0, 1, 0),) and found.rms == pytest.approx(np.sqrt(4 / 6))
    assert Answered.of(np.array([[-1.0], [2.0]]), np.array([[1.0], [2.0]])).changed == ((0, 0, 1),)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pleach.save(network([0, 5, 7, 40], [0, 1, 1, 0], [3, 5]), "a.pleach")
    pleach.save(network([0, 5, 9, 41], [0, 1, 1, 0], [3, 5]), "b.pleach")

    def said(*given):
        found = CliRunner().invoke(app, ["diff", *given])
        return found.exit_code, found.stdout, found.stderr + str(found.exception)

    images = np.random.default_rng(1).integers(0, 256, (30, 64)).astype(np.uint8)
    labels = np.arange(30) % 2
    np.savez(
        "two.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )
    code, text, why = said("a.pleach", "b.pleach", "--dataset", "two.npz", "--pes", "4", "--json")
    assert code == 0, why
    about = json.loads(text)
    assert about["layers"][0]["common"] == 2 and len(about["cycles"]) == 2
    assert about["inputs"] == 30 and about["changed"]
    code, text, _ = said("a.pleach", "a.pleach", "--dataset", "two.npz", "--pes", "4")
    assert code == 0 and "inputs that change class: 0" in text
    two = network([0, 3], [0, 0], [3]).layers[0]
    pleach.save(CompressedModel((replace(two, name="other"),)), "c.pleach")
    text = said("a.pleach", "c.pleach", "--dataset", "two.npz", "--pes", "4")[1]
    assert "\nfc1, other: of another shape in each file, or in one alone" in text
    pleach.save(network([0], [0], [3], inputs=32), "c.pleach")
    assert "answer different questions" in said("a.pleach", "c.pleach", "--dataset", "two.npz")[2]
    (tmp_path / "dense_net.py").write_text(
        "import torch\nfrom torch import nn\ndef make():\n    torch.manual_seed(1)\n"
        "    return nn.Linear(64, 2, bias=False)\n"
    )
    code, text, why = said("a.pleach", "dense_net:make", "--dataset", "two.npz", "--json")
    assert code == 0, why
    rms = json.loads(text)["rms"]
    assert rms > 0
    for scale, same in (("1/256", True), ("1/255", False)):  # of a stored uint8
        call = ("a.pleach", "dense_net:make", "--dataset", "two.npz", "--scale", scale, "--json")
        _, text, note = said(*call)
        assert (json.loads(text)["rms"] == rms) == same
        assert "say how dense_net:make sees its inputs; the scaling of a.pleach is in" in note
