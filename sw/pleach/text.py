"""Text of files and people."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text of a file or a person on one line: what a terminal would obey, or no encoding can
    write, is spelled out.

    >>> print(printable("größe"), printable("a\x1b[2Jb\n"), printable("\ud800"))
    größe a\x1b[2Jb\n \ud800
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def encodable(text: str) -> bool:
    """Whether UTF-8 can write it: it holds no half of a surrogate pair alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
