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
from pleach.models.graph import (
    empty_model,
    graph_of,
    is_network,
    layers_of,
    neighbours,
    put_function_,
    real_graph,
    sample_shape,
)
from pleach.models.layers import (
    Function,
    Layer,
    Parametrization,
    Put,
    applied,
    channels_last,
    copied,
    ours,
    tensor_of,
)
from pleach.models.network import Network
from pleach.models.networks import lenet_5, lenet_300_100, mlp
from pleach.models.read import network_of

__all__ = [
    "Factory",
    "Function",
    "Layer",
    "Network",
    "Parametrization",
    "Put",
    "applied",
    "channels_last",
    "copied",
    "empty_model",
    "fold_inputs",
    "from_state_dict",
    "graph_of",
    "is_network",
    "layer_tensors",
    "layers_of",
    "lenet_5",
    "lenet_300_100",
    "load_checkpoint",
    "mlp",
    "neighbours",
    "network_of",
    "ours",
    "put_function_",
    "read_layers",
    "read_network",
    "real_graph",
    "sample_shape",
    "save_checkpoint",
    "save_state_dict",
    "tensor_of",
]
