"""Networks that can be compressed, and checkpoints of them."""

from pleach.models.checkpoint import (
    from_state_dict,
    load_checkpoint,
    save_checkpoint,
    save_state_dict,
)
from pleach.models.layers import Layer, channels_last, layers_of, sample_shape
from pleach.models.networks import lenet_5, lenet_300_100, mlp

__all__ = [
    "Layer",
    "channels_last",
    "from_state_dict",
    "layers_of",
    "lenet_5",
    "lenet_300_100",
    "load_checkpoint",
    "mlp",
    "sample_shape",
    "save_checkpoint",
    "save_state_dict",
]
