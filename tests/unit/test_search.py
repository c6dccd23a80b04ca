"""A search finds the same whoever does its trials, and whatever happens to them."""

import asyncio
import json
import multiprocessing
import os
import re
import signal
import socket
import threading
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import pleach
from pleach.compression import CompressConfig, PruneConfig, ShareConfig, TrainConfig, train
from pleach.errors import ConfigError
from pleach.models import mlp
from pleach.search import Problem, SearchConfig, applied, attempt, search, space
from pleach.search.space import recipe
from pleach.settings import from_dict, toml_table, toml_text

PAGE = Path(__file__).parents[2] / "docs/how-to/search.md"
TRAINING = TrainConfig(epochs=1, batch_size=64, learning_rate=1e-2)
BASE = CompressConfig(
    prune=PruneConfig(ramp=0.5, train=TRAINING), share=ShareConfig(train=TRAINING)
)
WANTED = SearchConfig(
    most_error=40.0,
    trials=13,  # beyond those that are random
    together=3,
    settings={
        "prune": {"density": {"low": 0.1, "high": 0.6, "log": True}},
        # The first is refused in some trials: it takes a ramp.
        "prune.criterion": ["saliency", "magnitude"],
        "prune.ramp": [0.5, 0],
        "share.clusters": {"low": 4, "high": 12},
    },
)


@pytest.fixture(scope="module")
def problem():
    digits, held = pleach.data.load("digits").held_out(1100)
    model = mlp([64, 10])
    train(model, *digits.training, replace(TRAINING, epochs=8))
    made = Problem(model, *digits.training, held)
    assert not attempt(made, BASE).refused  # and what is compiled is, before processes are forked
    return made


def told(found):
    """What a study found, without the folder."""
    said = [trial.as_json() | {"file": trial.file and trial.file.read_bytes()} for trial in
            found.trials]  # fmt: skip
    return said, found.best and found.best.number


def work(address, folder):
    from distributed import Worker

    async def until_the_end():
        worker = Worker(address, nthreads=1, dashboard=False, local_directory=folder)
        async with worker:
            await worker.finished()

    asyncio.run(until_the_end())


class Killing:
    """Kills a worker of a scheduler in this process while it has a trial, once."""

    def __init__(self, scheduler):
        self._scheduler, self.killed, self.lost = scheduler, None, []

    def __call__(self, done, of, how):
        if self.killed is None:
            worker = next(iter(self._scheduler.workers.values()))
            self.killed = worker.pid
            os.kill(worker.pid, signal.SIGSTOP)  # what it is given now it does not do
            threading.Thread(target=self._kill, args=(worker,), daemon=True).start()

    def _kill(self, worker):
        time.sleep(0.05)  # what it had sent is read
        while not self.lost:
            time.sleep(0.005)
            self.lost = [task.key for task in list(worker.processing) if "answer" in task.key]
        os.kill(worker.pid, signal.SIGKILL)


def test_a_worker_that_is_killed_and_an_interrupt_change_nothing(problem, tmp_path):
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    axes = space(WANTED, BASE)

    def interrupt(done, of, how):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(problem, BASE, WANTED, axes, tmp_path / "alone", processes=2, progress=interrupt)
    alone = search(problem, BASE, WANTED, axes, tmp_path / "alone", processes=1)
    assert alone.again == 5 and alone.best is not None and len(alone.trials) == 13
    assert {bool(trial.refused) for trial in alone.trials} == {True, False}

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    context = multiprocessing.get_context("fork")  # before there are threads; imports are done
    workers = [
        context.Process(target=work, args=(address, str(tmp_path)), daemon=True) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    try:
        with LocalCluster(
            n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", scheduler_port=port,
            dashboard_address=None,
        ) as cluster:  # fmt: skip
            kill = Killing(cluster.scheduler)
            while len(cluster.scheduler.workers) < 2:
                time.sleep(0.01)
            spread = search(
                problem, BASE, WANTED, axes, tmp_path / "spread", scheduler=address, progress=kill
            )
            assert kill.killed in [worker.pid for worker in workers] and kill.lost
            assert len(cluster.scheduler.workers) == 1
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert told(spread) == told(alone)

    other = replace(WANTED, most_error=41.0, seed=3)
    with pytest.raises(ConfigError, match="a study with another bound and another seed"):
        search(problem, BASE, other, axes, tmp_path / "alone")


def test_no_scheduler(problem, tmp_path):
    pytest.importorskip("distributed")
    axes = space(WANTED, BASE)
    with pytest.raises(ConfigError, match="no dask scheduler answers at nonsense://x"):
        search(problem, BASE, WANTED, axes, tmp_path, scheduler="nonsense://x")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prune": {"densty": [0.1]}}, "prune.densty = 0.1: .*did you mean 'density'"),
        ({"prune.density": {"low": 0.1, "high": 2.0}}, "prune.density = 2.0: .*from 0 to 1"),
        ({"prune.density": {"low": 0.3, "high": 0.1}}, "low must be less than high"),
        ({"prune.density": {"low": 0, "high": 0.1, "log": True}}, "more than 0, not 0"),
        ({"prune.density": {"low": "a", "high": 1}}, "prune.density.low must be a number"),
        ({"prune.density": {"low": 0.1, "hihg": 1}}, "has low, high and log, not 'hihg'"),
        ({"prune.density": 0.1}, "must be a list of choices or a table with low and high"),
        ({"prune.density": []}, "has no choices"),
        ({"prune.density": [0.1, 0.1]}, "a choice twice"),
        ({"prune.2.density": [0.1]}, "the recipe has the stages prune.1"),
        ({"prune.criterion": ["magnitude", "lad"]}, "'lad'"),
        ({"share.quantiser": [{"kind": "kmeans", "seed": 1}]}, "unknown setting 'seed'"),
        # What goes with nothing that is tried beside it.
        ({"prune.ramp": [100], "share.clusters": [4]}, "prune.ramp = 100: .*of retraining"),
    ],
)
def test_settings_are_refused_by_name(settings, said):
    with pytest.raises(ConfigError, match=said):
        space(SearchConfig(settings=settings), BASE)


