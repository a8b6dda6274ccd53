"""Networks of the discrete algorithms on flat parameter vectors: a body, and heads on it.

On images the body is the CNN of Mnih et al. 2015 ("Nature"), on vectors there is none.  Filters
and features lie with their channels last, in theta as in the activations, which is how a CPU
convolves fastest; so a feature's number is (row, column, channel) counted with the channel first.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.nn.init import orthogonal_

from offrl.nn.mlp import MLP

LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, width of the filters, stride


@dataclass(frozen=True)
class NatureCNN:
    """Three convolutions with ReLU, of uint8 images [B, C, H, W] divided by 255."""

    obs_shape: tuple[int, ...]  # (C, H, W), at least 36 pixels wide and high

    @property
    def shapes(self) -> list[tuple[int, int, int, int]]:
        """Of the filters in theta: out, height, width, in."""
        channels = (self.obs_shape[0], *(c for c, _, _ in LAYERS))
        return [(o, k, k, i) for (i, o), (_, k, _) in zip(pairwise(channels), LAYERS, strict=True)]

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(math.prod(s) + s[0] for s in self.shapes)

    @property
    def features(self) -> int:
        height, width = self.obs_shape[1:]
        for _, k, stride in LAYERS:
            height, width = ((n - k) // stride + 1 for n in (height, width))
        return LAYERS[-1][0] * height * width

    def init(self, g: Generator) -> Tensor:
        """theta [P]: orthogonal filters (Saxe et al. 2014) with the gain of ReLU, biases 0.

        Two images of a game differ in a few pixels, and torch's own start makes less of them with
        every layer: learners stand still for thousands of updates (docs/decisions/0005).  So the
        first filters add up to 0, which hides what is uniform, and are larger by sqrt(fan_in).
        """
        parts: list[Tensor] = []
        for out, *fan_in in self.shapes:
            n = math.prod(fan_in)
            filters = orthogonal_(torch.empty(out, n, device=g.device), math.sqrt(2), g)
            if not parts:
                filters = (filters - filters.mean(1, keepdim=True)) * math.sqrt(n)
            parts += [filters.view(-1), filters.new_zeros(out)]
        return torch.cat(parts)

    def __call__(self, theta: Tensor, obs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, features]"""
        sizes = [n for s in self.shapes for n in (math.prod(s), s[0])]
        weights_and_biases = torch.split(theta, sizes, -1)
        h = obs.to(theta.dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        for i, (shape, (_, _, stride)) in enumerate(zip(self.shapes, LAYERS, strict=True)):
            weight, bias = weights_and_biases[2 * i : 2 * i + 2]
            weight = weight.view(shape).permute(0, 3, 1, 2)
            if i == 0:  # dividing the filters and not the pixels is the same, and 27 times less
                weight = weight / 255
            h = F.conv2d(h, weight, bias, stride).relu_()
        return h.permute(0, 2, 3, 1).flatten(1)


@dataclass(frozen=True)
class HeadedNet:
    """Heads with the hidden layers `hidden` on one body, for observations of any shape.

    Vectors go into the heads as they are: there the heads share nothing.
    """

    obs_shape: tuple[int, ...]
    hidden: tuple[int, ...]
    outputs: tuple[int, ...]  # of each head

    @property
    def body(self) -> NatureCNN | None:
        return NatureCNN(self.obs_shape) if len(self.obs_shape) == 3 else None

    @property
    def heads(self) -> list[MLP]:
        features = self.body.features if self.body else self.obs_shape[0]
        return [MLP((features, *self.hidden, n)) for n in self.outputs]

    def init(self, g: Generator) -> Tensor:
        """theta [P]: the body's parameters, then each head's."""
        return torch.cat([net.init(g) for net in (self.body, *self.heads) if net])

    def __call__(self, theta: Tensor, obs: Tensor) -> list[Tensor]:
        """The output [B, n] of each head."""
        heads = self.heads
        sizes = [self.body.size if self.body else 0, *(net.size for net in heads)]
        of_body, *of_heads = torch.split(theta, sizes, -1)
        h = self.body(of_body, obs) if self.body else obs
        return [net(t, h) for net, t in zip(heads, of_heads, strict=True)]
