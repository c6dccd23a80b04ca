"""Networks and data of one's own on the command line: what is asked for, what is refused in time,
regressions, and files without any training."""

import json
import re
import shlex
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pleach.compression import PruneConfig, ShareConfig, Stage, prune_, share_
from pleach.data import Dataset
from pleach.data import load as load_data
from pleach.engine import EngineConfig
from pleach.errors import DataError, ModelError
from pleach.format import load, save
from pleach.models import load_checkpoint, mlp, save_checkpoint
from pleach.reference import Reference
from pleach.report import Answers
from pleach_cli.common import check_fits, labels_as, network_for
from pleach_cli.info import fractions_line
from pleach_cli.views import notes_of, show_simulation
from tests.strategies import random_model

QUICK = ("--epochs", 2, "--dataset")


def test_the_data_set_is_given_and_named(digits, pleach):
    folder, trained, summary = digits
    network = folder / "net.safetensors"
    for command in (("compress", network, "-o", folder / "no.pleach"), ("sensitivity", network)):
        assert "give --dataset: mnist, digits, or your own" in pleach(*command, code=2)[1]
    assert summary["data"]["name"] == trained["data"]["name"] == "digits"
    assert summary["data"]["train"] == 1437 and "shuffled once" in summary["data"]["split"]
    assert summary["network"] == trained["network"] == "64 → fc1 24 ReLU → fc2 20 ReLU → fc3 10"
    file = folder / "net.pleach"
    small = "--pes 2 --groups 1 --lanes 1 --queue-depth 16 --block 1".split()
    for command in (("evaluate", file), ("explore", file, *small)):
        found = json.loads(pleach(*command, "--json")[0])
        # What scales its inputs is in the file, which does not say how.
        wanted = summary["data"] | {"scaling": "as stored (the file scales them)"}
        assert found["data"] == wanted and found["network"] == load(file).line
        out, said = pleach(*command)
        assert "\ndata: digits: 1,437 training and 360 test" in out
        assert "no --data is given, and digits has 64 inputs, as the network does" in said
    one = random_model(np.random.default_rng(0), [64, 3])
    save(one, folder / "three.pleach")
    said = pleach("evaluate", folder / "three.pleach", code=1)[1]
    assert "and digits has 64 inputs" in said and said.endswith("labels up to 9: give --data\n")


def test_what_a_checkpoint_does_not_tell_is_asked_for(digits, pleach, tmp_path):
    """Names that sort in another order than they run, and no word of functions."""
    state = load_checkpoint(digits[0] / "net.safetensors")
    square = {"hidden.weight": torch.eye(20), "hidden.bias": torch.zeros(20)}
    renamed = {"fc1": "input", "fc2": "deep", "fc3": "a_last"}
    state = {f"{renamed[key[:3]]}{key[3:]}": tensor for key, tensor in state.items()} | square
    safetensors.torch.save_file(state, tmp_path / "own.safetensors")
    command = ("compress", tmp_path / "own.safetensors", "-o", tmp_path / "o.pleach",
               "--dataset", "digits", "--as-is", "--clusters", 256)  # fmt: skip
    said = pleach(*command, code=1)[1]
    assert "--activation relu" in said
    told = (*command, "--activation", "relu", "--order", "input, deep,hidden,a_last")
    found = json.loads(pleach(*told, "--json")[0])
    assert found["network"].startswith("64 → input 24 ReLU → deep 20 ReLU → hidden 20 ReLU → a_la")
    dense = digits[1]["error_pct"]
    assert found["stages"][0]["error"] == pytest.approx(dense)
    # The error that a person knows, and one that it is not.
    pleach(*told, "--expect", dense + 0.4)
    said = pleach(*told, "--expect", dense + 0.6, code=2)[1]
    assert f"is {dense:.2f} %, {dense + 0.6:.2f} % was expected" in said and "--order" in said
    assert "--expect" in pleach(*told, "--expect", "nan", code=2)[1]
    said = pleach(*command, "--activation", "tanh", code=2)[1]
    assert "relu or none" in said and "--expect ERROR" in said


