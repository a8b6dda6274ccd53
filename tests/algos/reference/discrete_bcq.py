"""Discrete BCQ as a plain loop, from Algorithm 1 of Fujimoto et al. 2019."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .discrete_networks import Net


class DiscreteBCQ:
    def __init__(
        self,
        obs_shape: Sequence[int],
        n_actions: int,
        *,
        threshold: float,
        logits_penalty: float,
        target_period: int,
        lr: float,
        adam_eps: float,
        hidden: Sequence[int],
    ) -> None:
        self.critic = Net(obs_shape, hidden, (n_actions, n_actions))
        self.target = copy.deepcopy(self.critic)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=lr, eps=adam_eps)
        self.threshold, self.logits_penalty = threshold, logits_penalty
        self.target_period, self.t = target_period, 0

    def select(self, obs: Tensor) -> Tensor:
        """The likely action with the highest value."""
        q, logits = self.critic(obs)
        g = torch.softmax(logits, 1)
        likely = (g / g.max(1, keepdim=True).values > self.threshold).to(q.dtype)
        return (likely * q + (1 - likely) * -1e8).argmax(1)

    def train_step(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, discount: Tensor
    ) -> dict[str, float]:
        """The losses before the step."""
        if self.t % self.target_period == 0:
            self.target.load_state_dict(self.critic.state_dict())
        self.t += 1
        with torch.no_grad():
            next_q = self.target(next_obs)[0]
            next_action = self.select(next_obs)
            y = reward + discount * next_q[range(len(obs)), next_action]
        q, logits = self.critic(obs)
        q = q[range(len(obs)), action]
        error = (q - y).abs()
        td = torch.where(error < 1, error**2 / 2, error - 0.5).mean()
        bc = nn.NLLLoss()(torch.log_softmax(logits, 1), action)
        penalty = (logits**2).sum() / math.prod(logits.shape)
        loss = td + bc + self.logits_penalty * penalty
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {
            "critic_loss": td.item(),
            "bc_loss": bc.item(),
            "logits_penalty": penalty.item(),
            "q_mean": q.mean().item(),
        }
