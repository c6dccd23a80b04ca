"""Settings: checked, and read from TOML."""

import json
import re
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from pleach.compression import CompressConfig, PruneConfig, ShareConfig, TrainConfig
from pleach.errors import ConfigError


def test_toml_reaches_every_level(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        """
        accumulator_bits = 40
        seed = 3
        [prune]
        density = 0.2
        ramp = 2
        layers = { fc1 = 0.05 }
        [prune.train]
        epochs = 4
        [share]
        clusters = 32
        initialisation = "optimal"
        """
    )
    config = CompressConfig.from_toml(path)
    assert config.accumulator_bits == 40 and config.seed == 3
    assert config.prune[0].density == 0.2 and config.prune[0].layers == {"fc1": 0.05}
    assert config.prune[0].train.epochs == 4
    # What is not named keeps the default of its place, not of its class.
    assert config.prune[0].train.distillation == PruneConfig().train.distillation
    assert config.share == ShareConfig(clusters=32, initialisation="optimal")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 1", "unknown setting sed: did you mean 'seed'"),
        ("[prune]\ndensty = 0.1", "unknown setting prune.densty: did you mean 'density'"),
        ("[prune.train]\nepoch = 1", "unknown setting prune.train.epoch: did you mean 'epochs'"),
        ("zzz = 1", "unknown setting zzz: there are accumulator_bits, codebook_bits, order"),
        ("prune = 3", "prune must be a table or a list of tables, not 3"),
        ("[share]\nlayers = 3", "share.layers must be a table"),
        ("seed =", "recipe.toml"),
        ("[share]\nclusters = 257", "clusters must be an integer from 1 to 256, not 257"),
        ("[share]\nclusters = true", "clusters must be an integer"),
        ("[share]\nclusters = '8'", "clusters must be an integer"),
        ("[share]\ninitialisation = 'Linear'", "must be one of linear, density, random, optimal"),
        ("[share.layers]\nfc1 = 0", r"layers\['fc1'\] must be an integer from 1 to 256, not 0"),
        ("[prune]\ndensity = 1.5", "density must be a number from 0 to 1, not 1.5"),
        ("[prune]\ndensity = nan", "density must be a number"),
        ("[prune]\nramp = 70", "ramp is 70 epochs of 60"),
        ("[[prune]]\n[[prune]]\ndensty = 1", "unknown setting prune.densty"),
        ("prune = []", "prune must be a table or a list of tables"),
        ("[prune]\ncriterion = 'fisher'", "criterion must be one of magnitude, saliency"),
        ("[prune]\nscope = 'network'\nlayers = {a = 1}", "takes one density, no layers"),
        ("[prune]\ncriterion = 'saliency'\n[prune.train]\noptimizer = 'sgd'", "needs train.opt"),
        ("[prune]\ncriterion = 'saliency'\nramp = 0", "needs a ramp"),
        ("[prune]\ncriterion = 'saliency'\nquality = 1", "it needs criterion magnitude"),
        ("codebook_bits = 7", "codebook_bits must be an integer from 8 to 16, not 7"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        CompressConfig.from_toml(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        CompressConfig.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": -1}, "TrainConfig.epochs must be an integer"),
        ({"batch_size": 0}, "batch_size"),
        ({"schedule": "warm"}, "cosine, step, constant, not 'warm'"),
        ({"optimizer": "lion"}, "adam, sgd"),
        ({"dropout": 1}, "dropout"),
        ({"distillation": -0.1}, "distillation"),
    ],
)
def test_train_settings(settings, words):
    with pytest.raises(ConfigError, match=words):
        TrainConfig(**settings)


def test_quality_has_another_range():
    assert PruneConfig(quality=2.0, layers={"fc1": 1.5}).quality == 2.0
    with pytest.raises(ConfigError, match="quality"):
        PruneConfig(quality=-1)


def test_the_documentation_shows_the_defaults():
    text = (Path(__file__).parents[2] / "docs/compression.md").read_text()
    table = tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.S).group(1))
    assert CompressConfig.from_dict(table) == CompressConfig()
    settings = json.loads(json.dumps(asdict(CompressConfig())))
    settings["prune"] = settings["prune"][0]
    del settings["prune"]["quality"]  # TOML has no None
    assert table.keys() == settings.keys()
    assert table["prune"].keys() == settings["prune"].keys()
    assert table["prune"]["train"].keys() == settings["prune"]["train"].keys()
