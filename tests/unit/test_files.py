"""Files that appear whole or not at all."""

import os
import stat
import threading

import pytest

from pleach.errors import ConfigError
from pleach.files import check_apart, check_figure, check_writable, write_whole


def test_a_file_keeps_its_mode_and_a_link_stays_one(tmp_path):
    before = os.umask(0o027)
    try:
        file = write_whole(tmp_path / "new" / "a", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (tmp_path / "link").symlink_to(file)
    file.chmod(0o600)
    write_whole(tmp_path / "link", b"other")
    assert (tmp_path / "link").is_symlink() and file.read_bytes() == b"other"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "new") == ["a"]


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"data")
    reader.join(10)
    assert found == [b"data"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_errors_name_the_path_that_was_given(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "below"):
        for write in (check_writable, lambda path: write_whole(path, b"")):
            with pytest.raises(OSError) as error:
                write(path)
            assert error.value.filename == str(path)
    check_writable(tmp_path / "many" / "new" / "folders")
    assert os.listdir(tmp_path) == ["file"]


def test_figures(tmp_path):
    with pytest.raises(ConfigError, match="png"):
        check_figure(tmp_path / "plot.xyz")
    check_figure(tmp_path / "plot.svg")


def test_two_results_in_one_new_file(tmp_path):
    """However its path is written: the file is not there yet."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for other in (tmp_path / "folder/../folder/a", tmp_path / "link" / "a"):
        with pytest.raises(ConfigError, match="would be written twice"):
            check_apart([tmp_path / "folder" / "a", other], [])
    check_apart([tmp_path / "a", tmp_path / "b"], [tmp_path / "c"])
