"""The files and programs of docs/how-to do what the pages say."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from pleach.compression.criteria import CRITERIA
from pleach.compression.quantisers import QUANTISERS
from pleach.compression.train import pinned_threads

PAGES = Path(__file__).parents[2] / "docs/how-to"


@pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")
@pytest.mark.parametrize(
    ("page", "family", "kinds"),
    [
        ("criterion", CRITERIA, ["lamp", "snip", "spread"]),
        ("quantiser", QUANTISERS, ["uniform", "halves"]),
    ],
)
def test_the_pages_files_and_programs_run(page, family, kinds, tmp_path, monkeypatch):
    text = (PAGES / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    before, modules = set(family.names()), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks:
        if file := re.match(r"# (\w+)\.py\n", block):
            (tmp_path / f"{file[1]}.py").write_text(block, "utf-8")
            modules.append(file[1])
    names, ran = {}, 0
    try:
        with pinned_threads():
            for module in (name for name in modules if name.startswith("test_")):
                found = importlib.import_module(module)
                for test in (f for name, f in vars(found).items() if name.startswith("test_")):
                    test()
                    ran += 1
            for block in blocks:
                if not re.match(r"# \w+\.py\n", block):
                    exec(compile(block, f"{page}.md", "exec"), names)
        assert set(family.names()) - before == set(kinds) and ran >= 2
    finally:
        for kind in set(family.names()) - before:
            del family._found[kind]
        for module in modules:
            sys.modules.pop(module, None)
