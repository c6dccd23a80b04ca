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


def test_the_site_has_every_page():
    """`make docs` builds docs/index.md and what its tables of contents, or theirs, name."""
    docs, wanted, seen = ROOT / "docs", ["index"], set()
    while wanted:
        name = wanted.pop()
        seen.add(name)
        for table in re.findall(r"```{toctree}\n(.*?)```", (docs / f"{name}.md").read_text(), re.S):
            lines = [line for line in table.splitlines() if line and not line.startswith(":")]
            wanted += [str(Path(name).parent / line) for line in lines]
    pages = {str(page.relative_to(docs).with_suffix("")) for page in docs.glob("**/*.md")}
    left_out = {name for name in pages if name == "status" or name.startswith("riscv/")}
    assert seen == pages - left_out
