"""Soft actor-critic as a plain loop, from Algorithm 1 of Haarnoja et al. 2018 (1812.05905)."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution
from torch.nn import functional as F

from .networks import Critic, mlp, update_target


class GaussianActor(nn.Module):
    """(a, log pi(a|s)) with a in [-1, 1]^A, from the normal noise that makes the sample."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = mlp((obs_dim, *hidden, 2 * action_dim))

    def forward(self, obs: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(obs).chunk(2, 1)
        std = log_std.clamp(-20, 2).exp()
        # the cache hands log_prob the sample before tanh, from which it could not be recovered
        squash = TanhTransform(cache_size=1)
        action = squash(mean + std * normal)
        policy = TransformedDistribution(Normal(mean, std), [squash])
        return action, policy.log_prob(action).sum(1)


class SAC:
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        max_action: float,
        gamma: float,
        tau: float,
        actor_lr: float,
        critic_lr: float,
        alpha_lr: float,
        hidden: Sequence[int],
    ) -> None:
        self.actor = GaussianActor(obs_dim, action_dim, hidden)
        self.critics = [Critic(obs_dim, action_dim, hidden) for _ in range(2)]
        self.copy_targets()
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=actor_lr)
        self.critic_optimizers = [
            torch.optim.Adam(c.parameters(), lr=critic_lr) for c in self.critics
        ]
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=alpha_lr)
        self.max_action, self.gamma, self.tau = max_action, gamma, tau
        self.target_entropy = -action_dim

    def copy_targets(self) -> None:
        self.targets = [copy.deepcopy(c) for c in self.critics]

    def train_step(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        next_normal: Tensor,
        normal: Tensor,
    ) -> dict[str, float]:
        """One step of everything; the losses before their steps."""
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            next_action, next_log_prob = self.actor(next_obs, next_normal)
            next_q = torch.min(*(c(next_obs, self.max_action * next_action) for c in self.targets))
            y = reward + self.gamma * (1 - terminated) * (next_q - alpha * next_log_prob)
        qs = [c(obs, action) for c in self.critics]
        losses = [0.5 * F.mse_loss(q, y) for q in qs]
        for loss, optimizer in zip(losses, self.critic_optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        new_action, log_prob = self.actor(obs, normal)
        q = torch.min(*(c(obs, self.max_action * new_action) for c in self.critics))
        actor_loss = (alpha * log_prob - q).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()

        alpha_loss = (-self.log_alpha.exp() * (log_prob.detach() + self.target_entropy)).mean()
        self.alpha_optimizer.zero_grad()
        alpha_loss.backward()
        self.alpha_optimizer.step()
        for target, critic in zip(self.targets, self.critics, strict=True):
            update_target(target, critic, self.tau)
        return {
            "critic_loss": sum(loss.item() for loss in losses),
            "actor_loss": actor_loss.item(),
            "alpha": alpha.item(),
            "entropy": -log_prob.mean().item(),
            "q_mean": torch.stack(qs).mean().item(),
        }
