"""Folders of images, one for each class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pleach.data.split import SPLIT, classes_line, two
from pleach.errors import DataError
from pleach.extras import need

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
#: how Pillow calls grey and colour, and what becomes of palettes and of one bit a pixel
MODES = {"L": "L", "1": "L", "RGB": "RGB", "P": "RGB"}
PARTS = ("train", "test")

#: train images and labels, test images and labels, shape, split in words
Read = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[int, ...], str]


def read(folder: Path) -> Read:
    """Images of ``FOLDER/CLASS/…``, or of ``FOLDER/train/CLASS/…`` and ``FOLDER/test/CLASS/…``.

    Classes are numbered in the order of their names. Images are uint8, ``(height, width)`` where
    they are grey and ``(3, height, width)`` in colour.

    Raises:
        DataError: no classes in it, a file that is no image, or images of several sizes or kinds;
            names the file.
        NotInstalledError: without the extra ``images``.
    """
    need("PIL")
    folders = [folder / part for part in PARTS]
    own = all(each.is_dir() for each in folders)
    if not own and any(each.is_dir() for each in folders):
        here, missing = PARTS if folders[0].is_dir() else PARTS[::-1]
        raise DataError(f"{folder} has a folder {here}, but none called {missing}")
    names = _classes(folders[0] if own else folder)
    if own and (others := _classes(folders[1])) != names:
        odd = sorted({*names} ^ {*others})
        raise DataError(f"{folder}: train and test have not the same classes: {', '.join(odd)}")
    paths, labels = [], []
    counts = []
    for part in folders if own else [folder]:
        for number, name in enumerate(names):
            found = list(_images(part / name))
            paths += found
            labels += [number] * len(found)
        counts.append(len(paths))
    images = _pixels(paths)
    shape = images.shape[1:]
    rows, classes = images.reshape(len(images), -1), np.array(labels, np.int64)
    said = f"classes {classes_line(names)}"
    if own:
        cut = counts[0]
        split = f"folders train and test; {said}"
        return rows[:cut], classes[:cut], rows[cut:], classes[cut:], shape, split
    train, test = two(len(rows), str(folder))
    return rows[train], classes[train], rows[test], classes[test], shape, f"{SPLIT}; {said}"


def _classes(folder: Path) -> list[str]:
    names = sorted(each.name for each in _seen(folder) if each.is_dir())
    if sorted(name.lower() for name in names) == sorted(PARTS):
        raise DataError(f"{folder} has folders {' and '.join(names)}: call them train and test")
    if not names:
        raise DataError(f"{folder} has no folder for each class, must have {folder}/CLASS/IMAGE")
    return names


def _images(folder: Path) -> Iterator[Path]:
    count = 0
    for path in _seen(folder):
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is no image ({', '.join(SUFFIXES)}): take it away")
        count += 1
        yield path
    if not count:
        raise DataError(f"{folder} has no images")


def _seen(folder: Path) -> list[Path]:
    """What is in a folder, in the order of its names; what is hidden is left out."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _pixels(paths: list[Path]) -> np.ndarray:
    """``[n, height, width]``, or ``[n, 3, height, width]``, uint8."""
    from PIL import Image

    found: np.ndarray | None = None
    for number, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                mode = MODES.get(image.mode)
                pixels = None if mode is None else np.asarray(image.convert(mode))
                given = image.mode
        except Exception as error:  # a damaged image fails in many ways
            raise DataError(f"{path} cannot be read as an image: {error}") from error
        if pixels is None:
            raise DataError(
                f"{path} has the mode {given}: save it as 8 bits, grey or RGB (an alpha channel "
                "has no place in a network's input)"
            )
        if found is None:
            found = np.empty((len(paths), *pixels.shape), np.uint8)
        if pixels.shape != found.shape[1:]:
            sizes = [_size(shape) for shape in (pixels.shape, found.shape[1:])]
            raise DataError(
                f"{path} is {sizes[0]}, {paths[0]} is {sizes[1]}: give all images one size and kind"
            )
        found[number] = pixels
    if found is None:
        raise DataError("there are no images")
    return found if found.ndim == 3 else np.moveaxis(found, 3, 1)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} {'grey' if len(shape) == 2 else 'RGB'}"
