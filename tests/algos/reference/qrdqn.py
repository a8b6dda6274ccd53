"""QR-DQN as a plain loop, from Algorithm 1 of Dabney et al. 2018; with CQL's term if that has a
weight.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from .discrete_networks import Net


class QRDQN:
    def __init__(
        self,
        obs_shape: Sequence[int],
        n_actions: int,
        *,
        n_quantiles: int,
        kappa: float,
        double: bool,
        target_period: int,
        lr: float,
        adam_eps: float,
        hidden: Sequence[int],
        min_q_weight: float = 0.0,
    ) -> None:
        self.critic = Net(obs_shape, hidden, (n_actions * n_quantiles,))
        self.target = copy.deepcopy(self.critic)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=lr, eps=adam_eps)
        self.n_actions, self.n_quantiles, self.kappa = n_actions, n_quantiles, kappa
        self.double, self.target_period, self.min_q_weight = double, target_period, min_q_weight
        self.t = 0

    def quantiles(self, net: Net, obs: Tensor) -> Tensor:
        return net(obs)[0].reshape(len(obs), self.n_actions, self.n_quantiles)

    def rho(self, u: Tensor) -> Tensor:
        """Eqs. 9 and 10, of u [B, i, j]."""
        small = 0.5 * u**2
        large = self.kappa * (u.abs() - 0.5 * self.kappa)
        huber = torch.where(u.abs() <= self.kappa, small, large)
        n = self.n_quantiles
        tau = torch.tensor([[(2 * i - 1) / (2 * n)] for i in range(1, n + 1)])
        return torch.where(u < 0, 1 - tau, tau) * huber

    def train_step(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, discount: Tensor
    ) -> dict[str, float]:
        """The losses before the step."""
        if self.t % self.target_period == 0:
            self.target.load_state_dict(self.critic.state_dict())
        self.t += 1
        rows = torch.arange(len(obs))
        with torch.no_grad():
            next_z = self.quantiles(self.target, next_obs)
            chooser = self.quantiles(self.critic, next_obs) if self.double else next_z
            next_z = next_z[rows, chooser.mean(2).argmax(1)]
            y = reward[:, None] + discount[:, None] * next_z
        all_z = self.quantiles(self.critic, obs)
        u = y[:, None, :] - all_z[rows, action][:, :, None]
        loss = self.rho(u).mean(2).sum(1).mean()
        q = all_z.mean(2)
        q_data = q.gather(1, action[:, None])[:, 0]
        stats = {"critic_loss": loss.item(), "q_mean": q_data.mean().item()}
        if self.min_q_weight:
            gap = (torch.log(torch.exp(q).sum(1)) - q_data).mean()
            loss = loss + self.min_q_weight * gap
            stats["cql_loss"] = gap.item()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return stats
