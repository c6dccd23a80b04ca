"""The family of chips that a component is elaborated for."""

from __future__ import annotations


def family_of(platform) -> str | None:
    """As `pleach_hw.boards.Board` has it, of a board and of its platform alike.

    Amaranth's platforms for Gowin call a series of chips a family.

    >>> from pleach_hw.boards import board
    >>> family_of(board("tang-nano-9k")), family_of(board("tang-nano-9k").pins()), family_of(None)
    ('gowin', 'gowin', None)
    """
    family = getattr(platform, "family", None)
    return "gowin" if family and family.startswith("GW") else family
