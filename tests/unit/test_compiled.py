"""Compiled functions with a cache that can be written, and without."""

import re
from pathlib import Path

import numba.core.caching
import pytest

import pleach
from pleach.compiled import njit


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


def test_one_module_decides_about_the_cache():
    for path in Path(pleach.__file__).parent.rglob("*.py"):
        if path.name != "compiled.py":
            assert not re.search(r"\bnumba\b(?!')", path.read_text().split('"""', 2)[-1]), path
