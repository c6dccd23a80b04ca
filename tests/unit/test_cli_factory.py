"""A network that the user's own Python code makes, given to the commands."""

import json
import sys

import pytest

OWN = """
from torch import nn
from pleach.models import mlp

def make():
    return mlp([64, 24, 20, 10])

class Other(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 10))

class nets:
    trained = Other()

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 10)
    def forward(self, x):
        x = x.flatten(1)
        return self.last((x + self.first(x)).relu())

def fails():
    return undefined

def text():
    return "no network"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a Python file of networks, the current one; its module's name."""
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_compress_a_network_from_python(own, digits, pleach):
    """The same network, whether Python or the checkpoint says how it is made."""
    folder, _, _ = digits
    call = ("--dataset", "digits", "--clusters", 16, "--as-is", "-o")
    given = (f"{own}:make", "--weights", folder / "net.safetensors")
    text, _ = pleach("compress", *given, *call, "own.pleach")
    assert text.startswith(f"made by: {own}:make called, in ") and "weights of " in text
    assert "\nnetwork: 64 – 24 " in text or "\nnetwork: " in text
    pleach("compress", folder / "net.safetensors", *call, "file.pleach")
    with open("own.pleach", "rb") as one, open("file.pleach", "rb") as other:
        assert one.read() == other.read()
    scan = ("sensitivity", *given, "--dataset", "digits", "--images", 100, "--json")
    assert len(json.loads(pleach(*scan)[0])["layers"]) == 3
    assert own not in sys.path


def test_settings_name_what_the_module_brings(own, pleach, tmp_path):
    """A quantiser of the user's own, registered when their file is imported."""
    kind = """
from dataclasses import dataclass
import numpy as np
from pleach.compression.quantisers import Quantiser, quantiser

@quantiser("signs_of_the_user")
@dataclass(frozen=True, kw_only=True)
class Signs(Quantiser):
    def codebook(self, values, clusters, *, seed):
        return np.array([-1.0, 1.0]) * np.abs(values).mean()
"""
    path = tmp_path / f"{own}.py"
    path.write_text(path.read_text() + kind)
    (tmp_path / "signs.toml").write_text('[share]\nquantiser = "signs_of_the_user"\n')
    call = ("compress", f"{own}:Other", "--dataset", "digits", "--config", "signs.toml")
    call += ("--epochs", 0, "--density", 1, "--anyway", "--json", "-o", "own.pleach")
    made = json.loads(pleach(*call)[0])
    assert [layer["codebook_size"] for layer in made["layers"]] == [2]


def test_a_module_with_a_forward_of_its_own(own, pleach):
    """It is told on one line, runs in the reference, and what not every engine runs has a name."""
    call = ("compress", f"{own}:Residual", "--dataset", "digits", "--as-is", "--clusters", 64)
    made = json.loads(pleach(*call, "--anyway", "-o", "own.pleach", "--json")[0])
    assert "Add (" in made["network"]
    assert [layer["name"] for layer in made["layers"]] == ["first", "last"]
    found = json.loads(pleach("evaluate", "own.pleach", "--dataset", "digits", "--json")[0])
    assert found["error_pct"] == made["stages"][-1]["error"]
    info = json.loads(pleach("info", "own.pleach", "--json")[0])
    assert info["engines"] and not info["boards"] and "ReLU (input, input)" in info["network"]
    assert "takes a second source" in " ".join(pleach("info", "own.pleach")[0].split())
    ways = json.loads(pleach("plan", "own.pleach", "--dataset", "digits", "--json")[0])["ways"]
    assert [(row["layer"], row["teams"]) for row in ways] == [("first", 1), ("last", 1)]


@pytest.mark.parametrize(
    ("what", "more", "code", "says"),
    [
        ("nowhere.at.all:make", [], 2, "there is no module 'nowhere', neither in"),
        ("{own}:mke", [], 2, "has no attribute 'mke'"),
        ("{own}:fails", [], 1, "raises NameError: name 'undefined' is not defined"),
        ("{own}:text", [], 1, "gives str, must be a torch nn.Module"),
        ("{own}:make", ["--order", "fc1"], 2, "neither --order nor --activation"),
        ("{own}:nets.trained", ["--weights", "{net}"], 1, "is no checkpoint of {own}:nets.trained"),
        ("{net}", ["--weights", "{net}"], 2, "--weights is for a network from Python"),
        ("{own}:1", [], 2, "is package.module:function, not"),
        ("missing.pt", [], 2, "does not exist"),
        ("mynet.py", [], 2, "a network in Python is mynet:FUNCTION, not mynet.py"),
    ],
)
def test_mistakes(what, more, code, says, own, digits, pleach):
    folder, _, _ = digits
    names = {"own": own, "net": folder / "net.safetensors"}
    given = [text.format(**names) for text in (what, *more)]
    _, said = pleach("compress", *given, "--dataset", "digits", code=code)
    assert says.format(**names) in " ".join(said.replace("│", " ").split())
