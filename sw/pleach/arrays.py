"""Arrays of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_array(values: Any) -> np.ndarray:
    """What `numpy.asarray` takes, or a torch tensor of any device and layout, with or without a
    gradient. Floats of less than 32 bits become float32: numpy does not have them all.

    >>> as_array([1, 2]).tolist()
    [1, 2]
    """
    if not hasattr(values, "detach"):
        return np.asarray(values)
    values = values.detach().cpu()
    if str(values.layout) != "torch.strided":
        values = values.to_dense()
    if values.is_floating_point() and values.element_size() < 4:
        values = values.float()
    return values.numpy()
