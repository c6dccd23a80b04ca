"""Data sets as numpy arrays; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pleach.arrays import as_array
from pleach.errors import DataError
from pleach.extras import need

LARGEST_LABEL = 65534
#: `Dataset.seen` of what a bitstream takes
AS_STORED = "as stored (the file scales them)"
#: what `load` takes besides files
NAMES = ("mnist", "fashion-mnist", "digits")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Inputs and what they are, split into a training and a test set.

    Args:
        name: as given to `load`.
        train_images, test_images: uint8, seen as value / 256, or float32, seen as they are; images
            or tables of features, ``(n, features)``, pixels row-major.
        train_labels, test_labels: classes, int64 from 0, ``(n,)``, of one output ``(n, 1)`` too; or
            targets of a regression, float32, ``(n,)`` or ``(n, targets)``; or None where the file
            has none.
        shape: of an input.
        split: where it comes from and how it is split, in words.
        seen: how a network sees a stored value, where that is told (`pleach.models.fold_inputs`).
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray | None
    shape: tuple[int, ...]
    split: str = "split as in the file"
    seen: str = ""

    def __repr__(self) -> str:
        return f"Dataset({self.describe()})"

    @property
    def classes(self) -> int | None:
        """How many there are: the highest label and one; None without labels that are classes."""
        present = [x for x in (self.train_labels, self.test_labels) if x is not None]
        if not present or present[0].dtype != np.int64:
            return None
        return int(max(labels.max() for labels in present)) + 1

    @property
    def targets(self) -> int | None:
        """Values of a regression for each input; None without."""
        present = [x for x in (self.train_labels, self.test_labels) if x is not None]
        if not present or present[0].dtype == np.int64:
            return None
        return present[0][0].size

    @property
    def scaling(self) -> str:
        """How a network sees a stored value."""
        if self.seen:
            return self.seen
        return "value / 256" if self.train_images.dtype == np.uint8 else "as it is"

    @property
    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of the training set.

        Raises:
            DataError: it has no labels.
        """
        return self.train_images, self._there(self.train_labels, "train_labels")

    @property
    def tests(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of the test set.

        Raises:
            DataError: it has no labels.
        """
        return self.test_images, self._there(self.test_labels, "test_labels")

    def few(self, count: int) -> np.ndarray:
        """Numbers of so many test inputs, to run: the first, or, of a set whose labels are in order
        (a folder's classes), ones that are evenly spaced, or all where there are not so many.

        >>> digits = load("digits")
        >>> replace(digits, test_labels=np.sort(digits.test_labels)).few(3).tolist()
        [0, 120, 240]
        >>> digits.few(3).tolist()
        [0, 1, 2]
        """
        there, labels = len(self.test_images), self.test_labels
        numbers = np.arange(min(count, there))
        ordered = (
            labels is not None
            and labels.size == there
            and bool((np.diff(labels.ravel()) >= 0).all())
        )
        return numbers * there // len(numbers) if ordered else numbers

    def held_out(self, count: int) -> tuple[Dataset, tuple[np.ndarray, np.ndarray]]:
        """Without `count` of its training inputs, and those with their labels: always the same.

        Raises:
            DataError: there are not so many and one more, or no labels.
        """
        inputs, labels = self.training
        if not 0 < count < len(inputs):
            raise DataError(
                f"{count:,} of the {len(inputs):,} training inputs of {self.name} cannot be held "
                "out: some have to stay"
            )
        order = np.random.default_rng(0).permutation(len(inputs))
        held, left = order[:count], np.sort(order[count:])
        split = f"{self.split}; {count:,} training inputs held out"
        rest = replace(self, train_images=inputs[left], train_labels=labels[left], split=split)
        return rest, (inputs[held], labels[held])

    def _there(self, labels: np.ndarray | None, name: str) -> np.ndarray:
        if labels is None:
            raise DataError(f"{self.name} has no {name}")
        return labels

    def describe(self) -> str:
        """The data set in one line.

        >>> print(load("digits").describe())
        digits: 1,437 training and 360 test inputs of 8×8, uint8, seen as value / 256, 10 classes;
        scikit-learn's 8×8 digits times 16, shuffled once, the first 1,437 to train on
        """
        if self.classes is not None:
            what = f"{self.classes} classes"
        elif self.targets is not None:
            what = f"{self.targets} target{'s'[: self.targets != 1]} each"
        else:
            what = "no labels"
        seen = self.scaling
        if seen != AS_STORED:
            seen = f"seen {'' if seen == 'as it is' else 'as '}{seen}"
        return (
            f"{self.name}: {len(self.train_images):,} training and {len(self.test_images):,} test "
            f"inputs of {'×'.join(map(str, self.shape))}, {self.train_images.dtype}, {seen}, "
            f"{what}; {self.split}"
        )

    def as_json(self) -> dict[str, Any]:
        """What `describe` says, for a program."""
        return {
            "name": self.name,
            "split": self.split,
            "train": len(self.train_images),
            "test": len(self.test_images),
            "shape": list(self.shape),
            "type": str(self.train_images.dtype),
            "scaling": self.scaling,
            "classes": self.classes,
            "targets": self.targets,
        }


def load(name: str, *, labels: bool = True) -> Dataset:
    """The data set called `name`: ``"mnist"``, ``"fashion-mnist"``, ``"digits"``, which needs no
    network, a file, or a folder of images.

    A folder has one for each class in it (`pleach.data.folder.read`). A table ends in ``.csv``
    (`pleach.data.table.read`). Any other file ends in ``.npz`` and holds ``train_inputs``,
    ``train_labels``, ``test_inputs`` and ``test_labels``, ``…_images`` for ``…_inputs`` if you
    like: inputs uint8 or floats, ``(n, …)``; labels are classes, integers from 0, ``(n,)``, or
    targets of a regression, floats, ``(n,)`` or ``(n, targets)``.

    Args:
        labels: whether a file must have them; without, those that are missing are None.

    Raises:
        DataError: no such data set, or its files are missing or damaged.

    >>> digits = load("digits")
    >>> digits.train_images.shape, digits.test_images.shape, digits.train_images.dtype
    ((1437, 64), (360, 64), dtype('uint8'))
    """
    name = str(name)
    if name in ("mnist", "fashion-mnist"):
        need("platformdirs", "rich")
        from pleach.data.fashion_mnist import FASHION_MNIST
        from pleach.data.mnist import MNIST

        found = next(each for each in (MNIST, FASHION_MNIST) if each.name == name)
        split = f"{found.title}, its own training and test images"
        return Dataset(name, *found.read(), (28, 28), split)
    if name == "digits":
        return _digits()
    if name.endswith(".npz"):
        return _from_file(name, labels)
    if name.endswith(".csv"):
        from pleach.data import table

        (*arrays, shape, split), labelled = table.read(Path(name), labels)
        train, train_labels, test, test_labels = arrays
        own = (train_labels, test_labels) if labelled else (None, None)
        return Dataset(name, train, own[0], test, own[1], shape, split)
    if Path(name).is_dir():
        from pleach.data import folder

        return Dataset(name, *folder.read(Path(name)))
    raise DataError(
        f"no data set is called {name!r}; there are {', '.join(NAMES)}, .npz and .csv files, and "
        "folders of images"
    )


def arrays(source: Any, name: str = "the data") -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs and labels of a torch Dataset or DataLoader, of whatever gives pairs of the two in its
    place, or inputs alone.

    Args:
        source: it is walked once, as its transforms have it. What gives batches is a DataLoader,
            or has another attribute `batch_size` that is no None.
        name: for errors.

    Returns:
        Inputs ``(n, …)`` and labels, as a file's would be (`load`), or None.

    Raises:
        DataError: nothing in it, items of several shapes, or what is no array; names the item.

    >>> arrays([(np.zeros((1, 2, 2), np.float32), 1), (np.ones((1, 2, 2), np.float32), 0)])[1]
    array([1, 0])
    """
    batches = getattr(source, "batch_size", None) is not None
    walk = source if hasattr(source, "__iter__") else (source[n] for n in range(len(source)))
    inputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for number, item in enumerate(walk):
        pair = item if isinstance(item, tuple | list) else (item,)
        if len(pair) not in (1, 2):
            raise DataError(f"{name}, item {number} has {len(pair)} parts, must be input and label")
        found = [as_array(part) for part in pair]
        # An image has its channels last, which no network of torch's takes.
        images = any(type(part).__module__.startswith("PIL.") for part in pair)
        if images or any(part.dtype.kind in "USO" for part in found):
            kinds = " and ".join(type(part).__name__ for part in pair)
            raise DataError(f"{name}, item {number} is {kinds}: give it a transform to tensors")
        found = found if batches else [part[None] for part in found]
        if inputs and (found[0].shape[1:], len(found)) != (inputs[0].shape[1:], 1 + bool(labels)):
            raise DataError(
                f"{name}, item {number} has inputs of the shape {found[0].shape[1:]}, those before "
                f"{inputs[0].shape[1:]}: give all one size"
            )
        inputs.append(found[0])
        labels += found[1:]
    if not inputs:
        raise DataError(f"{name} has nothing in it")
    values = _inputs(f"{name}: inputs", np.concatenate(inputs))
    if not labels:
        return values, None
    return values, _labels(f"{name}: labels", np.concatenate(labels), len(values))


def of(train: Any, test: Any, name: str = "own") -> Dataset:
    """A data set of two torch Datasets or DataLoaders, as `arrays` takes them.

    Raises:
        DataError: as `arrays`, or the two do not match.
    """
    (images, labels), (tests, wanted) = arrays(train, "train"), arrays(test, "test")
    given = {"train_images": images, "test_images": tests}
    given |= {} if labels is None else {"train_labels": labels}
    given |= {} if wanted is None else {"test_labels": wanted}
    return _matched(name, given)


def _digits() -> Dataset:
    """scikit-learn's 8×8 digits; 0 … 16 become 0 … 255, and the split is always the same."""
    need("sklearn")
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()  # its arrays are attributes at run time
    images = np.minimum(bunch.data * 16, 255).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1437], order[1437:]
    split = "scikit-learn's 8×8 digits times 16, shuffled once, the first 1,437 to train on"
    return Dataset(
        "digits", images[train], labels[train], images[test], labels[test], (8, 8), split
    )


def _from_file(name: str, wanted: bool) -> Dataset:
    """A user's own arrays; nothing in the file can run code."""
    images, labels = ("train_images", "test_images"), ("train_labels", "test_labels")
    try:
        with np.load(name, allow_pickle=False) as file:
            if not {"train_images", "test_images"} & {*file}:
                images = ("train_inputs", "test_inputs")
            missing = [part for part in images + labels * wanted if part not in file]
            if missing:
                raise DataError(
                    f"{name} has no {', '.join(missing)}; it holds {', '.join(file) or 'nothing'}"
                )
            arrays = {
                part: _array(f"{name}: {part}", file, part)
                for part in images + labels
                if part in file
            }
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or 'damaged'}") from error
    except DataError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise DataError(f"{name} is damaged or no .npz file of plain arrays") from error
    for part in images:
        arrays[part] = _inputs(f"{name}: {part}", arrays[part])
    for part, inputs in zip(labels, images, strict=True):
        if part in arrays:
            arrays[part] = _labels(f"{name}: {part}", arrays[part], len(arrays[inputs]))
    return _matched(name, {part.replace("inputs", "images"): arrays[part] for part in arrays})


