"""Settings for networks of the literature."""

from __future__ import annotations

from pleach.compress.config import CompressConfig, PruneConfig, ShareConfig, TrainConfig


def lenet_recipe(*, seed: int = 0) -> tuple[TrainConfig, CompressConfig]:
    """Dense training and compression of LeNet-300-100 on MNIST's 60,000 images as they are.

    Use with `pleach.models.lenet_300_100` and `train`, then `compress`.
    """
    dense = TrainConfig(epochs=25, dropout=0.3)
    prune = PruneConfig(
        layers={"fc1": 0.045, "fc2": 0.09, "fc3": 0.3},
        ramp=25,
        train=TrainConfig(epochs=40, dropout=0.05, distillation=0.7),
    )
    share = ShareConfig(
        clusters=16, train=TrainConfig(epochs=10, learning_rate=3e-4, distillation=0.7)
    )
    return dense, CompressConfig(prune=prune, share=share, seed=seed)
