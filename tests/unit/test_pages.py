"""The pages name nothing that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/golden/*.md")])
#: where a path in a page may begin, beside the page's own folder for a link
ROOTS = [ROOT, *(ROOT / folder for folder in ("sw", "hw", "sim"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_are_there(page):
    text = page.read_text("utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    paths = re.findall(r"`((?:docs|bench|tests|constraints|pleach(?:_\w+)?)/[\w./]+)`", text)
    missing += [path for path in paths if not any((root / path).exists() for root in ROOTS)]
    assert not missing
