"""Compiled functions with a cache that can be written, and without."""

import importlib
import re
import sys
from pathlib import Path

import numba.core.caching
import pytest

import pleach
from pleach.compiled import njit, sources


def thrice(x):
    return 3 * x


def test_what_is_compiled_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))
    assert njit()(thrice)(5) == 15
    again = njit()(thrice)
    assert again(5) == 15 and sum(again.stats.cache_hits.values()) == 1


def test_without_any_cache(monkeypatch):
    """numba refuses where it finds no folder that can be written."""
    impl = numba.core.caching.CompileResultCacheImpl
    monkeypatch.setattr(impl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(thrice)
    assert njit()(thrice)(5) == 15


def test_with_a_cache_that_is_damaged_or_full(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))
    njit()(thrice)(5)
    index = next(tmp_path.rglob("*.nbi"))
    index.write_bytes(b"rubbish")
    assert njit()(thrice)(5) == 15
    index.unlink()
    index.mkdir()
    assert njit()(thrice)(5) == 15


def test_what_is_inlined_from_a_module_beside_it_is_not_kept_when_that_changes(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_one.py").write_text(
        "import inner_one\n"
        "from pleach.compiled import njit\n"
        "@njit()\n"
        "def outer(x):\n"
        "    return inner_one.inner(x)\n"
    )
    for times, hits in ((2, 0), (2, 1), (3, 0)):
        (tmp_path / "inner_one.py").write_text(
            "from pleach.compiled import njit\n"
            "@njit(inline='always')\n"
            "def inner(x):\n"
            f"    return {times} * x\n"
        )
        sources.cache_clear()
        for name in ("outer_one", "inner_one"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        outer = importlib.import_module("outer_one").outer
        assert outer(5) == 5 * times
        assert sum(outer.stats.cache_hits.values()) == hits


def test_one_module_decides_about_the_cache():
    for path in Path(pleach.__file__).parent.rglob("*.py"):
        if path.name != "compiled.py":
            assert not re.search(r"\bnumba\b(?!')", path.read_text().split('"""', 2)[-1]), path
