"""QR-DQN, Dabney et al. 2018 (arXiv 1710.10044): DQN with quantiles of the return.

Online: it makes the suite's own Atari data.  Deviations: with `double`, the online network chooses
the action of the target (van Hasselt et al. 2016); n-step returns come with the batch; the start of
the CNN (docs/decisions/0005).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor

from offrl.nn.discrete import copied_every, epsilon_greedy, of_actions
from offrl.nn.quantile import QuantileCritic, quantile_huber
from offrl.optim import AdamState, adam, adam_init
from offrl.types import Spec, Transition, value_and_grad


class State(NamedTuple):
    critic: Tensor
    target_critic: Tensor
    critic_opt: AdamState


class Noise(NamedTuple):
    """QR-DQN consumes none."""


class Stats(NamedTuple):
    critic_loss: Tensor
    q_mean: Tensor


@dataclass(frozen=True)
class QRDQN:
    spec: Spec
    n_quantiles: int
    kappa: float
    double: bool
    target_period: int
    lr: float
    adam_eps: float
    eps_start: float
    eps_end: float
    eps_steps: int
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

    def loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Tensor]:
        """The quantile Huber loss of y [B, N], eq. 10, and the mean of Q(s, a)."""
        z = of_actions(self.critic(theta, b.obs), b.action)
        return quantile_huber(z, y, self.kappa), z.mean()

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        target = copied_every(self.target_period, s.critic_opt.t, s.target_critic, s.critic)
        y = self.critic.td_target(target, s.critic if self.double else target, b)
        loss, q, grad = value_and_grad(lambda theta: self.loss(theta, b, y), s.critic)
        critic, opt = adam(s.critic, grad, s.critic_opt, self.lr, self.adam_eps)
        return State(critic, target, opt), Stats(loss, q)

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return epsilon_greedy(self.critic.q(s.critic, obs), self.eps_test, noise[:, 0])

    def explore(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        """Epsilon goes from eps_start to eps_end in the first eps_steps gradient steps."""
        progress = (s.critic_opt.t / self.eps_steps).clamp(max=1)
        epsilon = self.eps_start + (self.eps_end - self.eps_start) * progress
        return epsilon_greedy(self.critic.q(s.critic, obs), epsilon, noise[:, 0])