def test_a_guess_is_not_trained(digits, pleach, tmp_path):
    """Classes that are mixed up are refused before any epoch, or trained if one insists."""
    state = load_checkpoint(digits[0] / "net.safetensors")
    state = {key: tensor.flip(0) if "fc3" in key else tensor for key, tensor in state.items()}
    safetensors.torch.save_file(state, tmp_path / "mixed.safetensors")
    command = ("compress", tmp_path / "mixed.safetensors", "--activation", "relu", *QUICK, "digits",
               "--order", "fc1,fc2,fc3", "-o", tmp_path / "mixed.pleach")  # fmt: skip
    said = pleach(*command, code=2)[1]
    assert "always saying the same" in said and "--anyway" in said and "pruned" not in said
    assert not (tmp_path / "mixed.pleach").exists()
    out, said = pleach(*command, "--anyway", "--density", "0.03")
    assert re.search(r"\nremoved, .*: [1-9]\d* of 24 in fc1", out)
    assert "pleach: warning: the network is wrong" in said and "(on the training inputs): " in said
    assert (tmp_path / "mixed.pleach").exists()


def test_scaled_inputs(digits, pleach, tmp_path):
    """A network that was trained on (x/255 − 0.3) / 0.5 is fed the stored bytes."""
    from pleach.models import read_network

    model = read_network(digits[0] / "net.safetensors")
    with torch.no_grad():  # of value / 256: the same network of the other inputs
        first = model.fc1.weight
        model.fc1.bias += (0.3 * 255 / 256 * first).sum(1)
        first *= 0.5 * 255 / 256
    save_checkpoint(model, tmp_path / "scaled.safetensors")
    command = ("compress", tmp_path / "scaled.safetensors", "--dataset", "digits", "--as-is", "-o",
               tmp_path / "s.pleach", "--clusters", 256, "--json", "--scale", "1/255")  # fmt: skip
    found = json.loads(pleach(*command, "--mean", 0.3, "--std", 0.5)[0])
    assert found["data"]["scaling"] == "(value · 1/255 − 0.3) / 0.5"
    assert found["stages"][0]["error"] == pytest.approx(digits[1]["error_pct"], abs=0.3)
    assert load(tmp_path / "s.pleach").input_type.name == "UINT8"
    assert "numbers like 0.5 or 1/255" in pleach(*command, "--std", "1/0", code=2)[1]
    said = pleach(*command, "--mean", "0,3", code=1)[1]  # of 64 pixels: no mean for each half
    assert "mean has 2 numbers, must have 1 or 64, one a feature" in said and "a point" in said
    assert "mean and std of uint8" in pleach(*command[:-2], "--mean", "0.3", code=2)[1]


def test_the_data_line_says_what_the_network_saw(tmp_path):
    path, data = tmp_path / "n.safetensors", tmp_path / "own.npz"
    save_checkpoint(mlp([18, 2]), path)
    images, labels = np.ones((4, 2, 3, 3), np.float32), np.arange(4) % 2
    np.savez(data, train_images=images, train_labels=labels, test_images=images,
             test_labels=labels)  # fmt: skip
    for options, seen in (
        ((None, None, None), "seen as it is"),
        (("2", None, None), "seen as value · 2"),
        ((None, "0.5", None), "seen as value − 0.5"),
        (("1/4", "-1", "2"), "seen as (value · 1/4 − (-1)) / 2"),
        ((None, "1,2", "3"), "seen as (value − (1, 2)) / 3"),  # one a channel
        ((None, None, "0.5"), "seen as value / 0.5"),
    ):
        found = network_for(path, None, None, None, str(data), *options)[1]
        assert f"float32, {seen}, 2 classes" in found.describe()
    with pytest.raises(ModelError, match="must have 1 or 18, one a feature or 2, one a channel"):
        network_for(path, None, None, None, str(data), None, "1,2,3")


