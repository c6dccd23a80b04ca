"""Fixtures that several files share."""

import contextlib
import io
import json
import sys
from unittest import mock

import pytest

from pleach_cli import main


def call(*args, encoding="utf-8"):
    """`pleach` without a new process: returns exit code, standard output and error."""
    # As in a process: text over bytes.
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2))
    with (
        mock.patch.object(sys, "argv", ["pleach", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return ended.value.code, *(stream.buffer.getvalue().decode(encoding) for stream in (out, err))


@pytest.fixture(scope="session")
def in_process():
    """`call`."""
    return call


@pytest.fixture(scope="session")
def pleach():
    """`call` of what ends with exit code `code`: returns standard output and error."""

    def called(*args, code=0):
        found, out, err = call(*args)
        assert found == code, out + err
        return out, err

    return called


@pytest.fixture(scope="session")
def digits(tmp_path_factory, pleach):
    """A network that is not LeNet on data that are not MNIST, through the commands: the folder with
    net.safetensors, settings.toml and net.pleach, and what train and compress print."""
    folder = tmp_path_factory.mktemp("digits")
    trained = json.loads(
        pleach("train", "--dataset", "digits", "--hidden", "24,20", "--epochs", 60,
               "--dropout", 0, "-o", folder / "net.safetensors", "--json")[0]
    )  # fmt: skip
    (folder / "settings.toml").write_text(
        "[prune]\ndensity = 0.35\nramp = 4\n[prune.train]\nepochs = 8\n"
        "[share]\nclusters = 16\n[share.train]\nepochs = 3\n"
    )
    summary = json.loads(
        pleach("compress", folder / "net.safetensors", "--dataset", "digits", "--config",
               folder / "settings.toml", "-o", folder / "net.pleach", "--json")[0]
    )  # fmt: skip
    return folder, trained, summary