def _matched(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """A data set of arrays that were checked one by one."""
    images, labels = ("train_images", "test_images"), ("train_labels", "test_labels")
    for what, parts in (("images", images), ("labels", labels)):
        pair = [arrays[part] for part in parts if part in arrays]
        if len({(each.dtype, each.shape[1:]) for each in pair}) > 1:
            found = " and ".join(f"{each.dtype} of shape {each.shape}" for each in pair)
            raise DataError(f"{name}: training and test {what} differ in type or shape: {found}")
    shape = arrays["train_images"].shape[1:]
    train, test = (arrays[part].reshape(len(arrays[part]), -1) for part in images)
    return Dataset(name, train, arrays.get(labels[0]), test, arrays.get(labels[1]), shape)


def _array(where: str, file: Mapping[str, np.ndarray], part: str) -> np.ndarray:
    try:
        return file[part]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        kinds = "'int64' or 'float32'" if "labels" in part else "'uint8' or 'float32'"
        raise DataError(
            f"{where} is an array of Python objects, which are never read: .astype({kinds})"
        ) from error


def _inputs(where: str, inputs: np.ndarray) -> np.ndarray:
    if inputs.ndim < 2 or not inputs.size:
        raise DataError(f"{where} has the shape {inputs.shape}, must be (inputs, …)")
    if inputs.dtype == np.uint8:
        return inputs
    if not np.issubdtype(inputs.dtype, np.floating):
        raise DataError(
            f"{where} is {inputs.dtype}, must be uint8 or float: "
            ".astype('uint8') or .astype('float32')"
        )
    return _floats(where, inputs)


def _labels(where: str, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.dtype == bool:
        labels = labels.astype(np.int64)
    real = np.issubdtype(labels.dtype, np.floating)
    if not real and not np.issubdtype(labels.dtype, np.integer):
        names = ": np.unique(labels, return_inverse=True)[1] numbers names"
        raise DataError(
            f"{where} is {labels.dtype}, must be integers, or floats for a regression"
            f"{names if labels.dtype.kind in 'US' else ''}"
        )
    if labels.shape != (count,) and not (
        labels.shape[:1] == (count,) and labels.ndim == 2 and (real or labels.shape[1] == 1)
    ):
        raise DataError(
            f"{where} is {labels.dtype} of shape {labels.shape}, must be {count} integers, "
            f"({count},), or the floats of a regression, ({count},) or ({count}, targets)"
            f"{': .argmax(1) makes classes of it' if one_hot(labels) else ''}"
        )
    if real:
        if not labels.size:
            raise DataError(f"{where} has the shape {labels.shape}")
        return _floats(where, labels)
    if labels.min() < 0 or labels.max() > LARGEST_LABEL:
        raise DataError(f"{where} must be 0 to {LARGEST_LABEL}")
    return labels.astype(np.int64)


def one_hot(labels: np.ndarray) -> bool:
    """Whether each row has a single 1 among zeros."""
    return labels.ndim == 2 and bool(
        ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()
    )


def _floats(where: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not (finite := np.isfinite(values)).all():
        place = tuple(int(x) for x in np.argwhere(~finite)[0])
        raise DataError(f"{where} holds values that are not finite in float32, first at {place}")
    return values
