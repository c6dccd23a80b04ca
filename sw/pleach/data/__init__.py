"""Data sets as numpy arrays; nothing here needs torch."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass

import numpy as np

from pleach.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, split into a training and a test set.

    Args:
        name: as given to `load`.
        train_images, test_images: uint8 or, in a user's own file, float32, ``(images, pixels)``,
            row-major pixels.
        train_labels, test_labels: int64, ``(images,)``.
        shape: of an image.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    shape: tuple[int, ...]


def load(name: str) -> Dataset:
    """The data set called `name`: ``"mnist"``, ``"digits"``, which needs no network, or a file.

    A file ends in ``.npz`` and holds ``train_images``, ``train_labels``, ``test_images`` and
    ``test_labels``; images uint8 or floats, ``(images, …)``, labels integers from 0.

    Raises:
        DataError: no such data set, or its files are missing or damaged.

    >>> digits = load("digits")
    >>> digits.train_images.shape, digits.test_images.shape, digits.train_images.dtype
    ((1437, 64), (360, 64), dtype('uint8'))
    """
    if name == "mnist":
        from pleach.data.mnist import mnist

        images, labels, test_images, test_labels = mnist()
        return Dataset(name, images, labels, test_images, test_labels, (28, 28))
    if name == "digits":
        return _digits()
    if name.endswith(".npz"):
        return _from_file(name)
    raise DataError(f"no data set is called {name!r}; there are mnist, digits and .npz files")


def _digits() -> Dataset:
    """scikit-learn's 8×8 digits; 0 … 16 become 0 … 255, and the split is always the same."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.minimum(bunch.data * 16, 255).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1437], order[1437:]
    return Dataset("digits", images[train], labels[train], images[test], labels[test], (8, 8))


def _from_file(name: str) -> Dataset:
    """A user's own arrays; nothing in the file can run code."""
    parts = ("train_images", "train_labels", "test_images", "test_labels")
    try:
        with np.load(name, allow_pickle=False) as file:
            missing = [part for part in parts if part not in file]
            if missing:
                raise DataError(f"{name} has no {', '.join(missing)}")
            arrays = {part: file[part] for part in parts}
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or 'damaged'}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{name} is damaged or no .npz file of plain arrays") from error
    shapes = set()
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if np.issubdtype(images.dtype, np.floating):
            images = images.astype(np.float32)
            if not np.isfinite(images).all():
                raise DataError(f"{name}: {split}_images holds values that are not finite")
        elif images.dtype != np.uint8:
            raise DataError(f"{name}: {split}_images is {images.dtype}, must be uint8 or float")
        if images.ndim < 2 or not images.size:
            raise DataError(f"{name}: {split}_images has the shape {images.shape}")
        if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{name}: {split}_labels is {labels.dtype} of shape {labels.shape}, "
                f"must be {len(images)} integers"
            )
        if labels.min() < 0 or labels.max() > 65534:
            raise DataError(f"{name}: {split}_labels must be 0 to 65534")
        shapes.add((images.dtype, images.shape[1:]))
        arrays[f"{split}_images"] = images.reshape(len(images), -1)
        arrays[f"{split}_labels"] = labels.astype(np.int64)
    if len(shapes) > 1:
        raise DataError(f"{name}: training and test images differ in type or shape")
    return Dataset(name=name, shape=next(iter(shapes))[1], **arrays)