def test_labels_that_the_network_cannot_give():
    def data(labels):
        return Dataset("own.npz", np.ones((3, 2)), labels, np.ones((3, 2)), labels, (2,))

    with pytest.raises(DataError, match="3 outputs, own.npz has labels up to 3: classes start at"):
        check_fits(data(np.arange(1, 4)), 2, 3)
    with pytest.raises(DataError, match="has 1 target an input: integers make classes"):
        check_fits(data(np.arange(3, dtype=np.float32)), 2, 3)


@pytest.mark.parametrize(("count", "says"), [(3, "each its own, 5, 4, 5"), (17, "4 to 5")])
def test_the_fractions_of_all_outputs(count, says):
    model = random_model(np.random.default_rng(0), [4, count])
    shift = 5 - model.layers[-1].output_fraction
    own = replace(model, output_exponents=tuple(shift - n % 2 for n in range(count)))
    assert fractions_line(own).endswith(says)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """Rows of six features with two targets of different size; without labels too."""
    folder = tmp_path_factory.mktemp("regression")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(6, 2))) * [0.01, 2]
    arrays = {"train_images": x[:300], "test_images": x[300:]}
    labels = {"train_labels": y[:300], "test_labels": y[300:]}
    np.savez(folder / "own.npz", **arrays, **labels)
    np.savez(folder / "bare.npz", **arrays)
    return folder


def test_a_regression_from_training_to_the_engine(regression, pleach):
    data, network, file = (regression / name for name in ("own.npz", "n.safetensors", "n.pleach"))
    trained = json.loads(
        pleach("train", "--dataset", data, "--hidden", 16, "--epochs", 300, "--dropout", 0, "-o",
               network, "--json")[0]
    )  # fmt: skip
    assert trained["metric"] == "nrmse" and trained["nrmse"] < 0.5
    out, log = pleach("compress", network, "--dataset", data, "--density", 0.9, "--clusters", 64,
                      "--epochs", 6, "--expect", trained["nrmse"], "-o", file,
                      "--json")  # fmt: skip
    made = json.loads(out)
    assert "warning" not in log
    assert made["stages"][0]["metric"] == "nrmse" and made["data"]["targets"] == 2
    info = json.loads(pleach("info", file, "--json")[0])
    small, large = info["output_fractions"]
    assert small > large  # each output has a fraction of its own
    assert "outputs each its own" in pleach("info", file)[0]
    found = json.loads(pleach("evaluate", file, "--dataset", data, "--json")[0])
    assert found["nrmse"] == pytest.approx(made["stages"][-1]["error"])
    said = pleach("evaluate", file, "--dataset", data)[0]
    assert f"nrmse {found['nrmse']:.4g} (in each target's deviation" in said
    shared = ("--output-scale", "shared", "-o", regression / "shared.pleach")
    said = pleach("compress", network, "--dataset", data, "--as-is", "--clusters", 256, *shared)[0]
    assert re.search(r"test nrmse \(in each target's deviation.*\nstage +nrmse", said)
    assert len(set(load(regression / "shared.pleach").output_fractions)) == 1
    scan = json.loads(pleach("sensitivity", network, "--dataset", data, "--json")[0])
    assert scan["metric"] == "nrmse" and scan["layers"][0]["errors"][-1] > scan["dense_nrmse"]
    assert (
        "half" not in pleach("compress", network, "--dataset", data, "--expect", 0.001, code=2)[1]
    )
    state = load_checkpoint(network)  # an output that is dead is named, and nothing is trained
    names = [name for name in state if name.startswith("fc2")]
    for name in names:
        state[name][0] = 0
    safetensors.torch.save_file(state, regression / "dead.safetensors")
    dead = ("compress", regression / "dead.safetensors", "--dataset", data, "--activation", "relu",
            "--as-is", "--clusters", 256, "-o", regression / "dead.pleach")  # fmt: skip
    assert "output 0 (from 0; always 0) is 1" in pleach(*dead, code=2)[1]
    log = pleach(*dead, "--anyway")[1]
    assert log.count("pleach: warning:") == 1 and "after compression" not in log
    # What needs no labels does not ask for them.
    small = "--pes 1 --groups 1 --lanes 1 --queue-depth 16 --block 1".split()
    bare = ("--dataset", regression / "bare.npz")
    pleach("explore", file, *small, *bare)
    pleach("balance", file, "--pes", 2, *bare, "-o", regression / "even.pleach")
    assert "train_labels" in pleach("evaluate", file, *bare, code=1)[1]
    model, plain = load(file), load_data(str(bare[1]), labels=False)
    inputs = model.quantise(plain.test_images[:3])
    real = model.dequantise(Reference(model).run(inputs))
    assert Answers.of(model, inputs, plain).as_json() == {"outputs": real.tolist()}


