"""The page on proofs names every proof."""

from tests.formal.page import PAGE, written


def test_the_page_has_the_proofs():
    text = PAGE.read_text("utf-8")
    assert written(text) == text, "python -m tests.formal"
    assert text.count("\n| `") > 10
