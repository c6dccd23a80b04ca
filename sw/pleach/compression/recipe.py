"""Settings for networks of the literature."""

from __future__ import annotations

from pleach.compression.config import CompressConfig, PruneConfig, ShareConfig, TrainConfig


def lenet_recipe(*, seed: int = 0) -> tuple[TrainConfig, CompressConfig]:
    """Dense training and compression of LeNet-300-100 on MNIST's 60,000 images as they are.

    Use with `pleach.models.lenet_300_100` and `train`, then `compress`.
    """
    dense = TrainConfig(epochs=30, dropout=0.3, input_dropout=0.1)
    # The teacher is regularised by its dropout; a student that follows it needs none of its own.
    prune = PruneConfig(
        layers={"fc1": 0.055, "fc2": 0.11, "fc3": 0.35},
        ramp=25,
        train=TrainConfig(epochs=50, distillation=0.95),
    )
    share = ShareConfig(
        clusters=16, train=TrainConfig(epochs=8, learning_rate=3e-4, distillation=0.95)
    )
    return dense, CompressConfig(prune=(prune,), share=share, seed=seed)


def lenet_5_recipe(*, seed: int = 0) -> tuple[TrainConfig, CompressConfig]:
    """A short dense training and compression of LeNet-5 on MNIST's 60,000 images as they are.

    Use with `pleach.models.lenet_5` and `train`, then `compress`. The recipes of bench/ take longer
    and go further.
    """
    prune = PruneConfig(
        criterion="saliency",
        scope="network",
        density=0.05,
        ramp=3,
        train=TrainConfig(epochs=4, distillation=0.95),
    )
    share = ShareConfig(
        clusters=16, train=TrainConfig(epochs=1, learning_rate=3e-4, distillation=0.95)
    )
    return TrainConfig(epochs=2), CompressConfig(prune=(prune,), share=share, seed=seed)