def test_one_logit(tmp_path, pleach):
    """A network of one output tells two classes by its sign, retrained or not."""
    rng = np.random.default_rng(1)
    w, x = rng.normal(size=(1, 6)).astype(np.float32), rng.normal(size=(300, 6)).astype(np.float32)
    y = (x @ w[0] > 0).astype(np.int64)
    np.savez(tmp_path / "two.npz", train_images=x[:200], train_labels=y[:200],
             test_images=x[200:], test_labels=y[200:])  # fmt: skip
    state = {"fc.weight": torch.from_numpy(w), "fc.bias": torch.zeros(1)}
    safetensors.torch.save_file(state, tmp_path / "n.safetensors")
    command = ("compress", tmp_path / "n.safetensors", "--dataset", tmp_path / "two.npz", "-o",
               tmp_path / "n.pleach", "--json")  # fmt: skip
    for how in (("--as-is", "--expect", 0), ("--density", 1, "--epochs", 2)):
        made = json.loads(pleach(*command, *how)[0])
        assert made["stages"][0]["error"] == 0 and made["stages"][-1]["error"] <= 3
        assert made["stages"][-1]["metric"] == "error_pct"
    found = json.loads(
        pleach("evaluate", tmp_path / "n.pleach", "--dataset", tmp_path / "two.npz", "--json")[0]
    )
    assert found["error_pct"] == made["stages"][-1]["error"]
    real = x[200:205] @ w[0]
    model, data = load(tmp_path / "n.pleach"), load_data(str(tmp_path / "two.npz"))
    answers = Answers.of(model, model.quantise(x[200:205]), data)
    assert answers.predictions == (real > 0).astype(int).tolist()


