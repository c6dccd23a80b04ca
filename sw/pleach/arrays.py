"""What comes from outside: arrays of other libraries, and text that is not ours."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_array(values: Any) -> np.ndarray:
    """What `numpy.asarray` takes, or a torch tensor of any device, with or without a gradient.

    Kinds of float that numpy does not have become float32.

    >>> as_array([1, 2]).tolist()
    [1, 2]
    """
    if not hasattr(values, "detach"):
        return np.asarray(values)
    values = values.detach().cpu()
    try:
        return values.numpy()
    except TypeError:
        return values.float().numpy()


def printable(text: str) -> str:
    """Text of a file or a person on one line: what a terminal would obey, or no encoding can
    write, is spelled out.

    >>> print(printable("größe"), printable("a\\x1b[2Jb\\n"), printable("\\ud800"))
    größe a\\x1b[2Jb\\n \\ud800
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
