"""CRR with discrete actions as a plain loop, from Algorithm 1 of Wang et al. 2020, one sample after
the other; with CQL's term where its weight is not 0.
"""

import copy
import math
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

    def weight(self, advantage: float) -> float:
        if self.mode == "exp":
            return min(math.exp(advantage / self.beta), self.max_weight)
        return {"binary": float(advantage > 0), "all": 1.0}[self.mode]

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
        all_logits, all_q = self.net(obs)
        actor, critic, gap, weights, values = [], [], [], [], []
        for logits, q, a, target in zip(all_logits, all_q, action, y, strict=True):
            pi = torch.softmax(logits, 0)
            advantage = q[a].item() - sum(p.item() * x.item() for p, x in zip(pi, q, strict=True))
            weights.append(self.weight(advantage))
            actor.append(-weights[-1] * torch.log(pi[a]))
            critic.append((q[a] - target) ** 2 / 2)
            gap.append(torch.log(torch.exp(q).sum()) - q[a])
            values.append(q[a].item())
        actor_loss, critic_loss, cql_loss = (torch.stack(x).mean() for x in (actor, critic, gap))
        loss = actor_loss + critic_loss + self.min_q_weight * cql_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {
            "actor_loss": actor_loss.item(),
            "critic_loss": critic_loss.item(),
            "cql_loss": cql_loss.item(),
            "weight_mean": sum(weights) / len(weights),
            "q_mean": sum(values) / len(values),
        }
