"""The train step of both networks in PyTorch, for benchmarks/train_step.py: the same layers, loss and optimiser, compiled.

Channels last, as PyTorch is fastest on CPUs, `torch.compile` over forward pass, loss and backward pass. No augmentation.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lapjax.config import Model

__all__ = ["FastGenerator", "Generator", "images_per_second"]


class Separable(nn.Module):
    """`networks.Separable`."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.first = nn.BatchNorm2d(inputs, momentum=0.05)
        self.dense = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.second = nn.BatchNorm2d(outputs, momentum=0.05)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.second(self.dense(functional.relu(self.first(self.depthwise(x)))))
        return functional.relu(x + y if self.residual else y)


class FastGenerator(nn.Module):
    """`networks.FastGenerator`."""

    def __init__(self, landmarks: int, model: Model):
        super().__init__()
        c = model.channels
        self.stem = nn.Conv2d(3, c, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(c, momentum=0.05)
        self.stages, inputs = nn.ModuleList(), c
        for factor, blocks in zip((2, 4, 6), model.blocks, strict=True):
            stage = [
                Separable(inputs if i == 0 else factor * c, factor * c, 2 if i == 0 else 1)
                for i in range(blocks)
            ]
            self.stages.append(nn.Sequential(*stage))
            inputs = factor * c
        self.up = nn.ModuleList([nn.Conv2d(6 * c, 4 * c, 1), nn.Conv2d(4 * c, 2 * c, 1)])
        self.joined = nn.ModuleList([Separable(4 * c, 4 * c), Separable(2 * c, 2 * c)])
        self.last = Separable(2 * c, 2 * c)
        self.head = nn.Conv2d(2 * c, landmarks, 1)

    def forward(self, x):
        x, skips = functional.relu(self.norm(self.stem(x))), []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        for up, joined, skip in zip(self.up, self.joined, (skips[1], skips[0]), strict=True):
            x = joined(functional.interpolate(up(x), scale_factor=2.0, mode="nearest") + skip)
        return self.head(self.last(x))


class Generator(nn.Module):
    """`networks.Generator`."""

    def __init__(self, landmarks: int, model: Model):
        super().__init__()
        c = round(64 * model.width)
        self.down = nn.ModuleList([nn.Conv2d(3 if i == 0 else c, c, 3, 1, 1) for i in range(4)])
        self.bottom = nn.ModuleList([nn.Conv2d(c, c, 3, 1, 1) for _ in range(2)])
        self.dense = nn.ModuleList([nn.Conv2d(c if i == 0 else 2 * c, c, 1) for i in range(4)])
        self.up = nn.ModuleList([nn.Conv2d(2 * c, 2 * c, 5, 1, 2) for _ in range(4)])
        widths = [2 * c, landmarks, landmarks, landmarks]
        self.head = nn.ModuleList([nn.Conv2d(a, b, 1) for a, b in zip(widths[:-1], widths[1:], strict=True)])

    def forward(self, x):
        skips = []
        for layer in self.down:
            x = functional.leaky_relu(layer(x), 0.1)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        for layer in self.bottom:
            x = functional.leaky_relu(layer(x), 0.1)
        for dense, up, skip in zip(self.dense, self.up, reversed(skips), strict=True):
            x = functional.leaky_relu(dense(x), 0.1)
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = functional.leaky_relu(up(torch.cat([x, skip], 1)), 0.1)
        for layer in self.head[:-1]:
            x = functional.leaky_relu(layer(x), 0.1)
        return self.head[-1](x)


def laplace_kl(maps, truth, *, stride: int, target: float):
    """LaplaceKL, KL(p||q), per axis: the mean over landmarks."""
    maps = maps.float()
    _, _, height, width = maps.shape
    probability = maps.flatten(2).softmax(-1).unflatten(2, (height, width))
    loss = 0.0
    for axis, count in ((2, width), (3, height)):
        margin = probability.sum(axis)
        places = stride * (torch.arange(count) + 0.5) - 0.5
        mean = (margin * places).sum(-1)
        b = (margin * (places - mean[..., None]).abs()).sum(-1).clamp_min(1e-3)
        distance = (mean - truth[..., 0 if axis == 2 else 1]).abs()
        loss = loss + torch.log(b / target) - 1 + distance / b + target / b * torch.exp(-distance / target)
    return loss.mean()


def images_per_second(model: Model, batch: int, dtype: str, *, rounds: int = 8, steps: int = 8) -> float:
    """The best of some rounds, as benchmarks/train_step.py measures ours."""
    torch.manual_seed(0)
    kind = {"fast": FastGenerator, "poster": Generator}[model.network]
    network = kind(68, model).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-5)
    random = np.random.default_rng(0)
    size = model.input_size
    images = torch.tensor(random.uniform(-1, 1, (batch, 3, size, size)), dtype=torch.float32)
    images = images.contiguous(memory_format=torch.channels_last)
    truth = torch.tensor(random.uniform(20, size - 20, (batch, 68, 2)), dtype=torch.float32)

    def lose(images, truth):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            maps = network(images)
        return laplace_kl(maps, truth, stride=model.stride, target=1.2)

    compiled = torch.compile(lose)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = compiled(images, truth)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        return loss.item()

    first = [step() for _ in range(3)]
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        last = [step() for _ in range(steps)]
        times.append(time.perf_counter() - start)
    assert np.isfinite(last).all() and last[-1] < first[0]
    return steps * batch / min(times)
