"""Gradients and parameters of few bits in training: their mathematics, and two workers."""

import math
import multiprocessing

import numpy as np
import pytest
import torch
from torch import distributed, nn

from pleach.compression import TrainConfig, train
from pleach.compression.regularisers import REGULARISERS
from pleach.compression.regularisers.flexpoint import Exponent
from pleach.compression.regularisers.ternary_gradients import clipped, ternary

X = np.random.default_rng(0).random((64, 6)).astype(np.float32)
Y = (X @ np.array([1, -2, 3, -1, 0.5, -1]) > 0.25).astype(np.int64)


def net():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 3)
    return model


def test_ternary_gradients_are_the_gradient_in_the_mean():
    gradient = torch.tensor([0.5, -0.2, 0.0, -1.0, 0.05], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    drawn = torch.stack([ternary(gradient, gradient.abs().max(), generator) for _ in range(8000)])
    assert drawn.dtype == torch.int8 and set(drawn.unique().tolist()) == {-1, 0, 1}
    assert (drawn.double().mean(0) - gradient).abs().max() < 5 * 0.5 / math.sqrt(8000)
    assert (drawn[:, 3] == -1).all() and not drawn[:, 2].any()
    deviation = float(gradient.std(correction=0))
    assert clipped(gradient, 1.0).abs().max() == pytest.approx(deviation)
    assert torch.equal(clipped(gradient, 0.0), gradient)


def work(rank: int, place: str, pipe) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    model, own = net(), slice(rank, None, 2)
    settings = {"kind": "ternary_gradients", "seed": 3}
    config = TrainConfig(epochs=3, batch_size=8, learning_rate=0.05, regularisers=(settings,))
    train(model, X[own], Y[own], config, seed=rank)
    distributed.destroy_process_group()
    pipe.send([p.detach().numpy() for p in model.parameters()])


def test_two_workers_stay_one_network(tmp_path):
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(2)]
    workers = [
        context.Process(
            target=work, args=(rank, str(tmp_path / "meet"), pipes[rank][1]), daemon=True
        )
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = []
    for receiver, _ in pipes:
        assert receiver.poll(200), "a worker gave no answer"
        found.append(receiver.recv())
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    before = [p.detach().numpy() for p in net().parameters()]
    for one, other, start in zip(*found, before, strict=True):
        assert np.array_equal(one, other) and not np.array_equal(one, start)


def test_flexpoint_shares_a_power_of_two_and_predicts_it():
    exponent = Exponent(8, 4, torch.tensor([0.9, -0.3]))
    assert exponent.scale == 2.0**-7  # 0.9 is 115 of them, 127 the most
    found = exponent.rounded(torch.tensor([0.9, -0.3]))
    assert found.tolist() == [115 / 128, -38 / 128]
    # χ = 2·(max + 3·0 + 100·2^−7/128), and κ the least power of two at which χ is at most 2^7 κ.
    chi = 2 * (115 / 128 + 100 / 128 / 128)
    assert exponent.scale == 2.0 ** math.ceil(math.log2(chi / 128))
    scale = exponent.scale
    found = exponent.rounded(torch.tensor([9.0, 0.1]))  # a jump: it is cut off, and has room then
    assert found[0] == 127 * scale and exponent.scale > 4 * scale
    for _ in range(6):
        found = exponent.rounded(torch.tensor([9.0, 0.1]))
    assert found[0] == 9.0


def test_a_training_in_flexpoint_has_its_numbers_alone():
    model = net()
    config = TrainConfig(
        epochs=2, batch_size=16, learning_rate=0.05,
        regularisers=({"kind": "flexpoint", "mantissa": 8},),
    )  # fmt: skip
    plain = net()
    train(model, X, Y, config)
    train(plain, X, Y, TrainConfig(epochs=2, batch_size=16, learning_rate=0.05))
    for p, other in zip(model.parameters(), plain.parameters(), strict=True):
        sizes = p.detach().abs()
        step = 2.0 ** torch.floor(torch.log2(sizes[sizes > 0])).min()
        scaled = p.detach() / (step / 128)
        assert torch.equal(scaled, scaled.round()) and len(p.unique()) <= 256
        assert (p - other).abs().max() < 0.2
    assert REGULARISERS.of("flexpoint", "").mantissa == 16
