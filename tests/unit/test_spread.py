"""Jobs come back whoever did them, and one whose worker died is handed out again."""

import os
import signal
from pathlib import Path

import pytest

from pleach.errors import ConfigError, WorkerError
from pleach.spread import ATTEMPTS, spread


def added(base, number):
    if number < 0:
        raise ConfigError(f"{number} is less than nothing")
    return base + number


def dies_once(base, file):
    """Ends its worker, as a lack of memory does, unless it was tried before."""
    if not Path(file).exists():
        Path(file).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return base


def dies(base, file):
    with open(file, "a") as tried:
        tried.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def refused(base):
    error = ConfigError("no")
    error.why = lambda: base  # which no pickle holds
    raise error


def test_jobs_come_back_in_order():
    with spread(processes=2, shared=(10,)) as jobs:
        assert list(jobs.map(added, range(9))) == list(range(10, 19))
        assert jobs.place == "2 processes of this machine"


def test_an_error_is_the_jobs_own(tmp_path):
    """And so is a death: the others go on."""
    file = tmp_path / "tried"
    with spread(processes=2, shared=(1,)) as jobs:
        jobs.submit("bad", added, -1)
        jobs.submit("dies", dies, file)
        jobs.submit("once", dies_once, tmp_path / "once")
        jobs.submit("refused", refused)
        jobs.submit("good", added, 1)
        found = {}
        for key, outcome in jobs.finished():
            found[key] = outcome
            if key == "good":
                jobs.submit("late", added, 2)
    assert found.keys() == {"bad", "dies", "once", "refused", "good", "late"}
    assert [found[key].result() for key in ("once", "good", "late")] == [1, 2, 3]
    with pytest.raises(ConfigError, match="-1 is less than nothing") as error:
        found["bad"].result()
    assert "in added" in error.value.__notes__[0]
    with pytest.raises(WorkerError, match="4 workers died one after the other"):
        found["dies"].result()
    assert len(file.read_text()) == ATTEMPTS
    with pytest.raises(WorkerError, match="ConfigError: no"):
        found["refused"].result()
