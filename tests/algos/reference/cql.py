"""Conservative Q-learning as a plain loop, from Kumar et al. 2020 (2006.04779) and, for the
calibration, Nakamoto et al. 2023 (2303.05479).

Every network, critic and sampled action has its own call; the randomness is handed in.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from .networks import Critic, update_target
from .sac import GaussianActor


class CQL:
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        max_action: float,
        *,
        gamma: float,
        tau: float,
        actor_lr: float,
        critic_lr: float,
        hidden: Sequence[int],
        min_q_weight: float,
        lagrange_threshold: float | None,
        calibrated: bool,
        n_actions: int,
        backup_entropy: bool,
        bc_steps: int,
        max_grad_norm: float | None,
    ) -> None:
        self.actor = GaussianActor(obs_dim, action_dim, hidden)
        self.critics = [Critic(obs_dim, action_dim, hidden) for _ in range(2)]
        self.copy_targets()
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.log_multiplier = torch.zeros((), requires_grad=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=actor_lr)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=actor_lr)
        self.multiplier_optimizer = torch.optim.Adam([self.log_multiplier], lr=critic_lr)
        self.critic_optimizers = [
            torch.optim.Adam(c.parameters(), lr=critic_lr) for c in self.critics
        ]
        self.action_dim, self.max_action, self.gamma, self.tau = action_dim, max_action, gamma, tau
        self.min_q_weight, self.lagrange_threshold = min_q_weight, lagrange_threshold
        self.calibrated, self.n_actions, self.bc_steps = calibrated, n_actions, bc_steps
        self.backup_entropy, self.max_grad_norm = backup_entropy, max_grad_norm
        self.t = 0

    def copy_targets(self) -> None:
        self.targets = [copy.deepcopy(c) for c in self.critics]

    def train_step(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        return_to_go: Tensor,
        uniform: Sequence[Tensor],
        policy_normals: Sequence[Tensor],
        next_policy_normals: Sequence[Tensor],
        next_normal: Tensor,
        normal: Tensor,
    ) -> dict[str, float]:
        """One step of everything; all losses are those before any of the steps.

        `uniform` in [0, 1) and the two lists of normals [B, A] make the actions pushed down.
        """
        alpha = self.log_alpha.exp().detach()

        # the actor
        new_action, log_prob = self.actor(obs, normal)
        value = torch.min(*(c(obs, self.max_action * new_action) for c in self.critics))
        if self.t < self.bc_steps:
            value = self.data_log_prob(obs, action)
        actor_loss = (alpha * log_prob - value).mean()
        alpha_loss = -(self.log_alpha * (log_prob.detach() - self.action_dim)).mean()

        # the targets
        with torch.no_grad():
            next_action, next_log_prob = self.actor(next_obs, next_normal)
            y = torch.min(*(c(next_obs, self.max_action * next_action) for c in self.targets))
            if self.backup_entropy:
                y = y - alpha * next_log_prob
            y = reward + self.gamma * (1 - terminated) * y

        # the critics
        multiplier = self.log_multiplier.exp()
        qs, td_losses, gaps, critic_losses = [], [], [], []
        for critic in self.critics:
            values = []
            for k in range(self.n_actions):
                random_action = -self.max_action + 2 * self.max_action * uniform[k]
                density = 0.5**self.action_dim  # of the action divided by max_action
                values.append(critic(obs, random_action) - math.log(density))
            for state, normals in ((obs, policy_normals), (next_obs, next_policy_normals)):
                for k in range(self.n_actions):
                    with torch.no_grad():
                        sampled, sampled_log_prob = self.actor(state, normals[k])
                    q = critic(obs, self.max_action * sampled)
                    if self.calibrated:
                        q = torch.max(q, return_to_go)
                    values.append(q - sampled_log_prob)
            assert len(values) == 3 * self.n_actions
            q_data = critic(obs, action)
            qs.append(q_data)
            gaps.append((torch.logsumexp(torch.stack(values, 1), 1) - q_data).mean())
            td_losses.append(F.mse_loss(q_data, y))
            weight = self.min_q_weight * multiplier.detach()  # which stays 1 without a threshold
            critic_losses.append(td_losses[-1] + weight * gaps[-1])

        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        for critic, optimizer, loss in zip(
            self.critics, self.critic_optimizers, critic_losses, strict=True
        ):
            optimizer.zero_grad()
            loss.backward()
            if self.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(critic.parameters(), self.max_grad_norm)
            optimizer.step()
        self.alpha_optimizer.zero_grad()
        alpha_loss.backward()
        self.alpha_optimizer.step()
        if self.lagrange_threshold is not None:
            excess = [self.min_q_weight * g.detach() - self.lagrange_threshold for g in gaps]
            multiplier_loss = -0.5 * (multiplier * excess[0] + multiplier * excess[1])
            self.multiplier_optimizer.zero_grad()
            multiplier_loss.backward()
            self.multiplier_optimizer.step()
        for target, critic in zip(self.targets, self.critics, strict=True):
            update_target(target, critic, self.tau)
        self.t += 1
        return {
            "critic_loss": sum(loss.item() for loss in critic_losses),
            "td_loss": sum(loss.item() for loss in td_losses),
            "gap": sum(g.item() for g in gaps) / 2,
            "actor_loss": actor_loss.item(),
            "alpha": alpha.item(),
            "entropy": -log_prob.mean().item(),
            "multiplier": multiplier.item(),
            "q_mean": torch.stack(qs).mean().item(),
        }

    def data_log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """log pi of the data's actions, divided by max_action, by the change of variables."""
        mean, log_std = self.actor.net(obs).chunk(2, 1)
        x = torch.clamp(action / self.max_action, -1 + 1e-6, 1 - 1e-6)
        log_normal = Normal(mean, log_std.clamp(-20, 2).exp()).log_prob(torch.atanh(x))
        return (log_normal - torch.log(1 - x**2)).sum(1)
