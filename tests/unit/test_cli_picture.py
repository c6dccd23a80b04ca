"""Pictures of what a network classified, and the demo that shows them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pleach import data
from pleach_cli import demo
from pleach_cli.picture import Classified, draw, on_terminal, show

IMAGES = np.zeros((7, 6, 6))
IMAGES[:, 1:5, 2:4] = 200
FOUND = Classified(IMAGES, np.arange(7) % 3, np.eye(3)[[0, 1, 1, 0, 1, 2, 0]])


def test_pictures_on_the_terminal(capsys):
    show(FOUND)
    text = capsys.readouterr().out
    assert on_terminal(IMAGES)[0] == ["██", "██"]
    assert text.count("label") == 6 and text.count("██") == 12  # and the seventh in a file alone
    assert "label 1, class 1" in text and "label 2, class 1" in text
    assert "1: 1.0, 0: 0.0" in text and "▁█▁" in text and "\n012 " in text
    assert max(map(len, text.split("\n"))) <= 80


def test_a_terminal_without_blocks(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(Console, "encoding", "ascii")
    show(FOUND)
    assert capsys.readouterr().out.startswith("no pictures here")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures_in_a_file(tmp_path, suffix):
    draw(replace(FOUND, labels=None), path := tmp_path / f"seen.{suffix}")
    whole = path.read_bytes()
    assert whole.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[suffix])
    before = whole
    draw(replace(FOUND, images=FOUND.images[:, ::-1], labels=1 - FOUND.labels), path)
    assert path.read_bytes() != before


def test_networks_of_the_demo(pleach, tmp_path):
    model, dense, config = demo._recipe(data.load("digits"), None)
    assert model[0].in_features == 64 and dense.epochs == 60
    model, dense, config = demo._recipe(data.load("digits"), "lenet_5")
    assert model.conv2.weight.shape == (50, 20, 5, 5)
    assert dense.epochs + config.prune[0].train.epochs + config.share.train.epochs < 10
    refused = pleach("demo", "--network", "lenet_6", code=2)[1]
    assert "networks are lenet_300_100 and lenet_5, not 'lenet_6'" in refused
    refused = pleach("demo", "--network", "lenet_5", "--dataset", "digits", code=2)[1]
    assert "lenet_5 takes the images of mnist" in refused
    assert "a plot is .png" in pleach("demo", "--picture", tmp_path / "a.txt", code=2)[1]


def small_mnist(name, **_):
    """Digits of 8 × 8 as large as MNIST's."""
    found = data._digits()

    def large(images):
        images = images.reshape(-1, 8, 8).repeat(3, axis=1).repeat(3, axis=2)
        return np.pad(images, ((0, 0), (2, 2), (2, 2))).reshape(len(images), -1)

    few = {
        "train_images": large(found.train_images[:300]),
        "train_labels": found.train_labels[:300],
        "test_images": large(found.test_images[:20]),
        "test_labels": found.test_labels[:20],
    }
    return replace(found, name=name, shape=(28, 28), **few)


@pytest.mark.slow
def test_demo_of_lenet_5(tmp_path, pleach, monkeypatch):
    """Its whole way, on few images; the engine has a map memory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load", small_mnist)
    call = ("demo", "--network", "lenet_5", "--images", 6, "--picture", "seen.png")
    first = json.loads(pleach(*call, "--json")[0])
    simulation = first["simulation"]
    assert simulation["bit_exact"] and simulation["engine"]["maps"] and simulation["plan"]
    assert [len(row) for row in first["logits"]] == [10] * 6
    assert np.argmax(first["logits"], axis=1).tolist() == simulation["predictions"]
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "build/demo/lenet_5.pleach").exists()
    text, _ = pleach(*call)
    assert "plan, teams" in text and "picture of all 6: seen.png" in text and "▀" in text
