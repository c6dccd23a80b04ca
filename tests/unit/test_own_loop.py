"""docs/own_loop.md does what it says."""

import re
from pathlib import Path

from pleach.compression.train import pinned_threads

PAGE = Path(__file__).parents[2] / "docs/own_loop.md"


def test_the_pages_program_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(blocks) > 6
    names = {}
    with pinned_threads():
        for block in blocks:
            exec(compile(block, PAGE.name, "exec"), names)
    assert (tmp_path / "digits.pleach").stat().st_size < 2500
