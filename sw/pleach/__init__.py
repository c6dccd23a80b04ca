"""Pleach: hardware co-design for compressed neural networks.

`compress` turns a torch network into a `CompressedModel`, `CompressedModel.save` writes it as one
bitstream, `load` reads it back without any model code, and `pleach.reference.Reference` runs it
in numpy exactly as the engine does.
"""

import importlib

_LAZY = {
    "CompressedLayer": "pleach.model",
    "CompressedModel": "pleach.model",
    "Activation": "pleach.model",
    "InputType": "pleach.model",
    "PleachError": "pleach.errors",
    "load": "pleach.format",
    "save": "pleach.format",
    "Reference": "pleach.reference",
    "EngineConfig": "pleach.reference",
    "compress": "pleach.compression",
    "prune_": "pleach.compression",
    "share_": "pleach.compression",
    "PruneConfig": "pleach.compression",
    "ShareConfig": "pleach.compression",
    "CompressConfig": "pleach.compression",
}
__all__ = sorted(_LAZY)
__version__ = "0.1.0"


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'pleach' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LAZY])
