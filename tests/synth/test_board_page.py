"""The files and the program of docs/how-to/board.md do what the page says."""

import re
import sys
from pathlib import Path

import pytest

from pleach_hw.boards import board

PAGE = Path(__file__).parents[2] / "docs/how-to/board.md"


@pytest.mark.timeout(600)
def test_a_board_of_ones_own_from_start_to_end(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```(\w*)\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for _, text in blocks:
        if file := re.match(r"# (\w+\.(py|pcf))\b", text):
            Path(file[1]).write_text(text, "utf-8")
    (program,) = (text for kind, text in blocks if kind == "python" and text[0] != "#")
    try:
        exec(compile(program, PAGE.name, "exec"), {})
    finally:
        sys.modules.pop("echo", None)
    assert re.fullmatch(r"\d+ LUT4 of 5280, 12 block RAMs of 30\n", capsys.readouterr().out)
    # It has the iCEBreaker's chip, so its engine is the very same.
    assert board("icesugar.py").engine == board("icebreaker").engine
