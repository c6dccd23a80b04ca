"""The cache of what tools build: where it is, where it cannot be, and what an interrupt leaves."""

import platformdirs
import pytest

from pleach.errors import PleachWarning
from pleach_hw.build import cache
from pleach_hw.build.cache import cache_folder, cached, tool_environment
from pleach_hw.build.export import to_verilog
from tests.cocotb.small import Inverter


@pytest.fixture
def no_folder(tmp_path):
    """A path at which nobody, not even root, can make a folder."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "cache"


def test_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path))
    made = []

    def make(work):
        made.append(work)
        (work / "file").write_text("x")

    places = [cached("kind", ["key"], make) for _ in range(2)]
    assert places[0] == places[1] and len(made) == 1 and not made[0].exists()
    assert (places[0] / "file").read_text() == "x" and places[0].parent == tmp_path / "kind"


@pytest.mark.parametrize(("error", "stays"), [(ValueError, True), (KeyboardInterrupt, False)])
def test_logs_of_a_failure_stay_and_those_of_an_interrupt_do_not(
    error, stays, monkeypatch, tmp_path
):
    monkeypatch.setenv("PLEACH_CACHE", str(tmp_path))

    def make(work):
        (work / "log").write_text("x")
        raise error

    with pytest.raises(error):
        cached("kind", ["key"], make)
    assert bool(list(tmp_path.glob("kind/*.work/log"))) == stays


def test_a_relative_folder_is_the_same_for_children_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLEACH_CACHE", "here")
    assert cache_folder() == tmp_path / "here"


def test_without_a_folder_that_can_be_written_there_is_one_for_this_process(no_folder, monkeypatch):
    monkeypatch.setenv("PLEACH_CACHE", str(no_folder))
    with pytest.warns(
        PleachWarning, match="cannot be written.* PLEACH_CACHE names another"
    ) as told:
        place = cached("kind", ["key"], lambda work: (work / "file").write_text("x"))
    assert (place / "file").exists() and len(told) == 1
    assert cached("kind", ["key"], lambda work: pytest.fail("made twice")) == place
    cache._temporary.cache_clear()  # as at the end of the process
    assert not place.exists()


def test_verilog_without_a_home_folder(no_folder, monkeypatch):
    """Neither ours nor the exporter's own cache can be where they are wanted."""
    compiled = platformdirs.user_cache_path("wasmtime")
    for variable, value in {"HOME": no_folder, "XDG_CACHE_HOME": no_folder}.items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.delenv("PLEACH_CACHE", raising=False)
    with pytest.warns(PleachWarning, match="cannot be written"):
        home = cache_folder() / "home"
    home.mkdir(exist_ok=True)
    if compiled.exists():  # compiling it takes a quarter of a minute
        (home / "wasmtime").symlink_to(compiled)
    assert "module inverter" in to_verilog(Inverter(), "inverter")


def test_an_unknown_user_has_no_home(monkeypatch):
    def unknown(*_):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("PLEACH_CACHE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", unknown)
    with pytest.warns(PleachWarning, match="there is no home folder"):
        folder = cache_folder()
    assert tool_environment()["HOME"].startswith(str(folder))
