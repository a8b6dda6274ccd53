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
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6  # added to the variance: Flax's default, with which ReBRAC was published


@dataclass(frozen=True)
class MLP:
    """Linear layers with ReLU between them; sizes = (in, hidden..., out).

    With `layer_norm`, each ReLU is followed by a layer normalisation (Ba et al. 2016).
    """

    sizes: tuple[int, ...]
    layer_norm: bool = False

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The parts of theta: weight and bias of each layer, then gain and shift of each norm."""
        linear = [s for i, o in pairwise(self.sizes) for s in ((i, o), (1, o))]
        norms = [(1, o) for o in self.sizes[1:-1] for _ in ("gain", "shift")]
        return linear + norms if self.layer_norm else linear

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(i * o for i, o in self.shapes)

    def init(self, g: Generator, n: int | None = None) -> Tensor:
        """theta [P], or [n, P] for an ensemble, as torch's modules start.

        Layers are uniform in +-1/sqrt(fan_in), norms have gain 1 and shift 0.
        """
        shape = () if n is None else (n,)
        parts = []
        for fan_in, fan_out in pairwise(self.sizes):
            u = torch.rand((*shape, (fan_in + 1) * fan_out), generator=g, device=g.device)
            parts.append((2 * u - 1) / math.sqrt(fan_in))
        if self.layer_norm:
            for width in self.sizes[1:-1]:
                ones = torch.ones((*shape, width), device=g.device)
                parts += [ones, torch.zeros_like(ones)]
        return torch.cat(parts, -1)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight [..., in, out], bias [..., 1, out]) of each layer, views of theta [..., P]."""
        return self.views(theta)[: len(self.sizes) - 1]

    def views(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """layers(theta), and then, if there are norms, (gain, shift) of each, [..., 1, out]."""
        parts = torch.split(theta, [i * o for i, o in self.shapes], -1)
        views = [torch.unflatten(p, -1, shape) for p, shape in zip(parts, self.shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """[B, in] -> [B, out] for theta [P]; [B, in] or [E, B, in] -> [E, B, out] for [E, P]."""
        views = self.views(theta)
        if theta.dim() == 2:
            x = x.expand(theta.shape[0], *x.shape[-2:])
        return self.after_first(views, linear(x, *views[0]))

    def after_first(self, views: list[tuple[Tensor, Tensor]], h: Tensor) -> Tensor:
        """What follows the first layer, from what that gave: [..., B, width] -> [..., B, out].

        Overwrites `h`, which is faster than another tensor.
        """
        n = len(self.sizes) - 1
        for i in range(1, n):
            h = h.relu_()
            if self.layer_norm:
                h = layer_norm(h, *views[n + i - 1])
            h = linear(h, *views[i])
        return h


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b, for one network or a stack of them."""
    return torch.baddbmm(bias, x, weight) if weight.dim() == 3 else torch.addmm(bias, x, weight)


def layer_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Rows with mean 0 and variance 1, times gain, plus shift."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS), gain)
