"""Data sets as numpy arrays; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, split into a training and a test set.

    Args:
        name: as given to `load`.
        train_images, test_images: uint8, ``(images, pixels)``, row-major pixels.
        train_labels, test_labels: int64, ``(images,)``.
        shape: height and width of an image.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    shape: tuple[int, int]


def load(name: str) -> Dataset:
    """The data set called `name`: ``"mnist"``, or ``"digits"``, which needs no network.

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
    raise DataError(f"no data set is called {name!r}; there are mnist and digits")


def _digits() -> Dataset:
    """scikit-learn's 8×8 digits; 0 … 16 become 0 … 255, and the split is always the same."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.minimum(bunch.data * 16, 255).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1437], order[1437:]
    return Dataset("digits", images[train], labels[train], images[test], labels[test], (8, 8))
