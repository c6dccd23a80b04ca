"""Fixtures that several files share."""

import sys

import pytest

from pleach.cli import main


@pytest.fixture
def in_process(monkeypatch, capsys):
    """`pleach` without a new process: returns exit code, standard output and error."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["pleach", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call
