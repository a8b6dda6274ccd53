"""Actors and critics on top of an MLP: the shapes that the papers share."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from offrl.nn.mlp import MLP
from offrl.nn.pairs import on_pairs
from offrl.types import Spec

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # SAC's clamp of the Gaussian's log deviation


@dataclass(frozen=True)
class DeterministicActor:
    """pi(s) = max_action tanh(net(s)), as in TD3."""

    spec: Spec
    hidden: tuple[int, ...]

    @property
    def net(self) -> MLP:
        return MLP((self.spec.obs_shape[0], *self.hidden, self.spec.action_dim))

    def init(self, g: Generator) -> Tensor:
        return self.net.init(g)

    def __call__(self, theta: Tensor, obs: Tensor) -> Tensor:
        """[B, D] -> [B, A]."""
        return self.spec.max_action * self.net(theta, obs).tanh()


class Normal(NamedTuple):
    """The law of u, the action before tanh."""

    mean: Tensor  # [B, A]
    log_std: Tensor  # [B, A]


class Sample(NamedTuple):
    action: Tensor  # [..., B, A]
    log_prob: Tensor  # [..., B], of the action divided by max_action


@dataclass(frozen=True)
class GaussianActor:
    """a = max_action tanh(u), u ~ N(mean(s), std(s)), as in SAC (appendix C)."""

    spec: Spec
    hidden: tuple[int, ...]

    @property
    def net(self) -> MLP:
        return MLP((self.spec.obs_shape[0], *self.hidden, 2 * self.spec.action_dim))

    def init(self, g: Generator) -> Tensor:
        return self.net.init(g)

    def normal(self, theta: Tensor, obs: Tensor) -> Normal:
        """The law of u for obs [B, D]."""
        mean, log_std = self.net(theta, obs).chunk(2, -1)
        return Normal(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))

    def mode(self, theta: Tensor, obs: Tensor) -> Tensor:
        """The evaluation policy: tanh of the mean. [B, D] -> [B, A]."""
        return self.spec.max_action * self.normal(theta, obs).mean.tanh()

    def sample(self, theta: Tensor, obs: Tensor, noise: Tensor) -> Sample:
        """A reparameterised sample, from standard normal noise [B, A]."""
        return self.squash(self.normal(theta, obs), noise)

    def squash(self, normal: Normal, noise: Tensor) -> Sample:
        """Reparameterised samples, from standard normal noise [..., B, A]."""
        u = normal.mean + normal.log_std.exp() * noise
        return Sample(self.spec.max_action * u.tanh(), tanh_log_prob(normal, u, noise))

    def log_prob(self, normal: Normal, action: Tensor) -> Tensor:
        """log pi(a / max_action | s) of given actions [..., B, A] -> [..., B].

        No finite u leads to the bounds of the box: they count as lying 1e-6 inside of it.
        """
        u = (action / self.spec.max_action).clamp(-1 + 1e-6, 1 - 1e-6).atanh()
        return tanh_log_prob(normal, u, (u - normal.mean) * (-normal.log_std).exp())


def tanh_log_prob(normal: Normal, u: Tensor, z: Tensor) -> Tensor:
    """The log density of tanh(u), where u = mean + std z. [..., B, A] -> [..., B]."""
    log_normal = -0.5 * z.square() - normal.log_std - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2), in the form that does not lose its digits where tanh saturates
    log_jacobian = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return (log_normal - log_jacobian).sum(-1)


@dataclass(frozen=True)
class Critic:
    """Q(s, a): one network for theta [P], an ensemble for theta [E, P]."""

    spec: Spec
    hidden: tuple[int, ...]
    layer_norm: bool = False

    @property
    def net(self) -> MLP:
        n = self.spec.obs_shape[0] + self.spec.action_dim
        return MLP((n, *self.hidden, 1), self.layer_norm)

    def init(self, g: Generator, n: int) -> Tensor:
        return self.net.init(g, n)

    def __call__(self, theta: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """[B, D], [B, A] -> [B] for theta [P], [E, B] for theta [E, P]."""
        return self.net(theta, torch.cat((obs, action), -1)).squeeze(-1)

    def many(self, theta: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """K actions per state: [B, D], [K, B, A] -> [E, K, B] for theta [E, P].

        One member after the other: with so many rows that is faster than stacked products.
        """
        return torch.stack([on_pairs(self.net, t, obs, action).squeeze(-1) for t in theta])
