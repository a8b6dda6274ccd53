"""Critic regularized regression with discrete actions, Wang et al. 2020 (arXiv 2006.15134).

With few actions both expectations over the policy, in advantage and target, are exact.
Deviations: the critic is not distributional; actor and critic share a body, and one Adam; the start
of the CNN (docs/decisions/0005); with min_q_weight, the critic has CQL's term (Kumar et al. 2020).
Evaluation follows the policy alone; the paper re-weights its samples by exp(Q / beta).  Rewards are
the data's, unclipped unless the data has them clipped.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from offrl.errors import UserError
from offrl.nn.cnn import HeadedNet
from offrl.nn.discrete import categorical, conservative_gap, copied_every, of_actions
from offrl.optim import AdamState, adam, adam_init
from offrl.types import Spec, Transition, value_and_grad

MODES = ("exp", "binary", "all")


class State(NamedTuple):
    actor_critic: Tensor
    target_actor_critic: Tensor
    actor_critic_opt: AdamState


class Noise(NamedTuple):
    """Discrete CRR consumes none."""


class Stats(NamedTuple):
    actor_loss: Tensor
    critic_loss: Tensor
    cql_loss: Tensor  # before its weight
    weight_mean: Tensor  # of the regression
    q_mean: Tensor


@dataclass(frozen=True)
class DiscreteCRR:
    """Raises UserError for a mode that there is not."""

    spec: Spec
    mode: str
    beta: float
    max_weight: float
    min_q_weight: float
    target_period: int
    lr: float
    sample: bool
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = False
    policy_fields: ClassVar[tuple[str, ...]] = ("actor_critic",)
    period: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"algo.mode={self.mode}: must be one of {', '.join(MODES)}")
        if self.beta <= 0:
            raise UserError(f"algo.beta={self.beta}: must be more than 0")

    @property
    def act_noise_dim(self) -> int:
        return self.spec.action_dim if self.sample else 0

    @property
    def net(self) -> HeadedNet:
        """pi's logits and Q."""
        n = self.spec.action_dim
        return HeadedNet(self.spec.obs_shape, self.hidden, (n, n))

    def init(self, g: Generator) -> State:
        theta = self.net.init(g)
        return State(theta, theta.clone(), adam_init(theta))

    def noise(self, n: int, g: Generator) -> Noise:
        return Noise()

    def td_target(self, target: Tensor, b: Transition) -> Tensor:
        """y = r + gamma E_{a ~ pi'(.|s')} Q'(s', a), Algorithm 1. [B]"""
        logits, q = self.net(target, b.next_obs)
        return b.reward + b.discount * expected(q, logits)

    def weight(self, advantage: Tensor) -> Tensor:
        """f of the advantages [B], eqs. 3 and 4."""
        if self.mode == "exp":
            return (advantage / self.beta).exp().clamp(max=self.max_weight)
        if self.mode == "binary":
            return (advantage > 0).to(advantage.dtype)
        return torch.ones_like(advantage)

    def actor_loss(self, logits: Tensor, q: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """mean f(A(s, a)) (-log pi(a|s)), eq. 2, and the mean of f, through which no gradient
        goes; A(s, a) = Q(s, a) - E_{a' ~ pi} Q(s, a').
        """
        advantage = of_actions(q, action) - expected(q, logits)
        f = self.weight(advantage.detach())
        return -(f * of_actions(logits.log_softmax(-1), action)).mean(), f.mean()

    def loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Stats]:
        logits, q = self.net(theta, b.obs)
        actor_loss, weight = self.actor_loss(logits, q, b.action)
        of_data = of_actions(q, b.action)
        td, gap = 0.5 * (of_data - y).square().mean(), conservative_gap(q, b.action)
        stats = Stats(actor_loss, td, gap, weight, of_data.mean())
        return actor_loss + td + self.min_q_weight * gap, stats

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        theta = s.actor_critic
        t, target = s.actor_critic_opt.t, s.target_actor_critic
        target = copied_every(self.target_period, t, target, theta)
        y = self.td_target(target, b)
        _, stats, grad = value_and_grad(lambda x: self.loss(x, b, y), theta)
        theta, opt = adam(theta, grad, s.actor_critic_opt, self.lr)
        return State(theta, target, opt), stats

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        logits, _ = self.net(s.actor_critic, obs)
        return categorical(logits, noise) if self.sample else logits.argmax(-1)


def expected(q: Tensor, logits: Tensor) -> Tensor:
    """E_{a ~ softmax(logits)} q(a): [B, A] -> [B]"""
    return (logits.softmax(-1) * q).sum(-1)
