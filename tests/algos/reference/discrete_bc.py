"""Behaviour cloning with discrete actions as a plain loop."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .discrete_networks import Net


class DiscreteBC:
    def __init__(
        self, obs_shape: Sequence[int], n_actions: int, *, lr: float, hidden: Sequence[int]
    ) -> None:
        self.actor = Net(obs_shape, hidden, (n_actions,))
        self.optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr)

    def train_step(self, obs: Tensor, action: Tensor) -> dict[str, float]:
        """The loss before the step, and how often the likeliest action was the data's."""
        (logits,) = self.actor(obs)
        loss = nn.CrossEntropyLoss()(logits, action)
        right = sum(int(row.argmax()) == int(a) for row, a in zip(logits, action, strict=True))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"actor_loss": loss.item(), "accuracy": right / len(obs)}