def test_labels_that_are_floats_of_0_and_1_are_asked_for(tmp_path, pleach, monkeypatch):
    """Of one logit they are classes or numbers: no figure is made up."""
    rng = np.random.default_rng(1)
    w, x = rng.normal(size=(1, 6)).astype(np.float32), rng.normal(size=(300, 6)).astype(np.float32)
    y = (x @ w[0] > 0).astype(np.float32)
    data, net, file = (tmp_path / name for name in ("two.npz", "n.safetensors", "n.pleach"))
    np.savez(data, train_images=x[:200], train_labels=y[:200], test_images=x[200:],
             test_labels=y[200:])  # fmt: skip
    state = {"fc.weight": torch.from_numpy(w), "fc.bias": torch.zeros(1)}
    safetensors.torch.save_file(state, net)
    made = ("compress", net, "--dataset", data, "--as-is", "-o", file)
    pleach(*made, "--loss", "binary", "--json")
    monkeypatch.setattr("pleach_sim.runner.require", lambda simulator: None)
    for command in (
        made, ("compress", net, "--dataset", data, "-o", file),
        ("evaluate", file, "--dataset", data),
        ("sensitivity", net, "--dataset", data), ("simulate", file, "--dataset", data),
        ("train", "--dataset", data, "-o", tmp_path / "t.safetensors"),
    ):  # fmt: skip
        said = pleach(*command, code=2)[1]
        assert "floats, all of them 0 or 1" in said and "--loss binary" in said
    binary = pleach("evaluate", file, "--dataset", data, "--loss", "binary", "--json")[0]
    assert json.loads(binary)["error_pct"] <= 1
    met = pleach("evaluate", file, "--dataset", data, "--loss", "mse")[0]
    assert re.search(r"rmse \d\S* \(in the targets' unit\)", met)
    scan = pleach("sensitivity", net, "--dataset", data, "--loss", "binary", "--json")[0]
    assert json.loads(scan)["dense_error_pct"] == 0
    found = labels_as(load_data(str(data)), 1, "binary")
    answers = Answers.of(load(file), load(file).quantise(x[200:205]), found)
    assert answers.predictions == y[200:205].tolist()
    assert "cross_entropy, binary, mse" in pleach("evaluate", file, "--dataset", data, "--loss",
                                                  "hinge", code=2)[1]  # fmt: skip


def test_what_costs_much_is_said_with_what_helps():
    def notes(metric, *errors, **options):
        names = ("dense", "pruned", "shared", "fixed point")
        pairs = zip(names, errors, strict=True)
        return notes_of([Stage(n, error, 1.0, 0.0, metric) for n, error in pairs], **options)

    assert notes("error_pct", 3.0, 7.9, 12.8, 3.0) == notes("nrmse", 0.4, 0.49, 0.6, 0.74) == []
    pruned, shared, fixed = notes("error_pct", 3.0, 8.0, 13.0, 18.0)
    assert pruned.startswith(
        "pruned takes the error from 3.00 % to 8.00 %; what helps: a higher --d"
    )
    assert "--clusters" in shared and "--epochs" in shared and "--clusters" not in fixed
    assert "--output-scale each" in fixed
    (shared,) = notes("nrmse", 0.2, 0.2, 0.25, 0.25)
    assert "from nrmse 0.2 to 0.25" in shared and "regressions often want 64" in shared
    assert "--clusters" in notes("rmse", 0, 0, 0, 1, clusters=True)[0]


def test_a_dear_stage_has_a_note_under_the_table(digits, pleach, tmp_path):
    command = ("compress", digits[0] / "net.safetensors", "--dataset", "digits", "--density", 1,
               "--epochs", 0, "--clusters", 2, "-o", tmp_path / "n.pleach")  # fmt: skip
    (note,) = json.loads(pleach(*command, "--json")[0])["notes"]
    assert note.startswith("shared takes the error from") and f"note: {note}" in pleach(*command)[0]
    assert digits[2]["notes"] == [] or all("takes" in note for note in digits[2]["notes"])


def test_a_per_cent_figure_has_no_other_name(capsys):
    result = SimpleNamespace(config=EngineConfig(), images=1, layers=[], latency_cycles=[1],
                             load_cycles=1, bit_exact=True, outputs_compared=1,
                             simulator="verilator", wave=None, plan=None)  # fmt: skip
    show_simulation(result, Answers(predictions=[1], metric="error_pct", error=20.0))
    assert "error of these inputs: 20.00 %\n" in capsys.readouterr().out
    show_simulation(result, Answers(outputs=[[1.0]], metric="rmse", error=0.5))
    assert "these inputs: rmse 0.5 (in the targets' unit)" in capsys.readouterr().out


