"""Text of files and people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


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


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small table for a notebook; whatever is in it is text.

    >>> html_table("of <b>", ["a"], [[1]])
    '<p>of &lt;b&gt;</p><table><tr><th>a</th></tr><tr><td>1</td></tr></table>'
    """

    def line(kind: str, cells: Sequence[object]) -> str:
        shown = (f"<{kind}>{escape(printable(str(cell)))}</{kind}>" for cell in cells)
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<p>{escape(printable(title))}</p><table>{line('th', columns)}{body}</table>"