def test_settings_go_to_their_stage_and_layer():
    stages = (PruneConfig(density=0.5, layers={"fc2": 0.3}), PruneConfig(density=0.2))
    base = CompressConfig(prune=stages)
    found = applied(
        base,
        {"prune.1.layers.fc1": 0.1, "prune.2.density": 0.05, "share.train.epochs": 3,
         "share.quantiser": {"kind": "kmeans", "initialisation": "optimal"}},
    )  # fmt: skip
    assert found.prune[0].layers == {"fc1": 0.1, "fc2": 0.3}
    assert found.prune[1].density == 0.05 and found.share.train == replace(
        base.share.train, epochs=3
    )
    with pytest.raises(ConfigError, match="density does nothing beside prune.layers"):
        applied(base, {"prune.1.density": 0.1})
    assert [*space(SearchConfig(), base)] == ["prune.2.density", "share.clusters"]


def test_a_recipe_is_read_as_it_was_written(tmp_path):
    prune = PruneConfig(
        criterion={"kind": "saliency"}, layers={"fc 1": 0.25}, schedule="linear",
        train=TrainConfig(regularisers=({"kind": "l1", "strength": 1e-5},), epochs=31),
    )  # fmt: skip
    share = ShareConfig(quantiser={"kind": "kmeans", "initialisation": "optimal"}, clusters=7)
    for config in (
        CompressConfig(), CompressConfig(prune=(prune, PruneConfig()), share=share, seed=5),
    ):  # fmt: skip
        (tmp_path / "x.toml").write_text(toml_text(recipe(config)), "utf-8")
        assert CompressConfig.from_dict(toml_table(tmp_path / "x.toml")) == config


def test_the_command(digits, pleach, tmp_path):
    folder, *_ = digits
    (tmp_path / "recipe.toml").write_text(
        "[prune]\nramp = 0\n[prune.train]\nepochs = 1\n[share.train]\nepochs = 1\n"
        "[search]\nmost_error = 90\ntrials = 9\n[search.settings]\nprune.density = [0.5, 0.6]\n"
    )
    given = ("search", folder / "net.safetensors", "--dataset", "digits", "--config",
             tmp_path / "recipe.toml", "-o", tmp_path / "net.pleach", "--processes", 1,
             "--minimise", "cycles")  # fmt: skip
    said = json.loads(pleach(*given, "--trials", 1, "--json")[0])
    best = said["best"]
    assert said["held_out"] == 239 and said["bounds"] == {"error": 90} and len(said["trials"]) == 1
    assert best["cycles"] > 0 and (tmp_path / "net.pleach").stat().st_size == best["bytes"]
    config = CompressConfig.from_toml(tmp_path / "net.toml")
    assert config.prune[0].density == best["settings"]["prune.density"]
    again = pleach(*given, "--trials", 1)[0]
    assert "looked for: the least cycles, error at most 90.00 %; cycles on 16 PEs" in again
    assert "tried: prune.density: 0.5, 0.6" in again
    assert "1 of the trials are from an earlier call" in again
    _, err = pleach(*given, "--most-error", 0, "--trials", 1, code=2)
    assert "has a study with another bound" in err
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(recipe.read_text() + "prune.layers.fc9 = [0.1]\n")
    assert "no layer is called 'fc9'" in pleach(*given, code=2)[1]


def test_the_page(tmp_path, monkeypatch):
    text = PAGE.read_text("utf-8")
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    table = tomllib.loads(table)
    wanted = from_dict(SearchConfig(), table.pop("search"))
    assert len(space(wanted, CompressConfig.from_dict(table))) == 4
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(program, PAGE.name, "exec"), {})
