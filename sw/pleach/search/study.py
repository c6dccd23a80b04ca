"""A search's trials: who asks for them, hands them out, and keeps what they gave.

Optuna's journal is written here alone. A trial is asked for when the one `together` before it was
told, trials are told in the order of their numbers, and each of its settings is drawn from a seed
of its own: what is asked depends on what was told, and not on who computed it and when.
"""

from __future__ import annotations

import fcntl
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pleach.compression import CompressConfig
from pleach.errors import ConfigError, WorkerError
from pleach.files import write_whole
from pleach.search.space import Axis, Choice, SearchConfig, applied, recipe
from pleach.search.trial import Attempt, Problem, attempt
from pleach.settings import toml_text
from pleach.spread import Jobs, spread

#: trials whose settings are drawn at random, before what they gave steers the others
RANDOM = 10


@dataclass(frozen=True)
class Trial:
    """A trial of a study.

    Args:
        number: from 0, in the order of asking.
        settings: what was tried, by the names of the settings.
        figures: bytes, error and perhaps cycles; empty of one that was refused.
        allowed: whether all bounds hold.
        refused: why there are no figures.
        file: its bitstream.
    """

    number: int
    settings: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    allowed: bool = False
    refused: str | None = None
    file: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "trial": self.number,
            "settings": self.settings,
            **self.figures,
            "allowed": self.allowed,
            "refused": self.refused,
            "file": None if self.file is None else str(self.file),
        }


