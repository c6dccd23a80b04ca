"""Puts the table of what is proved into docs/how-to/prove.md: ``python -m tests.formal``."""

from tests.formal.page import PAGE, written

PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
