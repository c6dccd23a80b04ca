"""The files of docs/how-to/operator.md do what the page says."""

import importlib
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/how-to/operator.md"


def test_the_pages_files_run(tmp_path, monkeypatch):
    files = re.findall(r"```python\n(# (\w+)\.py\n.*?)```", PAGE.read_text("utf-8"), re.S)
    monkeypatch.syspath_prepend(tmp_path)
    for text, module in files:
        (tmp_path / f"{module}.py").write_text(text, "utf-8")
    try:
        for _, module in files:
            found = vars(importlib.import_module(module)).items()
            tests = [test for name, test in found if name.startswith("test_")]
            assert len(tests) == (3 if module.startswith("test_") else 0)
            for test in tests:
                test()
    finally:
        for _, module in files:
            sys.modules.pop(module, None)
    assert [module for _, module in files] == ["shuffle", "test_shuffle"]
