"""Data as people have it: folders of images, tables, and what torch loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from pleach import data
from pleach.data.split import two
from pleach.errors import DataError

RNG = np.random.default_rng(4)


def picture(path: Path, shape=(3, 4), mode="L", **given):
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = (*shape, {"L": 1, "RGB": 3, "RGBA": 4}[mode])
    pixels = RNG.integers(0, 256, sides, np.uint8)
    Image.fromarray(pixels.squeeze(2) if mode == "L" else pixels, mode=None).save(path, **given)
    return pixels


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_folder_of_images(tmp_path, mode):
    """Each pixel in its place, classes in the order of their names, a split that is always the
    same."""
    made = {}
    for name in ("dog", "cat"):
        for number in range(5):
            made[name, number] = picture(tmp_path / name / f"{number}.png", mode=mode)
    (tmp_path / "cat" / ".DS_Store").write_text("")
    found = data.load(str(tmp_path))
    assert found.shape == ((3, 4) if mode == "L" else (3, 3, 4))
    assert "classes 0 cat, 1 dog" in found.split and "last fifth to test" in found.describe()
    each = [made[name, number] for name in ("cat", "dog") for number in range(5)]
    order = np.concatenate(two(10, ""))
    images = np.concatenate([found.train_images, found.test_images])
    labels = np.concatenate([found.train_labels, found.test_labels])
    assert len(found.test_images) == 2
    for row, label, number in zip(images, labels, order, strict=True):
        assert np.array_equal(row, np.moveaxis(each[number], 2, 0).ravel())
        assert label == number // 5
    again = data.load(tmp_path)
    assert np.array_equal(again.test_images, found.test_images)


def test_a_folder_that_is_split_already(tmp_path):
    for part, count in (("train", 3), ("test", 1)):
        for name in ("a", "b"):
            for number in range(count):
                picture(tmp_path / part / name / f"{number}.png")
    found = data.load(str(tmp_path))
    assert found.split == "folders train and test; classes 0 a, 1 b"
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and len(found.test_images) == 2
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(DataError, match="train and test have not the same classes: c"):
        data.load(str(tmp_path))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("size", r"a/1\.png is 5×3 grey, .*a/0\.png is 4×3 grey: give all images one size"),
        ("colour", r"a/1\.png is 4×3 RGB, .*a/0\.png is 4×3 grey"),
        ("alpha", r"a/1\.png has the mode RGBA: save it as 8 bits"),
        ("damaged", r"a/1\.png cannot be read as an image"),
        ("text", r"a/notes\.txt is no image \(\.png"),
        ("empty", r"b has no images"),
        ("flat", r"has no folder for each class"),
        ("half", r"has a folder train, but none called test"),
        ("Parts", r"has folders Test and Train: call them train and test"),
    ],
)
def test_what_is_wrong_with_a_folder(tmp_path, what, words):
    picture(tmp_path / "a" / "0.png")
    bad = tmp_path / "a" / "1.png"
    match what:
        case "size":
            picture(bad, (3, 5))
        case "colour":
            picture(bad, mode="RGB")
        case "alpha":
            picture(bad, mode="RGBA")
        case "damaged":
            bad.write_bytes((tmp_path / "a" / "0.png").read_bytes()[:40])
        case "text":
            (tmp_path / "a" / "notes.txt").write_text("")
        case "empty":
            (tmp_path / "b").mkdir()
        case "half":
            (tmp_path / "train").mkdir()
        case "Parts":
            picture(tmp_path / "Parts" / "Train" / "a" / "0.png")
            picture(tmp_path / "Parts" / "Test" / "a" / "0.png")
    folder = {"flat": tmp_path / "a", "Parts": tmp_path / "Parts"}.get(what, tmp_path)
    with pytest.raises(DataError, match=words):
        data.load(str(folder), labels=True)


def table(folder: Path, text: str) -> str:
    path = folder / "mine.csv"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_table(tmp_path):
    """Classes by name or number, targets, and a split of one's own."""
    rows = "".join(f"{n},{n / 2},{'cat' if n % 3 else 'ant'}\n" for n in range(10))
    found = data.load(table(tmp_path, f"a,b,Label\n{rows}"))
    assert found.shape == (2,) and found.train_images.dtype == np.float32
    assert "classes 0 ant, 1 cat" in found.split and found.classes == 2
    for inputs, labels in (found.training, found.tests):
        assert np.array_equal(labels, inputs[:, 0] % 3 > 0)
        assert np.array_equal(inputs[:, 1], inputs[:, 0] / 2)
    found = data.load(table(tmp_path, '"x, y",split,label\n1,train,0\n2, test,1\n3,train,1\n'))
    assert found.train_images.ravel().tolist() == [1, 3] and found.test_labels.tolist() == [1]
    found = data.load(table(tmp_path, "target_a,x,target_b\n1,2,3\n4,5,6\n7,8,9\n"))
    assert found.targets == 2 and found.shape == (1,)
    found = data.load(table(tmp_path, "x,y\n1,2\n4,5\n7,8\n"), labels=False)
    assert found.train_labels is None and found.shape == (2,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "has no column called label, for classes, or target…, .* it has a, b"),
        ("a,label\n1,0\nx,1\n", "line 3, column a: 'x' is no number"),
        ("a,label\n1,0\nnan,1\n", "line 3, column a: not a finite number"),
        ("a,label\n1,0\n2\n", "line 3: 1 values, the first line names 2 columns"),
        ("a,label\n1,0.5\n2,1\n", "numbers that are no classes from 0: .* call it target"),
        ("a,label\n1,-1\n2,1\n", "numbers that are no classes from 0"),
        ("a,label\n1,\n2,1\n", "line 2, column label: it is empty"),
        ("1,2\n3,4\n", "the first line must name the columns"),
        ("a,a,label\n3,4,5\n", "each by a name of its own"),
        ("label\n1\n", "what are the inputs"),
        ("label,target\n1,2\n", "give one of the two"),
        ("a,split,label\n1,train,0\n2,val,1\n", "column split must say train or test"),
        ("a,label\n1,1\n", "too few to train on some"),
        ("a,label\n", "has no rows"),
        ('a,label\n"1,2\n', "is no CSV file"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        data.load(table(tmp_path, text))


def test_what_torch_loads():
    images, labels = torch.rand(7, 1, 2, 3), torch.arange(7) % 3
    both = TensorDataset(images, labels)
    for source in (both, DataLoader(both, batch_size=3), [(images[n], n % 3) for n in range(7)]):
        inputs, classes = data.arrays(source)
        assert np.array_equal(inputs, images.numpy()) and classes.dtype == np.int64
        assert np.array_equal(classes, labels.numpy())
    assert data.arrays(DataLoader(TensorDataset(images), batch_size=4))[1] is None
    found = data.of(DataLoader(both, batch_size=7), both, "mine")
    assert found.shape == (1, 2, 3) and found.classes == 3 and found.train_images.shape == (7, 6)
    with pytest.raises(DataError, match=r"test, item 1 has inputs of the shape \(2, 2\), those"):
        data.of(both, [(np.zeros((1, 2)), 0), (np.zeros((2, 2)), 0)])
    with pytest.raises(DataError, match="item 0 is Image and int: give it a transform to tensors"):
        data.arrays([(Image.new("RGB", (2, 2)), 0)])
    with pytest.raises(DataError, match="has nothing in it"):
        data.arrays([])
    with pytest.raises(DataError, match="training and test images differ in type or shape"):
        data.of(both, [(np.zeros((1, 2), np.float32), 0)])
