"""The digits of scikit-learn, the network that reads them, and how it is trained: what these benchmarks share."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robust.aims import Target
from robust.averaging import Ema
from robust.draws import Draws
from robust.examples import apart
from robust.heads import Classes
from robust.objectives import Objective
from robust.threats import Threat

TRAINING, TEST = 1297, 500
THREAT = Threat(epsilon=0.1, low=0.0, high=1.0)
EPOCHS, BATCH = 25, 128


class Digits(NamedTuple):
    """Images f32 [N, 1, 8, 8] from 0 to 1, and their classes i64 [N]."""

    x: Tensor
    label: Tensor


def digits() -> tuple[Digits, Digits]:
    """Return 1,297 digits to learn from and 500 others, by one shuffle that is always the same."""
    pixels, label = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(label))
    x = torch.from_numpy((pixels[order] / 16).astype(np.float32)).view(-1, 1, 8, 8)
    y = torch.from_numpy(label[order].astype(np.int64))
    return Digits(x[:TRAINING], y[:TRAINING]), Digits(x[TRAINING:], y[TRAINING:])


def network(outputs: int = 10) -> nn.Module:
    """Return two convolutions of 16 and 32 channels and a layer of 64, with random weights of the global seed."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.SiLU(),
        nn.Linear(64, outputs),
    )


class Trained(NamedTuple):
    """A network, its live weights and their averages."""

    network: nn.Module
    averaged: Ema


def train(objective: Objective, data: Digits, *, seed: int, epochs: int = EPOCHS) -> Trained:
    """Train a network with AdamW, a rate of 3e-3 with a warm-up of 2.5 % and a cosine to 0."""
    torch.manual_seed(seed)
    net = network()
    steps = epochs * (len(data.x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_of(steps))
    averaged = Ema(net)
    order = np.random.default_rng(seed)
    step = 0
    for _ in range(epochs):
        shuffled = torch.from_numpy(order.permutation(len(data.x)))
        for rows in shuffled[: len(shuffled) // BATCH * BATCH].view(-1, BATCH):
            loss = loss_of(net, objective, data.x[rows], data.label[rows], Draws(seed).fork(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update()
            step += 1
    return Trained(net.eval(), averaged)


def rate_of(steps: int) -> Callable[[int], float]:
    """Return the share of the highest rate by step."""
    warmup = max(1, round(0.025 * steps))
    return lambda step: min((step + 1) / warmup, (1 + np.cos(np.pi * min(1.0, step / steps))) / 2)


def loss_of(net: nn.Module, objective: Objective, x: Tensor, label: Tensor, draws: Draws) -> Tensor:
    """Return the loss of a step."""
    return objective.loss(
        net,
        x,
        Target(Classes(), label),
        plain=lambda logits: nn.functional.cross_entropy(logits, label),
        threat=THREAT,
        examples=apart(x),
        draws=draws,
        module=net,
    )


class Corrupting(nn.Module):
    """An image-to-image network: what two convolutions add to an image."""

    def __init__(self) -> None:
        """Draw weights."""
        super().__init__()
        self.inner = nn.Conv2d(1, 8, 3, padding=1)
        self.outer = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the same shape."""
        return x + self.outer(nn.functional.silu(self.inner(x)))
