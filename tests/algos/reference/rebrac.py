"""ReBRAC as a plain loop, from Tarasov et al. 2023 and Algorithm 1 of Fujimoto et al. 2018."""

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .networks import Actor, update_target


class Critic(nn.Module):
    """One Q(s, a) [B]; after each hidden layer ReLU and then layer normalisation."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n, m in pairwise((obs_dim + action_dim, *hidden)):
            layers += [nn.Linear(n, m), nn.ReLU(), nn.LayerNorm(m, eps=1e-6)]
        self.net = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        q: Tensor = self.net(torch.cat([obs, action], 1))
        return q[:, 0]


class ReBRAC:
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        max_action: float,
        *,
        gamma: float,
        actor_bc_coef: float,
        critic_bc_coef: float,
        tau: float,
        actor_lr: float,
        critic_lr: float,
        policy_noise: float,
        noise_clip: float,
        policy_freq: int,
        hidden: Sequence[int],
    ) -> None:
        self.actor = Actor(obs_dim, action_dim, max_action, hidden)
        self.critics = [Critic(obs_dim, action_dim, hidden) for _ in range(2)]
        self.copy_targets()
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=actor_lr)
        self.critic_optimizers = [
            torch.optim.Adam(c.parameters(), lr=critic_lr) for c in self.critics
        ]
        self.max_action, self.gamma, self.tau = max_action, gamma, tau
        self.beta_1, self.beta_2 = actor_bc_coef, critic_bc_coef
        self.policy_noise, self.noise_clip = policy_noise * max_action, noise_clip * max_action
        self.policy_freq, self.t = policy_freq, 0

    def copy_targets(self) -> None:
        self.target_actor = copy.deepcopy(self.actor)
        self.target_critics = [copy.deepcopy(c) for c in self.critics]

    def train_step(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        next_action: Tensor,
        normal: Tensor,
    ) -> dict[str, float]:
        """One critic step and, every policy_freq steps, one of actor and targets; `normal` [B, A].

        The losses before their steps.
        """
        self.t += 1
        with torch.no_grad():
            noise = torch.clamp(normal * self.policy_noise, -self.noise_clip, self.noise_clip)
            policy_action = self.target_actor(next_obs) + noise
            policy_action = torch.clamp(policy_action, -self.max_action, self.max_action)
            critic_penalty = ((policy_action - next_action) ** 2).sum(1)
            next_q = torch.min(*(t(next_obs, policy_action) for t in self.target_critics))
            next_value = next_q - self.beta_2 * critic_penalty
            y = reward + self.gamma * (1 - terminated) * next_value
        critic_loss, qs = 0.0, []
        for critic, optimizer in zip(self.critics, self.critic_optimizers, strict=True):
            q = critic(obs, action)
            loss = ((q - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            critic_loss += loss.item()
            qs.append(q.detach())
        stats = {
            "critic_loss": critic_loss,
            "critic_penalty": critic_penalty.mean().item(),
            "q_mean": torch.stack(qs).mean().item(),
        }
        if self.t % self.policy_freq:
            return stats

        new_action = self.actor(obs)
        actor_penalty = ((new_action - action) ** 2).sum(1)
        q = torch.min(*(c(obs, new_action) for c in self.critics))
        lmbda = 1 / q.abs().mean().detach()
        actor_loss = (self.beta_1 * actor_penalty - lmbda * q).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        for target, critic in zip(self.target_critics, self.critics, strict=True):
            update_target(target, critic, self.tau)
        update_target(self.target_actor, self.actor, self.tau)
        return stats | {
            "actor_loss": actor_loss.item(),
            "actor_penalty": actor_penalty.mean().item(),
        }
