"""Pleach: hardware co-design for compressed neural networks.

`compress` turns a torch network into a `CompressedModel`, `save` writes it as one
bitstream, `load` reads it back without any model code, and `pleach.reference.Reference` runs it
in numpy exactly as the engine does.
"""

import ast
import importlib
from pathlib import Path

# The stub says what there is, and where: a name is imported when it is first asked for, so that
# what needs no torch does not load it.
_FROM = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}
# pyrefly: ignore [unresolvable-dunder-all]
__all__ = sorted(name for name, module in _FROM.items() if module != "pleach")
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _FROM:
        raise AttributeError(f"module 'pleach' has no attribute {name!r}")
    if _FROM[name] == "pleach":
        return importlib.import_module(f"pleach.{name}")
    return getattr(importlib.import_module(_FROM[name]), name)


def __dir__():
    return sorted({*globals(), *_FROM})
