"""Discrete BCQ, Fujimoto et al. 2019 (arXiv 1910.01708): double DQN that chooses among the actions
which a model of the data finds likely.

The penalty on the model's logits is the authors' code's.  Deviations: the data's rewards are taken
as they are, the authors clip them to [-1, 1]; pixels are divided by 255, which the authors' code
does not; the start of the CNN (docs/decisions/0005).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from offrl.errors import UserError
from offrl.nn.cnn import HeadedNet
from offrl.nn.discrete import copied_every, epsilon_greedy, of_actions
from offrl.optim import AdamState, adam, adam_init
from offrl.types import Spec, Transition, value_and_grad


class State(NamedTuple):
    critic: Tensor  # Q and the model, which share a body
    target_critic: Tensor
    critic_opt: AdamState


class Noise(NamedTuple):
    """Discrete BCQ consumes none."""


class Stats(NamedTuple):
    critic_loss: Tensor
    bc_loss: Tensor
    logits_penalty: Tensor  # before its weight
    q_mean: Tensor


@dataclass(frozen=True)
class DiscreteBCQ:
    spec: Spec
    threshold: float
    logits_penalty: float
    target_period: int
    lr: float
    adam_eps: float
    eps_test: float
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = False
    policy_fields: ClassVar[tuple[str, ...]] = ("critic",)
    act_noise_dim: ClassVar[int] = 1
    period: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:  # from 1 on no action would be likely
            raise UserError(f"algo.threshold={self.threshold}: must lie in [0, 1)")

    @property
    def net(self) -> HeadedNet:
        n = self.spec.action_dim
        return HeadedNet(self.spec.obs_shape, self.hidden, (n, n))

    def init(self, g: Generator) -> State:
        critic = self.net.init(g)
        return State(critic, critic.clone(), adam_init(critic))

    def noise(self, n: int, g: Generator) -> Noise:
        return Noise()

    def likely_q(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Q(s, a) where G(a|s) / max_a G(a|s) > tau, else -inf. [B, A]"""
        q, logits = self.net(theta, obs)
        ratio = (logits - logits.amax(-1, keepdim=True)).exp()
        return torch.where(ratio > self.threshold, q, -torch.inf)

    def td_target(self, s: State, target: Tensor, b: Transition) -> Tensor:
        """y = r + gamma Q'(s', argmax over the likely a of Q(s', a)), Algorithm 1. [B]"""
        action = self.likely_q(s.critic, b.next_obs).argmax(-1)
        q, _ = self.net(target, b.next_obs)
        return b.reward + b.discount * of_actions(q, action)

    def loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Stats]:
        """huber(Q(s, a) - y) - log G(a|s), Algorithm 1, and the penalty on G's logits."""
        q, logits = self.net(theta, b.obs)
        q = of_actions(q, b.action)
        td, bc = F.smooth_l1_loss(q, y), F.cross_entropy(logits, b.action)
        penalty = logits.square().mean()
        return td + bc + self.logits_penalty * penalty, Stats(td, bc, penalty, q.mean())

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        target = copied_every(self.target_period, s.critic_opt.t, s.target_critic, s.critic)
        y = self.td_target(s, target, b)
        _, stats, grad = value_and_grad(lambda theta: self.loss(theta, b, y), s.critic)
        critic, opt = adam(s.critic, grad, s.critic_opt, self.lr, self.adam_eps)
        return State(critic, target, opt), stats

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return epsilon_greedy(self.likely_q(s.critic, obs), self.eps_test, noise[:, 0])
