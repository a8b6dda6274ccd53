"""CRR with discrete actions as a plain loop, from Algorithm 1 of Wang et al. 2020; with CQL's term
if that has a weight.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from .discrete_networks import Net


class DiscreteCRR:
    def __init__(
        self,
        obs_shape: Sequence[int],
        n_actions: int,
        *,
        mode: str,
        beta: float,
        max_weight: float,
        min_q_weight: float,
        target_period: int,
        lr: float,
        hidden: Sequence[int],
    ) -> None:
        self.net = Net(obs_shape, hidden, (n_actions, n_actions))  # actor and critic
        self.target = copy.deepcopy(self.net)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr)
        self.mode, self.beta, self.max_weight = mode, beta, max_weight
        self.min_q_weight, self.target_period, self.t = min_q_weight, target_period, 0

    def weight(self, advantage: Tensor) -> Tensor:
        if self.mode == "exp":
            return torch.exp(advantage / self.beta).clamp(0, self.max_weight)
        return {"binary": (advantage > 0) * 1.0, "all": advantage * 0 + 1}[self.mode]

    def train_step(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, discount: Tensor
    ) -> dict[str, float]:
        """The losses before the step."""
        if self.t % self.target_period == 0:
            self.target.load_state_dict(self.net.state_dict())
        self.t += 1
        with torch.no_grad():
            next_logits, next_q = self.target(next_obs)
            y = reward + discount * (torch.softmax(next_logits, 1) * next_q).sum(1)
        logits, q = self.net(obs)
        pi, q_data = torch.softmax(logits, 1), q.gather(1, action[:, None])[:, 0]
        with torch.no_grad():
            weight = self.weight(q_data - (pi * q).sum(1))
        log_pi = torch.log(pi.gather(1, action[:, None])[:, 0])
        actor_loss = (-log_pi * weight).mean()
        critic_loss = ((q_data - y) ** 2).mean() / 2
        cql_loss = (torch.log(torch.exp(q).sum(1)) - q_data).mean()
        loss = actor_loss + critic_loss + self.min_q_weight * cql_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {
            "actor_loss": actor_loss.item(),
            "critic_loss": critic_loss.item(),
            "cql_loss": cql_loss.item(),
            "weight_mean": weight.mean().item(),
            "q_mean": q_data.mean().item(),
        }
