"""From a trained torch network to a `CompressedModel`: prune, share, fine-tune, calibrate."""

from pleach.compress.calibrate import calibrate
from pleach.compress.config import CompressConfig, PruneConfig, ShareConfig, TrainConfig
from pleach.compress.kmeans import kmeans
from pleach.compress.order import ordered
from pleach.compress.pipeline import Stage, compress
from pleach.compress.prune import prune_
from pleach.compress.recipe import lenet_recipe
from pleach.compress.remove import remove_neurons_
from pleach.compress.sensitivity import Sensitivity, sensitivity
from pleach.compress.share import reassign_, share_
from pleach.compress.train import error_percent, train

__all__ = [
    "CompressConfig",
    "PruneConfig",
    "Sensitivity",
    "ShareConfig",
    "Stage",
    "TrainConfig",
    "calibrate",
    "compress",
    "error_percent",
    "kmeans",
    "lenet_recipe",
    "ordered",
    "prune_",
    "reassign_",
    "remove_neurons_",
    "sensitivity",
    "share_",
    "train",
]
