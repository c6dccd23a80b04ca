"""Blocks of compact networks go through compression as they are."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pleach
from pleach import Reference
from pleach.compression import Share, ShareConfig, TrainConfig
from pleach.compression.steps import low_bit_
from pleach.errors import ModelError
from pleach.format import dumps, loads
from pleach.models import network_of, read_network, save_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")
X = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def normal(channels):
    """A batch normalisation that has seen something."""
    norm = nn.BatchNorm2d(channels)
    draw = torch.Generator().manual_seed(channels)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data.copy_(torch.rand(channels, generator=draw) + 0.5)
    return norm


def mobile():
    """Depthwise separable convolutions (Howard et al. 2017, figure 3)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), normal(8), nn.ReLU6(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), normal(8), nn.ReLU6(),
        nn.Conv2d(8, 12, 1, bias=False), normal(12), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


class Fire(nn.Module):
    """SqueezeNet's (Iandola et al. 2016, figure 1)."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.one = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)
        self.three, self.end = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        x = torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1)
        return torch.relu(self.end(x)).mean((2, 3))


class ShuffleUnit(nn.Module):
    """Grouped 1 × 1, shuffle, depthwise, grouped 1 × 1, and the sum (Zhang et al. 2018, figure 2
    b)."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.a = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 6, 1, groups=3)
        self.b, self.c = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 12, 1, groups=3)
        self.end = nn.Linear(12, 4)

    def shuffle(self, x):
        if self.how == "module":
            return functional.channel_shuffle(x, 3)
        n, c, h, w = x.shape
        if self.how == "view":
            return x.view(n, 3, c // 3, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return x.reshape(n, 3, c // 3, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)

    def forward(self, x):
        x = self.first(x)
        y = self.c(self.b(self.shuffle(torch.relu(self.a(x)))))
        return self.end(torch.relu(x + y).mean((2, 3)))


class Pva(nn.Module):
    """C.ReLU with scale and shift, and an inception block (Kim et al. 2016, figures 1 and 2)."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3, padding=1), normal(10)
        self.one, self.three = nn.Conv2d(10, 4, 1), nn.Conv2d(10, 4, 3, padding=1)
        self.pool, self.last = nn.MaxPool2d(3, 1, 1), nn.Conv2d(10, 4, 1)
        self.end = nn.Linear(12, 4)

    def forward(self, x):
        x = self.conv(x)
        x = torch.relu(self.norm(torch.cat([x, -x], 1)))
        parts = [self.one(x), self.three(x), self.last(self.pool(x))]
        return self.end(torch.relu(torch.cat(parts, 1)).mean((2, 3)))


@pytest.mark.parametrize(
    "make",
    [
        mobile,
        Fire,
        Pva,
        *(lambda how=how: ShuffleUnit(how) for how in ("module", "view", "permute")),
    ],
    ids=["MobileNet", "SqueezeNet", "PVANet", "shuffle", "view", "permute"],
)
def test_blocks_of_compact_networks(make):
    torch.manual_seed(3)
    model = make().eval()
    share = Share(ShareConfig(clusters=256, train=TrainConfig(epochs=0)))
    fixed = loads(dumps(pleach.compress(model, X.numpy(), steps=[share])))
    want = model(X).detach().flatten(1).numpy()
    got = fixed.dequantise(Reference(fixed).run(fixed.quantise(X.numpy())))
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


def test_a_checkpoint_keeps_nodes_and_functions(tmp_path):
    chain = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    low_bit_(chain, {"kind": "dorefa", "bits": 2})
    networks = [
        network_of(Pva().eval(), (3, 8, 8)),
        network_of(ShuffleUnit("view"), (3, 8, 8)),
        chain,
    ]
    low_bit_(networks[1], "sign")
    for network, inputs in zip(networks, (X, X, torch.rand(9, 5)), strict=True):
        save_checkpoint(network, tmp_path / "net.safetensors")
        again = read_network(tmp_path / "net.safetensors")
        assert torch.equal(network(inputs), again(inputs))


def test_other_moves_of_axes_are_refused():
    class Moves(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x).transpose(2, 3)

    with pytest.raises(ModelError, match="moves axes: only groups of a map's channels"):
        network_of(Moves(), (3, 8, 8))
