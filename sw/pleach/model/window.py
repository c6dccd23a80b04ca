"""Windows over a map: kernels of a convolution and of a pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from pleach.errors import ModelError
from pleach.model.checks import check_integers
from pleach.numbers import SIDE_MAX, SIZE_MAX

#: of one input's values: ``(features,)`` or ``(channels, height, width)``
Shape: TypeAlias = tuple[int, ...]


def several(owner: Any, where: str, name: str, count: int, least: int) -> None:
    """A field of a frozen dataclass that is so many whole numbers, or one for all of them.

    Raises:
        ModelError: it is not, or one is out of range.
    """
    value = getattr(owner, name)
    values = tuple(value) if hasattr(value, "__len__") else (value,) * count
    if len(values) != count or not all(
        isinstance(each, int) and least <= each <= SIDE_MAX for each in values
    ):
        raise ModelError(
            f"{where}: {name} is {value!r}, must be {count} whole numbers, {least} to {SIDE_MAX}"
        )
    object.__setattr__(owner, name, values)


def check_window(owner: Any, where: str) -> None:
    """The fields of a window over a map, as `Window` has them.

    Raises:
        ModelError: one is out of range.
    """
    sizes = dict.fromkeys(("channels", "height", "width"), (1, SIZE_MAX))
    sizes |= dict.fromkeys(("kernel_height", "kernel_width"), (1, SIDE_MAX))
    check_integers(owner, where, **sizes)
    several(owner, where, "stride", 2, 1)
    several(owner, where, "padding", 4, 0)


def reached(window: Any) -> tuple[int, int]:
    """Height and width of the map of a window's places."""
    top, left, bottom, right = window.padding
    return (
        (window.height + top + bottom - window.kernel_height) // window.stride[0] + 1,
        (window.width + left + right - window.kernel_width) // window.stride[1] + 1,
    )


@dataclass(frozen=True)
class Window:
    """The windows of a pooling over a map; sizes round down, as torch's do.

    Args:
        channels, height, width: of the input map, 1 to 65535 each.
        kernel_height, kernel_width: of a window, 1 to 255.
        stride: (height, width), 1 to 255; a number is both. By default windows lie side by side.
        padding: (top, left, bottom, right), each less than the kernel; a number is all four.

    Raises:
        ModelError: a value out of range, or a map smaller than a window.

    >>> Window(channels=2, height=5, width=5, kernel_height=2, kernel_width=2).map
    (2, 2)
    """

    channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = (0, 0, 0, 0)

    def __post_init__(self):
        if self.stride == ():
            object.__setattr__(self, "stride", (self.kernel_height, self.kernel_width))
        check_window(self, "pooling")
        top, left, bottom, right = self.padding
        if max(top, bottom) >= self.kernel_height or max(left, right) >= self.kernel_width:
            raise ModelError(f"pooling: padding {self.padding} is not less than its window")
        if min(self.map) < 1:
            raise ModelError(
                f"pooling: a map of {self.height} × {self.width} is smaller than its window"
            )

    @property
    def size(self) -> int:
        """Values of a window."""
        return self.kernel_height * self.kernel_width

    @property
    def shape(self) -> Shape:
        """Of the input map, ``(channels, height, width)``."""
        return (self.channels, self.height, self.width)

    @property
    def map(self) -> tuple[int, int]:
        """Height and width of the output map."""
        return reached(self)

    def out_shape(self, *inputs: Shape) -> Shape:
        """``(channels, *map)``.

        Raises:
            ModelError: the input is no such map.
        """
        if len(inputs) != 1 or inputs[0] != self.shape:
            given = " and ".join(" × ".join(map(str, shape)) for shape in inputs)
            raise ModelError(
                f"takes {self.channels} × {self.height} × {self.width} values, what comes before "
                f"gives {given}"
            )
        return (self.channels, *self.map)
