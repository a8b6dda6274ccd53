"""TD3+BC as a plain loop, from Fujimoto & Gu 2021 and Algorithm 1 of Fujimoto et al. 2018.

train() is the whole training, for comparing scores; TD3BC.train_step() is one step of it with the
randomness handed in, for comparing numbers.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .networks import Actor, Critic, update_target


class Batch(NamedTuple):
    obs: Tensor  # [B, D]
    action: Tensor  # [B, A]
    reward: Tensor  # [B]
    next_obs: Tensor  # [B, D]
    terminated: Tensor  # [B], 1 where the episode ended in a terminal state (not in a time-out)


class TD3BC:
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        max_action: float,
        *,
        alpha: float = 2.5,
        gamma: float = 0.99,
        tau: float = 0.005,
        actor_lr: float = 3e-4,
        critic_lr: float = 3e-4,
        policy_noise: float = 0.2,
        noise_clip: float = 0.5,
        policy_freq: int = 2,
        hidden: Sequence[int] = (256, 256),
    ) -> None:
        self.actor = Actor(obs_dim, action_dim, max_action, hidden)
        self.critic_1 = Critic(obs_dim, action_dim, hidden)
        self.critic_2 = Critic(obs_dim, action_dim, hidden)
        self.copy_targets()
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=actor_lr)
        self.critic_optimizer = torch.optim.Adam(
            [*self.critic_1.parameters(), *self.critic_2.parameters()], lr=critic_lr
        )
        self.max_action, self.alpha, self.gamma, self.tau = max_action, alpha, gamma, tau
        self.policy_noise, self.noise_clip = policy_noise * max_action, noise_clip * max_action
        self.policy_freq, self.t = policy_freq, 0

    def copy_targets(self) -> None:
        """The targets become copies of the networks, as they are at the start."""
        self.target_actor = copy.deepcopy(self.actor)
        self.target_critic_1 = copy.deepcopy(self.critic_1)
        self.target_critic_2 = copy.deepcopy(self.critic_2)

    def train_step(self, b: Batch, normal: Tensor) -> dict[str, float]:
        """One critic step and, every policy_freq steps, one of actor and targets; `normal` [B, A].

        The losses before their steps.
        """
        self.t += 1
        with torch.no_grad():
            noise = (normal * self.policy_noise).clamp(-self.noise_clip, self.noise_clip)
            next_action = self.target_actor(b.next_obs) + noise
            next_action = next_action.clamp(-self.max_action, self.max_action)
            next_q = torch.min(
                self.target_critic_1(b.next_obs, next_action),
                self.target_critic_2(b.next_obs, next_action),
            )
            y = b.reward + (1 - b.terminated) * self.gamma * next_q
        q_1, q_2 = self.critic_1(b.obs, b.action), self.critic_2(b.obs, b.action)
        critic_loss = F.mse_loss(q_1, y) + F.mse_loss(q_2, y)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        stats = {"critic_loss": critic_loss.item(), "q_mean": (q_1 + q_2).mean().item() / 2}
        if self.t % self.policy_freq:
            return stats

        action = self.actor(b.obs)
        q = self.critic_1(b.obs, action)
        lmbda = self.alpha / q.abs().mean().detach()
        bc_loss = F.mse_loss(action, b.action)
        actor_loss = -lmbda * q.mean() + bc_loss
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        update_target(self.target_critic_1, self.critic_1, self.tau)
        update_target(self.target_critic_2, self.critic_2, self.tau)
        update_target(self.target_actor, self.actor, self.tau)
        return stats | {"actor_loss": actor_loss.item(), "bc_loss": bc_loss.item()}


Array = NDArray[np.float32]


def train(
    obs: Array,
    action: Array,
    reward: Array,
    next_obs: Array,
    terminated: Array,
    n_updates: int,
    seed: int,
    max_action: float = 1.0,
    batch_size: int = 256,
    **hyperparameters: Any,
) -> Actor:
    """The actor after n_updates critic steps on float32 arrays [N, ...].

    Observations are used as they come: normalise both columns first, as the paper does.
    """
    data = Batch(*(torch.as_tensor(x) for x in (obs, action, reward, next_obs, terminated)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        algo = TD3BC(obs.shape[1], action.shape[1], max_action, **hyperparameters)
        for _ in range(n_updates):
            rows = torch.randint(len(data.obs), (batch_size,))
            algo.train_step(Batch(*(x[rows] for x in data)), torch.randn_like(data.action[rows]))
    return algo.actor
