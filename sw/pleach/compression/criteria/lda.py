"""How well a filter tells classes apart (Tian 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion
from pleach.errors import ConfigError


@criterion("lda")
@dataclass(frozen=True, kw_only=True)
class Discriminant(Criterion):
    """The intraclass correlation of a filter's largest response to an image: the variance between
    the classes' means over that and the variance within them (Fisher's criterion).

    The paper finds that the last layer's filters answer nearly independently of each other, so that
    linear discriminant analysis is this figure of each filter; it then traces back which filters
    the chosen ones hang on. Here each layer's filters are judged by their own responses.

    Use it where a large network is to do a narrower task than it was trained for. It needs classes
    as labels.

    Args:
        samples: training inputs that it looks at.
    """

    samples: int = 1024

    source = "Tian et al. 2017, arXiv:1704.06305, section 3"
    needs = frozenset({Observe.SAMPLES, Observe.CLASSES})
    granularities = ("channel",)

    def __post_init__(self):
        check_integer(self, "samples", 2, 1 << 30)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        if seen.samples.labels is None or seen.samples.labels.is_floating_point():
            raise ConfigError("the criterion lda needs the classes of its samples")
        maxima, labels = [], []
        for batch in seen.look(layer, self.samples):
            maxima.append(batch.outputs.reshape(*batch.outputs.shape[:2], -1).amax(2))
            labels.append(batch.labels)
        return layer.by_row(class_share(torch.cat(maxima), torch.cat(labels)))


def class_share(values: Tensor, classes: Tensor) -> Tensor:
    """The variance of each column that lies between the classes' means, over its whole variance; 0
    where it has none.

    >>> class_share(torch.tensor([[1.0, 1.0], [2.0, 1.0], [5.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor([0.9423, 0.0000])
    """
    whole = values.var(0, correction=0)
    between = torch.zeros_like(whole)
    for label in classes.unique():
        own = values[classes == label]
        between += (own.mean(0) - values.mean(0)).square() * (len(own) / len(values))
    return torch.where(whole > 0, between / whole.clamp(min=1e-30), 0)
