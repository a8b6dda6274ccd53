"""Behaviour cloning as a plain loop."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .networks import Actor


class BC:
    def __init__(
        self, obs_dim: int, action_dim: int, max_action: float, lr: float, hidden: Sequence[int]
    ) -> None:
        self.actor = Actor(obs_dim, action_dim, max_action, hidden)
        self.optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr)

    def train_step(self, obs: Tensor, action: Tensor) -> float:
        """The loss before the step."""
        loss: Tensor = ((self.actor(obs) - action) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()
