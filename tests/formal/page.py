"""The page on proofs, and the table in it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from tests.formal.harness import table

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/how-to/prove.md"


def written(text: str) -> str:
    """The page with the table as the proofs are now."""
    for file in sorted(HERE.glob("test_*.py")):
        importlib.import_module(f"tests.formal.{file.stem}")
    marks = r"(?s)(<!-- proofs -->\n).*(<!-- end -->)"
    return re.sub(marks, lambda found: f"{found[1]}{table()}\n{found[2]}", text)
