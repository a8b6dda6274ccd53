"""TD3+BC, Fujimoto & Gu 2021 (arXiv 2106.06860), on TD3, Fujimoto et al. 2018 (arXiv 1802.09477).

Deviations: none from the authors' code; where the paper's equations differ from it, lambda looks at
Q(s, pi(s)), not at Q(s, a), and the cloning term is a mean over dimensions, not a sum.

One call of update is `period` critic steps (the paper's policy frequency d) and then one step of
actor and targets, so the delayed actor needs no branch.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor, randn
from torch.nn import functional as F

from offrl.nn.heads import Critic, DeterministicActor
from offrl.optim import AdamState, adam, adam_init, polyak
from offrl.types import Spec, Transition, minibatches, value_and_grad


class State(NamedTuple):
    actor: Tensor
    critic: Tensor  # [2, P]
    target_actor: Tensor
    target_critic: Tensor
    actor_opt: AdamState
    critic_opt: AdamState


class Noise(NamedTuple):
    target: Tensor  # standard normal [period * B, A], smooths the target policy


class Stats(NamedTuple):
    critic_loss: Tensor
    actor_loss: Tensor
    bc_loss: Tensor
    q_mean: Tensor


@dataclass(frozen=True)
class TD3BC:
    spec: Spec
    alpha: float
    tau: float
    actor_lr: float
    critic_lr: float
    policy_noise: float
    noise_clip: float
    period: int
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = True
    policy_fields: ClassVar[tuple[str, ...]] = ("actor",)
    act_noise_dim: ClassVar[int] = 0

    @property
    def actor(self) -> DeterministicActor:
        return DeterministicActor(self.spec, self.hidden)

    @property
    def critic(self) -> Critic:
        return Critic(self.spec, self.hidden)

    def init(self, g: Generator) -> State:
        actor, critic = self.actor.init(g), self.critic.init(g, 2)
        return State(
            actor, critic, actor.clone(), critic.clone(), adam_init(actor), adam_init(critic)
        )

    def noise(self, n: int, g: Generator) -> Noise:
        rows = self.period * self.spec.batch_size
        return Noise(randn(n, rows, self.spec.action_dim, generator=g, device=g.device))

    def td_target(self, s: State, b: Transition, eps: Tensor) -> Tensor:
        """y = r + gamma min_i Q'_i(s', pi'(s') + clip(eps)), TD3 Algorithm 1. [B]"""
        limit = self.spec.max_action
        smoothing = (self.policy_noise * limit * eps).clamp(
            -self.noise_clip * limit, self.noise_clip * limit
        )
        action = (self.actor(s.target_actor, b.next_obs) + smoothing).clamp(-limit, limit)
        q = self.critic(s.target_critic, b.next_obs, action)
        return b.reward + b.discount * q.amin(0)

    def critic_loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i mean (Q_i(s, a) - y)^2, and the mean of Q."""
        q = self.critic(theta, b.obs, b.action)
        return (q - y).square().mean(1).sum(), q.mean()

    def actor_loss(self, theta: Tensor, critic: Tensor, b: Transition) -> tuple[Tensor, Tensor]:
        """-lambda Q_1(s, pi(s)) + (pi(s) - a)^2, eq. 3; lambda = alpha / mean |Q_1|, eq. 5."""
        action = self.actor(theta, b.obs)
        q = self.critic(critic[0], b.obs, action)
        lmbda = self.alpha / q.detach().abs().mean()
        bc = F.mse_loss(action, b.action)
        return bc - lmbda * q.mean(), bc

    def update(self, s: State, batch: Transition, noise: Noise) -> tuple[State, Stats]:
        eps = noise.target.chunk(self.period)
        batches = minibatches(batch, self.period)
        for b, e in zip(batches, eps, strict=True):
            y = self.td_target(s, b, e)
            critic_loss, q, grad = value_and_grad(
                lambda theta, b=b, y=y: self.critic_loss(theta, b, y), s.critic
            )
            critic, opt = adam(s.critic, grad, s.critic_opt, self.critic_lr)
            s = s._replace(critic=critic, critic_opt=opt)

        actor_loss, bc, grad = value_and_grad(
            lambda theta: self.actor_loss(theta, s.critic, batches[-1]), s.actor
        )
        actor, opt = adam(s.actor, grad, s.actor_opt, self.actor_lr)
        s = s._replace(
            actor=actor,
            actor_opt=opt,
            target_actor=polyak(s.target_actor, actor, self.tau),
            target_critic=polyak(s.target_critic, s.critic, self.tau),
        )
        return s, Stats(critic_loss, actor_loss, bc, q)

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return self.actor(s.actor, obs)
