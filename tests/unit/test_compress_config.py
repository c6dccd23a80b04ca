"""Settings: checked, and read from TOML."""

import json
import re
import tomllib
from dataclasses import asdict
from pathlib import Path

import numpy as np
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
        ("[prune]\ncriterion = 'fisher'", "criterion must be one of apoz, .*magnitude, .*saliency"),
        ("[prune]\nscope = 'network'\nlayers = {a = 1}", "takes one density, no layers"),
        ("[prune]\ncriterion = 'saliency'\n[prune.train]\noptimizer = 'sgd'", "needs train.opt"),
        ("[prune]\ncriterion = 'saliency'\nramp = 0", "needs a ramp"),
        ("[prune]\ncriterion = 'saliency'\nquality = 1", "it needs criterion magnitude"),
        ("codebook_bits = 7", "codebook_bits must be an integer from 8 to 16, not 7"),
        ("accumulator_bits = 'wide'", "accumulator_bits must be one of auto, a number of bits"),
        ("accumulator_bits = 65", "accumulator_bits must be an integer from 16 to 64, not 65"),
        ("output_scale = 1", "output_scale must be one of auto, shared, each, not 1"),
        ("order = 1", "order must be true or false, not 1"),
        ("share = 3", "share must be a table, not 3"),
        ("prune = 'x'", "prune must be a table or a list of tables, not 'x'"),
        ("prune = ['x']", "prune must be a table or a list of tables"),
        ("[prune]\ntrain = 3", "prune.train must be a table, not 3"),
        ("[prune]\nlayers = ['fc1']", "prune.layers must be a table"),
        ("[prune.layers]\nfc1 = 'small'", r"layers\['fc1'\] must be a number from 0 to 1"),
        ("[prune.layers]\na.b = 0.1", r"layers\['a'\] must be a number from 0 to 1, not {'b'"),
        ("[prune]\nsplice = 'no'", "splice must be true or false, not 'no'"),
        (
            "[prune]\ncriterion = 3",
            "criterion must be one of apoz, .*taylor, wanda, not 3",
        ),
        ("[prune]\nquality = 'high'", "quality must be a number from 0 to 100, not 'high'"),
        ("[prune.train]\nfreeze = 'fc1'", r"freeze must be a list of layer names, like ..fc1..,"),
        ("[prune.train]\nfreeze = [1]", r"freeze must be a list of layer names.*, not \[1\]"),
        ("[prune.train]\nlearning_rate = '1e-3'", "learning_rate must be a number"),
        ("[prune.train]\nepochs = 1.5", "epochs must be an integer, not 1.5"),
        ("[prune.train]\nrescale_dropout = 1", "rescale_dropout must be true or false"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        CompressConfig.from_toml(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (TrainConfig, {"freeze": "fc1"}, r"TrainConfig.freeze must be a list .*, not 'fc1'"),
        (TrainConfig, {"freeze": [b"fc1"]}, "TrainConfig.freeze must be a list of layer names"),
        (TrainConfig, {"freeze": 3}, "TrainConfig.freeze must be a list of layer names"),
        (TrainConfig, {"rescale_dropout": "yes"}, "rescale_dropout must be true or false"),
        (TrainConfig, {"epochs": True}, "epochs must be an integer"),
        (TrainConfig, {"learning_rate": float("nan")}, "learning_rate must be a number"),
        (TrainConfig, {"optimizer": ["adam"]}, "optimizer must be one of adam, sgd"),
        (PruneConfig, {"layers": ["fc1"]}, "PruneConfig.layers must be a table of layer names"),
        (PruneConfig, {"layers": {1: 0.1}}, "PruneConfig.layers takes names, not 1"),
        (PruneConfig, {"layers": {"a": None}}, r"PruneConfig.layers\['a'\] must be a number"),
        (PruneConfig, {"splice": 1}, "PruneConfig.splice must be true or false, not 1"),
        (PruneConfig, {"remove": None}, "PruneConfig.remove must be true or false"),
        (PruneConfig, {"train": {"epochs": 3}}, "PruneConfig.train must be a TrainConfig"),
        (ShareConfig, {"layers": 3}, "ShareConfig.layers must be a table of layer names"),
        (ShareConfig, {"train": 10}, "ShareConfig.train must be a TrainConfig, not 10"),
        (CompressConfig, {"share": 3}, "CompressConfig.share must be a ShareConfig, not 3"),
        (CompressConfig, {"prune": "x"}, "CompressConfig.prune must be a PruneConfig or several"),
        (CompressConfig, {"prune": [PruneConfig(), 3]}, "must be a PruneConfig or several of"),
        (CompressConfig, {"order": "yes"}, "CompressConfig.order must be true or false"),
        (CompressConfig, {"seed": 1.0}, "CompressConfig.seed must be an integer"),
        (CompressConfig, {"accumulator_bits": None}, "accumulator_bits must be an integer"),
    ],
)
def test_every_field_has_a_kind(kind, settings, words):
    with pytest.raises(ConfigError, match=words):
        kind(**settings)


def test_numbers_of_numpys_are_numbers():
    config = TrainConfig(epochs=np.int64(3), learning_rate=np.float32(0.5))
    assert (config.epochs, config.learning_rate) == (3, 0.5)


def test_settings_are_a_table():
    for wrong in (None, 3, ["seed"], "seed"):
        with pytest.raises(ConfigError, match="settings must be a table, not"):
            CompressConfig.from_dict(wrong)


def test_the_caller_keeps_the_table():
    layers = {"fc1": 0.5}
    config = PruneConfig(layers=layers)
    layers["fc2"] = "not looked at"
    assert config.layers == {"fc1": 0.5}


def test_a_density_alone_agrees_with_the_rest():
    config = CompressConfig(
        prune=(
            PruneConfig(density=0.1, ramp=10, train=TrainConfig(epochs=20)),
            PruneConfig(layers={"fc1": 0.02}, ramp=5, train=TrainConfig(epochs=10)),
        ),
        share=ShareConfig(layers={"fc1": 3}, train=TrainConfig(epochs=5)),
        codebook_bits=8,
        seed=4,
    )
    assert config.with_() == config
    short = config.with_(epochs=6)
    assert [stage.train.epochs for stage in short.prune] == [4, 2]
    assert [stage.ramp for stage in short.prune] == [2, 1] and short.share.train.epochs == 1
    other = config.with_(density=0.3, clusters=32)
    assert [stage.density for stage in other.prune] == [0.3, 0.3]
    assert not other.prune[1].layers and not other.share.layers
    assert (other.share.clusters, other.codebook_bits, other.seed) == (32, 8, 4)

    none = CompressConfig().with_(density=1, clusters=256, epochs=0)
    assert (none.prune[0].train.epochs, none.prune[0].ramp, none.share.train.epochs) == (0, 0, 0)
    again = none.with_(density=0.25, clusters=16, epochs=60)
    assert again == CompressConfig()
    for wrong in ({"density": 2}, {"clusters": 0}, {"epochs": -1}, {"epochs": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CompressConfig().with_(**wrong)


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
