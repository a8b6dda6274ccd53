"""Quantiles of the return as in QR-DQN, Dabney et al. 2018 (arXiv 1710.10044)."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from offrl.nn.cnn import HeadedNet
from offrl.nn.discrete import of_actions
from offrl.types import Spec, Transition


@dataclass(frozen=True)
class QuantileCritic:
    """theta_i(s, a), i = 1 ... N: the quantiles at tau_i = (2i - 1) / 2N of the return."""

    spec: Spec
    n_quantiles: int
    hidden: tuple[int, ...]

    @property
    def net(self) -> HeadedNet:
        outputs = self.spec.action_dim * self.n_quantiles
        return HeadedNet(self.spec.obs_shape, self.hidden, (outputs,))

    def init(self, g: Generator) -> Tensor:
        return self.net.init(g)

    def __call__(self, theta: Tensor, obs: Tensor) -> Tensor:
        """The quantiles [B, A, N]."""
        (z,) = self.net(theta, obs)
        return torch.unflatten(z, -1, (self.spec.action_dim, self.n_quantiles))

    def q(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Q(s, a), the mean of the quantiles. [B, A]"""
        return self(theta, obs).mean(-1)

    def td_target(self, target: Tensor, selector: Tensor, b: Transition) -> Tensor:
        """y_j = r + gamma theta'_j(s', a*), Algorithm 1, of the target network. [B, N]

        The network `selector` chooses a* = argmax_a Q(s', a): the target, or for double Q-learning
        the online network.
        """
        z = self(target, b.next_obs)
        q = z.mean(-1) if selector is target else self.q(selector, b.next_obs)
        return b.reward[:, None] + b.discount[:, None] * of_actions(z, q.argmax(-1))


def quantile_huber(z: Tensor, y: Tensor, kappa: float) -> Tensor:
    """mean_b sum_i mean_j rho_i(y_j - z_i) for z, y [B, N], eqs. 9 and 10 and Algorithm 1."""
    n = z.shape[-1]
    tau = (torch.arange(n, dtype=z.dtype, device=z.device) + 0.5) / n
    z, y = z[:, :, None].expand(-1, -1, n), y[:, None, :].expand(-1, n, -1)
    weight = (tau[:, None] - (y < z).to(z.dtype)).abs()
    return (weight * F.huber_loss(z, y, reduction="none", delta=kappa)).mean(2).sum(1).mean()