@dataclass(frozen=True)
class Found:
    """What a study found.

    Args:
        trials: all of them, by their numbers.
        best: the one of the least figure of those that keep the bounds; None where none does.
        again: how many were there from an earlier call.
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    again: int


def search(
    problem: Problem,
    base: CompressConfig,
    config: SearchConfig,
    axes: dict[str, Axis],
    folder: str | Path,
    *,
    scheduler: str | None = None,
    processes: int | None = None,
    progress: Callable[[int, int, str], None] = lambda done, of, how: None,
    started: Callable[[Jobs], None] = lambda jobs: None,
) -> Found:
    """Try settings, or go on with a study that was interrupted.

    Each trial's file is in `folder` with its recipe, and the study in the journal there. On one
    kind of processor the same arguments give the same study, whoever does the trials.

    Args:
        base: the settings that are not tried.
        axes: those that are, as `pleach.search.space` gives them.
        folder: of this study alone.
        scheduler: a dask scheduler's address (`pleach.spread`).
        processes: of this machine; by default one a processor.
        progress: called with trials that were told, how many there will be, and a word.
        started: called with who does the trials.

    Raises:
        ConfigError: the folder has another study, or somebody works on it.
        WorkerError: the workers are gone; what was finished is kept.
    """
    folder = Path(folder)
    with _own(folder):
        study = _Study(problem, base, config, axes, folder)
        again = sum(bool(each.state.is_finished()) for each in study.all())
        with spread(scheduler, processes=processes, shared=(problem,)) as jobs:
            started(jobs)
            study.run(jobs, progress)
        return Found(tuple(study.trials()[: config.trials]), study.best(), again)


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Work on a folder alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another search works on {folder}: give another folder") from None
        yield


class _Study:
    def __init__(
        self,
        problem: Problem,
        base: CompressConfig,
        config: SearchConfig,
        axes: dict[str, Axis],
        folder: Path,
    ):
        self._base, self._config, self._axes, self._folder = base, config, axes, folder
        self._there: set[int] = set()  # trials whose figures are known, told or not
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
        self._study = optuna.create_study(
            storage=storage, study_name="search", sampler=_Sampler(config.seed), load_if_exists=True
        )
        about = _about(problem, base, config, axes)
        before = self._study.user_attrs.get("about")
        if before is None:
            self._study.set_user_attr("about", about)
        elif before != about:
            other = [name for name in about if before.get(name) != about[name]]
            raise ConfigError(
                f"{folder} has a study with another {' and another '.join(other)}: give another "
                "folder, or remove it"
            )

    def all(self) -> list[FrozenTrial]:
        """The trials asked for, by their numbers."""
        return self._study.get_trials(deepcopy=False)

    def run(self, jobs: Jobs, progress: Callable[[int, int, str], None]) -> None:
        """Do what is left."""
        count, asked = self._config.trials, self.all()
        self._there |= {each.number for each in asked if "figures" in each.user_attrs}
        told = sum(bool(each.state.is_finished()) for each in asked)
        for each in asked[told:count]:  # an interrupt may have left settings open
            trial = self._suggested(optuna.trial.Trial(self._study, each._trial_id))
            if each.number not in self._there:
                self._submit(jobs, trial)
        following = len(asked)
        while told < count:
            while following < min(told + self._config.together, count):
                self._submit(jobs, self._suggested(self._study.ask()))
                following += 1
            while told not in self._there:
                number, outcome = next(jobs.finished())
                try:
                    made: Attempt = outcome.result()
                except WorkerError as error:
                    made = Attempt({}, refused=str(error))
                self._keep(number, made)
            self._tell(told)
            told += 1
            progress(told, count, self._how())

    def trials(self) -> list[Trial]:
        """Those that were told."""
        return [self._trial(each) for each in self.all() if each.state.is_finished()]

    def best(self) -> Trial | None:
        """Of the least figure, of those that keep the bounds."""
        found = [trial for trial in self.trials()[: self._config.trials] if trial.allowed]
        key = self._config.minimise
        return min(
            found, key=lambda t: (t.figures[key], t.figures["error"], t.number), default=None
        )

    def _suggested(self, trial: optuna.trial.Trial) -> optuna.trial.Trial:
        """A trial with all its settings; those that it has already stay."""
        for name, axis in self._axes.items():
            if isinstance(axis, Choice):
                trial.suggest_categorical(name, list(axis.named))
            elif axis.whole:
                trial.suggest_int(name, int(axis.low), int(axis.high), log=axis.log)
            else:
                trial.suggest_float(name, axis.low, axis.high, log=axis.log)
        return trial

    def _submit(self, jobs: Jobs, trial: optuna.trial.Trial) -> None:
        try:
            config = applied(self._base, self._values(trial.params))
        except ConfigError as error:  # settings that do not go together
            self._keep(trial.number, Attempt({}, refused=str(error)))
        else:
            jobs.submit(trial.number, attempt, config)

    def _values(self, params: dict[str, Any]) -> dict[str, Any]:
        named = {n: axis.named for n, axis in self._axes.items() if isinstance(axis, Choice)}
        return {name: named.get(name, {}).get(value, value) for name, value in params.items()}

    def _file(self, number: int) -> Path:
        return self._folder / f"trial-{number:04}.pleach"

    def _keep(self, number: int, made: Attempt) -> None:
        """What became of a trial: its files first, then the journal says that it is done."""
        each = self.all()[number]
        if made.refused is None:
            write_whole(self._file(number), made.file)
            config = applied(self._base, self._values(each.params))
            text = f"# trial {number}, by pleach search\n{toml_text(recipe(config))}"
            write_whole(self._file(number).with_suffix(".toml"), text)
        trial = optuna.trial.Trial(self._study, each._trial_id)
        trial.set_user_attr("refused", made.refused)
        trial.set_user_attr("sha256", sha256(made.file).hexdigest())
        trial.set_user_attr("figures", made.figures)
        self._there.add(number)

    def _tell(self, number: int) -> None:
        each = self.all()[number]
        figures = each.user_attrs["figures"]
        if not figures:
            self._study.tell(number, state=TrialState.FAIL)
            return
        trial = optuna.trial.Trial(self._study, each._trial_id)
        with warnings.catch_warnings():  # of one that was set before an interrupt
            warnings.simplefilter("ignore")
            for name, most in self._config.bounds.items():
                trial.set_constraint(name, figures[name] - most)
        self._study.tell(number, figures[self._config.minimise])

    def _trial(self, each: FrozenTrial) -> Trial:
        figures, refused = each.user_attrs["figures"], each.user_attrs["refused"]
        allowed = bool(figures) and all(
            figures[name] <= most for name, most in self._config.bounds.items()
        )
        file = self._file(each.number) if figures else None
        return Trial(each.number, self._values(each.params), figures, allowed, refused, file)

    def _how(self) -> str:
        best = self.best()
        if best is None:
            return "none within the bounds yet"
        return f"best {best.figures[self._config.minimise]:,.6g} {self._config.minimise}"


def _about(
    problem: Problem, base: CompressConfig, config: SearchConfig, axes: dict[str, Axis]
) -> dict[str, Any]:
    """What a study's trials depend on, each by the name under which a user knows it."""
    weights = sha256()
    for name, tensor in problem.network.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    data = sha256()
    for array in (problem.inputs, problem.labels, *problem.held):
        data.update(np.ascontiguousarray(array).tobytes())
    told = {
        "network": weights.hexdigest(),
        "data set, or held out": data.hexdigest(),
        "loss": problem.loss,
        "recipe": recipe(base),
        "settings": {name: repr(axis) for name, axis in axes.items()},
        "minimise": config.minimise,
        "bound": config.bounds,
        "together": config.together,
        "engine": [config.pes, config.inputs] * config.counts,
        "seed": config.seed,
    }
    return json.loads(json.dumps(told))


class _Sampler(BaseSampler):
    """Optuna's TPE, begun anew for each setting of each trial, from a seed of its own."""

    def __init__(self, seed: int):
        self._seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        digest = sha256(f"{self._seed} {trial.number} {param_name}".encode()).digest()
        sampler = TPESampler(
            seed=int.from_bytes(digest[:4]), n_startup_trials=RANDOM, constant_liar=True
        )
        return sampler.sample_independent(study, trial, param_name, param_distribution)
