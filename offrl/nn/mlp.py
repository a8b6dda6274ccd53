"""Multi-layer perceptrons on flat parameter vectors.

The parameters of a network are one vector theta [P], as in the papers; those of an ensemble of E
networks are [E, P].  Optimiser and target updates are then a handful of operations on one tensor,
and an ensemble is one batched matrix product (docs/decisions/0001).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class MLP:
    """Linear layers with ReLU between them; sizes = (in, hidden..., out)."""

    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum((i + 1) * o for i, o in pairwise(self.sizes))

    def init(self, g: Generator, n: int | None = None) -> Tensor:
        """theta [P], or [n, P] for an ensemble: uniform in +-1/sqrt(fan_in), torch's default."""
        shape = () if n is None else (n,)
        parts = []
        for fan_in, fan_out in pairwise(self.sizes):
            u = torch.rand((*shape, (fan_in + 1) * fan_out), generator=g, device=g.device)
            parts.append((2 * u - 1) / math.sqrt(fan_in))
        return torch.cat(parts, -1)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight [..., in, out], bias [..., 1, out]) of each layer, views of theta [..., P]."""
        shapes = [s for i, o in pairwise(self.sizes) for s in ((i, o), (1, o))]
        parts = torch.split(theta, [i * o for i, o in shapes], -1)
        views = [torch.unflatten(p, -1, shape) for p, shape in zip(parts, shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """[B, in] -> [B, out] for theta [P]; [B, in] or [E, B, in] -> [E, B, out] for [E, P]."""
        layers = self.layers(theta)
        if theta.dim() == 2:
            x = x.expand(theta.shape[0], *x.shape[-2:])
        for weight, bias in layers[:-1]:
            x = linear(x, weight, bias).relu()
        return linear(x, *layers[-1])


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b, for one network or a stack of them."""
    return torch.baddbmm(bias, x, weight) if weight.dim() == 3 else torch.addmm(bias, x, weight)
