"""Networks that can be compressed, and checkpoints of them."""

from pleach.models.checkpoint import from_state_dict, load_checkpoint, save_checkpoint
from pleach.models.mlp import layers_of, lenet_300_100, mlp

__all__ = [
    "from_state_dict",
    "layers_of",
    "lenet_300_100",
    "load_checkpoint",
    "mlp",
    "save_checkpoint",
]
