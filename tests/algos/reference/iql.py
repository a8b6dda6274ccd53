"""IQL as a plain loop, from Kostrikov et al. 2021 and the order of steps of the authors' code."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.optim.lr_scheduler import CosineAnnealingLR

from .networks import Critic, mlp, update_target


class Policy(nn.Module):
    """A normal distribution: its mean is tanh(net(s)), its deviation the same in every state."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = mlp((obs_dim, *hidden, action_dim))
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def forward(self, obs: Tensor) -> Independent:
        log_std = torch.clamp(self.log_std, -5.0, 2.0)
        return Independent(Normal(torch.tanh(self.net(obs)), torch.exp(log_std)), 1)


class IQL:
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        max_action: float,
        *,
        gamma: float,
        expectile: float,
        beta: float,
        tau: float,
        actor_lr: float,
        actor_decay_steps: int,
        critic_lr: float,
        value_lr: float,
        hidden: Sequence[int],
    ) -> None:
        self.policy = Policy(obs_dim, action_dim, hidden)
        self.value = mlp((obs_dim, *hidden, 1))
        self.critics = [Critic(obs_dim, action_dim, hidden) for _ in range(2)]
        self.copy_targets()
        self.actor_optimizer = torch.optim.Adam(self.policy.parameters(), lr=actor_lr)
        self.schedule = CosineAnnealingLR(self.actor_optimizer, T_max=actor_decay_steps)
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=value_lr)
        self.critic_optimizers = [
            torch.optim.Adam(c.parameters(), lr=critic_lr) for c in self.critics
        ]
        self.max_action, self.gamma, self.tau = max_action, gamma, tau
        self.expectile, self.beta = expectile, beta

    def copy_targets(self) -> None:
        self.targets = [copy.deepcopy(c) for c in self.critics]

    def train_step(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, terminated: Tensor
    ) -> dict[str, float]:
        """One step of everything; the losses before their steps."""
        with torch.no_grad():
            target_q = torch.min(*(t(obs, action) for t in self.targets))

        v = self.value(obs)[:, 0]
        below = (target_q - v < 0).to(v.dtype)
        value_loss = (torch.abs(self.expectile - below) * (target_q - v) ** 2).mean()
        self.value_optimizer.zero_grad()
        value_loss.backward()
        self.value_optimizer.step()

        with torch.no_grad():
            advantage = target_q - self.value(obs)[:, 0]
            weight = torch.clamp(torch.exp(self.beta * advantage), max=100.0)
        actor_loss = -(weight * self.policy(obs).log_prob(action / self.max_action)).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        self.schedule.step()

        with torch.no_grad():
            y = reward + self.gamma * (1 - terminated) * self.value(next_obs)[:, 0]
        critic_loss, qs = 0.0, []
        for critic, optimizer in zip(self.critics, self.critic_optimizers, strict=True):
            q = critic(obs, action)
            loss = ((q - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            critic_loss += loss.item()
            qs.append(q.detach())
        for target, critic in zip(self.targets, self.critics, strict=True):
            update_target(target, critic, self.tau)
        return {
            "value_loss": value_loss.item(),
            "actor_loss": actor_loss.item(),
            "critic_loss": critic_loss,
            "v_mean": v.mean().item(),
            "q_mean": torch.stack(qs).mean().item(),
            "weight_mean": weight.mean().item(),
        }
