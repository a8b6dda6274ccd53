"""CQL with discrete actions, Kumar et al. 2020 (arXiv 2006.04779): CQL(H) on QR-DQN.

Deviations: the start of the CNN (docs/decisions/0005); rewards are the data's, unclipped
unless the data has them clipped.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor

from offrl.nn.discrete import conservative_gap, copied_every, epsilon_greedy, of_actions
from offrl.nn.quantile import QuantileCritic, quantile_huber
from offrl.optim import AdamState, adam, adam_init
from offrl.types import Spec, Transition, value_and_grad


class State(NamedTuple):
    critic: Tensor
    target_critic: Tensor
    critic_opt: AdamState


class Noise(NamedTuple):
    """Discrete CQL consumes none."""


class Stats(NamedTuple):
    critic_loss: Tensor  # of the quantiles
    cql_loss: Tensor  # before its weight
    q_mean: Tensor


@dataclass(frozen=True)
class DiscreteCQL:
    spec: Spec
    min_q_weight: float
    n_quantiles: int
    kappa: float
    double: bool
    target_period: int
    lr: float
    adam_eps: float
    eps_test: float
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = False
    policy_fields: ClassVar[tuple[str, ...]] = ("critic",)
    act_noise_dim: ClassVar[int] = 1
    period: ClassVar[int] = 1

    @property
    def critic(self) -> QuantileCritic:
        return QuantileCritic(self.spec, self.n_quantiles, self.hidden)

    def init(self, g: Generator) -> State:
        critic = self.critic.init(g)
        return State(critic, critic.clone(), adam_init(critic))

    def noise(self, n: int, g: Generator) -> Noise:
        return Noise()

    def loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Stats]:
        """alpha (logsumexp_a Q(s, a) - Q(s, a_data)), eq. 4, and QR-DQN's loss of y [B, N]."""
        z = self.critic(theta, b.obs)
        q, z = z.mean(-1), of_actions(z, b.action)
        td, gap = quantile_huber(z, y, self.kappa), conservative_gap(q, b.action)
        return self.min_q_weight * gap + td, Stats(td, gap, z.mean())

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        target = copied_every(self.target_period, s.critic_opt.t, s.target_critic, s.critic)
        y = self.critic.td_target(target, s.critic if self.double else target, b)
        _, stats, grad = value_and_grad(lambda theta: self.loss(theta, b, y), s.critic)
        critic, opt = adam(s.critic, grad, s.critic_opt, self.lr, self.adam_eps)
        return State(critic, target, opt), stats

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return epsilon_greedy(self.critic.q(s.critic, obs), self.eps_test, noise[:, 0])
