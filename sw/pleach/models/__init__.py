"""Networks that can be compressed, and checkpoints of them."""

from pleach.extras import need

need("torch", "safetensors")

from pleach.models.checkpoint import (
    from_state_dict,
    layer_tensors,
    load_checkpoint,
    read_layers,
    read_network,
    save_checkpoint,
    save_state_dict,
)
from pleach.models.factory import Factory
from pleach.models.fold import fold_inputs
from pleach.models.layers import (
    Layer,
    Parametrization,
    channels_last,
    copied,
    layers_of,
    ours,
    sample_shape,
    tensor_of,
)
from pleach.models.networks import lenet_5, lenet_300_100, mlp

__all__ = [
    "Factory",
    "Layer",
    "Parametrization",
    "channels_last",
    "copied",
    "fold_inputs",
    "from_state_dict",
    "layer_tensors",
    "layers_of",
    "lenet_5",
    "lenet_300_100",
    "load_checkpoint",
    "mlp",
    "ours",
    "read_layers",
    "read_network",
    "sample_shape",
    "save_checkpoint",
    "save_state_dict",
    "tensor_of",
]