def test_fractions_make_real_numbers_of_integers(digits, pleach):
    folder, _, _ = digits
    info = json.loads(pleach("info", folder / "net.pleach", "--json")[0])
    model = load(folder / "net.pleach")
    assert info["input_fraction"] == 8 and info["network"] == model.line
    x = load_data("digits").test_images[:5]
    words = Reference(model).run(x)
    real = words / 2.0 ** np.array(info["output_fractions"])
    assert np.array_equal(real, model.dequantise(words))
    # The sum of a row of the first layer, by the fractions alone.
    layer = model.layers[0]
    matrix = layer.dense()[:, :-1] / 2.0 ** info["weight_fractions"][0]
    bias = layer.dense()[:, -1] / 2.0 ** (
        info["weight_fractions"][0] + info["input_fraction"] - layer.bias_exponent
    )
    sums = (x / 2.0 ** info["input_fraction"]) @ matrix.T + bias
    traced = next(iter(Reference(model).trace(x))).outputs / 2.0 ** info["layer_fractions"][0]
    assert np.abs(np.maximum(sums, 0) - traced).max() <= 2.0 ** -info["layer_fractions"][0]
    assert re.search(
        r"inputs 8; weights \S+, \S+, \d+; between", pleach("info", folder / "net.pleach")[0]
    )


def test_as_it_is(pleach, tmp_path):
    """A network that is pruned and shared is quantised and not trained; one that is not is refused
    by its layer, or shared on the way."""
    model = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    dense = save_checkpoint(model, tmp_path / "dense.safetensors")
    prune_(model, PruneConfig(density=0.5))
    share_(model, ShareConfig(clusters=8))
    ready = save_checkpoint(model, tmp_path / "ready.safetensors")
    out = tmp_path / "n.pleach"
    made = json.loads(
        pleach("compress", ready, "--dataset", "digits", "--as-is", "--anyway", "-o", out,
               "--json")[0]
    )  # fmt: skip
    assert [stage["name"] for stage in made["stages"]] == ["dense", "fixed point"]
    assert made["stages"][0]["kept"] == pytest.approx(0.5, abs=0.01)
    fixed = load(out)
    for layer, module in zip(fixed.layers, (model[0], model[2]), strict=True):
        assert layer.kept == int(module.weight.count_nonzero() + module.bias.count_nonzero())
    command = ("compress", dense, "--dataset", "digits", "--as-is", "-o", out)
    assert "layer '0' has 780 distinct weights" in pleach(*command, code=2)[1]
    assert "--density" in pleach(*command, "--density", 0.5, code=2)[1]
    assert "always saying the same" in pleach(*command, "--clusters", 12, code=2)[1]
    made = json.loads(pleach(*command, "--clusters", 12, "--anyway", "--json")[0])
    assert [layer["codebook_size"] for layer in made["layers"]] == [12, 12]
    assert [layer["density"] for layer in made["layers"]] == [1.0, 1.0]


def test_density_epochs_and_clusters(digits, pleach, tmp_path):
    """Over the settings: shares kept, and a schedule that is as long in proportion."""
    command = ("compress", digits[0] / "net.safetensors", "--dataset", "digits", "-o",
               tmp_path / "n.pleach", "--density", 0.2, "--clusters", 5)  # fmt: skip
    out, log = pleach(*command, "--epochs", 6, "--json")
    made = json.loads(out)
    assert "pruned, 1 of 6" in log and "shared, 1 of 1" in log
    assert made["stages"][1]["kept"] == pytest.approx(0.2, abs=0.02)
    assert {layer["codebook_size"] for layer in made["layers"]} <= {4, 5}
    _, log = pleach(*command, "--epochs", 0)
    assert "loss" not in log
    assert "'--density'" in pleach(*command, "--density", 1.5, code=2)[1]


def test_a_convolution_from_a_checkpoint(pleach, tmp_path):
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 10)
    )
    save_checkpoint(model, tmp_path / "conv.safetensors")
    command = ("--dataset", "digits", "-o", tmp_path / "conv.pleach", "--json", "--anyway")
    made = json.loads(
        pleach("compress", tmp_path / "conv.safetensors", "--as-is", "--clusters", 64, *command)[0]
    )
    assert made["network"] == "1×8×8 → 0 3×3×3 ReLU, pool 2 → 4 10"
    assert json.loads(pleach("evaluate", tmp_path / "conv.pleach", "--json")[0])["inputs"] == 360


