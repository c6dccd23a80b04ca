"""From a trained torch network to a `CompressedModel`: prune, share, fine-tune, calibrate."""

from pleach.extras import need

need("torch", "safetensors")

from pleach.compression.config import CompressConfig, PruneConfig, ShareConfig, TrainConfig
from pleach.compression.observe import Observations, PrunableLayer, Samples
from pleach.compression.pipeline import Stage, compress, finish
from pleach.compression.prune import prune_
from pleach.compression.quantisers.kmeans import kmeans
from pleach.compression.recipe import lenet_5_recipe, lenet_recipe
from pleach.compression.remove import remove_neurons_
from pleach.compression.scan import Sensitivity, sensitivity
from pleach.compression.share import reassign_, share_
from pleach.compression.step import Context, Plan, Step
from pleach.compression.steps import Factorise, Prune, Share, factorise_
from pleach.compression.train import error_percent, train

__all__ = [
    "CompressConfig",
    "Context",
    "Factorise",
    "Observations",
    "Plan",
    "PrunableLayer",
    "Prune",
    "PruneConfig",
    "Samples",
    "Sensitivity",
    "Share",
    "ShareConfig",
    "Stage",
    "Step",
    "TrainConfig",
    "compress",
    "error_percent",
    "factorise_",
    "finish",
    "kmeans",
    "lenet_5_recipe",
    "lenet_recipe",
    "prune_",
    "reassign_",
    "remove_neurons_",
    "sensitivity",
    "share_",
    "train",
]
