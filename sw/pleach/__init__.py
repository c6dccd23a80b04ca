"""Pleach: hardware co-design for compressed neural networks.

`compress` turns a torch network into a `CompressedModel`, `save` writes it as one
bitstream, `load` reads it back without any model code, and `pleach.reference.Reference` runs it
in numpy exactly as the engine does.
"""

import importlib

_LAZY = {
    name: module
    for module, names in {
        "pleach.model": "Activation CompressedLayer CompressedModel InputType",
        "pleach.errors": "PleachError PleachWarning GuessWarning TrainingError",
        "pleach.format": "load save",
        "pleach.engine": "EngineConfig",
        "pleach.reference": "Reference",
        "pleach.compression": "CompressConfig PruneConfig ShareConfig TrainConfig compress "
        "error_percent finish prune_ reassign_ remove_neurons_ share_ train",
    }.items()
    for name in names.split()
}
_MODULES = (
    "compile",
    "compression",
    "cycles",
    "data",
    "engine",
    "errors",
    "format",
    "host",
    "metrics",
    "model",
    "models",
    "reference",
    "report",
)
__all__ = sorted(_LAZY)
__version__ = "0.1.0"


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"pleach.{name}")
    raise AttributeError(f"module 'pleach' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY, *_MODULES})