def test_what_was_trained_is_kept(digits, pleach, tmp_path):
    """Accumulators too narrow for what training made: the way on is printed and goes on."""
    settings = tmp_path / "narrow.toml"
    settings.write_text("accumulator_bits = 16\n")
    command = ("compress", digits[0] / "net.safetensors", "--config", settings, *QUICK, "digits",
               "-o", tmp_path / "n.pleach")  # fmt: skip
    said = pleach(*command, code=1)[1]
    assert "accumulator" in said and "Traceback" not in said
    kept = tmp_path / "n.unfinished.safetensors"
    assert str(kept) in said and not (tmp_path / "n.pleach").exists()
    assert all((tensor == 0).any() for key, tensor in load_checkpoint(kept).items() if "w" in key)
    settings.write_text("")
    go_on = shlex.split(said.splitlines()[-1])
    assert go_on[0] == "pleach" and "--as-is" in go_on
    pleach(*go_on[1:])
    assert (tmp_path / "n.pleach").exists()
    settings.write_text("accumulator_bits = 16\n")
    assert "n.unfinished-2.safetensors" in pleach(*command, code=1)[1]


def test_one_engine_through_the_flow(digits, pleach, tmp_path):
    """The same options and model give the same engine, and what explore writes is taken."""
    file, out = digits[0] / "net.pleach", tmp_path / "engine.v"
    options = ("--pes", 1, "--set", "columns=2048", "--set", "queue_depth=8")
    exported = json.loads(pleach("export", *options, "--model", file, "-o", out, "--json")[0])
    even = ("balance", file, *options, "-o", tmp_path / "even.pleach")
    moved = json.loads(pleach(*even, "--dataset", "digits", "--json")[0])
    assert exported["engine"] == moved["engine"]
    assert exported["engine_derived"] == moved["engine_derived"] == {"accumulators": 64}
    EngineConfig(**exported["engine"]).check(load(file))
    assert exported["network"] == moved["network"] == load(file).line
    line = pleach(*even, "--dataset", "digits")[0]
    assert f"; accumulators 64 for {file}, 32 by default\n" in line
    for command in (("export", "--model", file, "-o", out), ("simulate", file), even):
        said = pleach(*command, "--pes", 1, "--set", "accumulators=32", code=1)[1]
        assert re.search(r"accumulators \d\d of 32.*give accumulators=64", said), command
    small = "--pes 1,2 --groups 1 --lanes 1,2 --queue-depth 8,16 --block 1".split()
    toml = tmp_path / "engine.toml"
    found = json.loads(
        pleach("explore", file, *small, "--board", "ulx3s-25f", "-o", toml, "--json")[0]
    )
    least = min(row["latency_cycles"] for row in found["engines"])
    assert found["best"]["latency_cycles"] == least
    even = ("balance", file, "--engine", toml, "-o", tmp_path / "even.pleach", "--json")
    again = json.loads(pleach(*even)[0])
    assert again["engine"] == found["best"]["engine"] and again["engine_derived"] == {}
    toml.write_text("pes = 1\n")  # what follows from it is not stored
    assert json.loads(pleach(*even, "--pes", 16)[0])["engine"] == asdict(EngineConfig(pes=16))


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, "pes = " + "9" * 5000, "pes = 1\xff"])
def test_settings_that_no_reader_likes(text, in_process, tmp_path):
    (tmp_path / "bad.toml").write_text(text, "latin-1")
    code, _, said = in_process("export", "--engine", tmp_path / "bad.toml", "-o", tmp_path / "e.v")
    assert code == 2 and str(tmp_path / "bad.toml") in said
