"""Soft actor-critic, Haarnoja et al. 2018 (arXiv 1812.05905, with the learned temperature).

Online: it makes the suite's own data.  Deviations: none.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, randn

from offrl.nn.heads import Critic, GaussianActor
from offrl.optim import AdamState, adam, adam_init, polyak
from offrl.types import Spec, Transition, value_and_grad


class State(NamedTuple):
    actor: Tensor
    critic: Tensor  # [2, P]
    target_critic: Tensor
    log_alpha: Tensor
    actor_opt: AdamState
    critic_opt: AdamState
    alpha_opt: AdamState


class Noise(NamedTuple):
    next_action: Tensor  # standard normal [B, A]
    action: Tensor  # standard normal [B, A]


class Stats(NamedTuple):
    critic_loss: Tensor
    actor_loss: Tensor
    alpha: Tensor
    entropy: Tensor
    q_mean: Tensor


@dataclass(frozen=True)
class SAC:
    spec: Spec
    tau: float
    actor_lr: float
    critic_lr: float
    alpha_lr: float
    initial_alpha: float
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = True
    policy_fields: ClassVar[tuple[str, ...]] = ("actor",)
    act_noise_dim: ClassVar[int] = 0
    period: ClassVar[int] = 1

    @property
    def actor(self) -> GaussianActor:
        return GaussianActor(self.spec, self.hidden)

    @property
    def critic(self) -> Critic:
        return Critic(self.spec, self.hidden)

    def init(self, g: Generator) -> State:
        actor, critic = self.actor.init(g), self.critic.init(g, 2)
        log_alpha = torch.full((), math.log(self.initial_alpha), device=g.device)
        opts = adam_init(actor), adam_init(critic), adam_init(log_alpha)
        return State(actor, critic, critic.clone(), log_alpha, *opts)

    def noise(self, n: int, g: Generator) -> Noise:
        shape = (n, self.spec.batch_size, self.spec.action_dim)
        return Noise(*(randn(shape, generator=g, device=g.device) for _ in Noise._fields))

    def td_target(self, s: State, b: Transition, eps: Tensor) -> Tensor:
        """y = r + gamma (min_i Q'_i(s', a') - alpha log pi(a'|s')), eqs. 2-3 and 5. [B]"""
        next_ = self.actor.sample(s.actor, b.next_obs, eps)
        q = self.critic(s.target_critic, b.next_obs, next_.action)
        return b.reward + b.discount * (q.amin(0) - s.log_alpha.exp() * next_.log_prob)

    def critic_loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i mean (Q_i(s, a) - y)^2 / 2, eq. 5, and the mean of Q."""
        q = self.critic(theta, b.obs, b.action)
        return 0.5 * (q - y).square().mean(1).sum(), q.mean()

    def actor_loss(
        self, theta: Tensor, s: State, b: Transition, eps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """mean alpha log pi(a|s) - min_i Q_i(s, a), eq. 7, and the mean of log pi."""
        action, log_prob = self.actor.sample(theta, b.obs, eps)
        q = self.critic(s.critic, b.obs, action)
        return (s.log_alpha.exp() * log_prob - q.amin(0)).mean(), log_prob.mean()

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        y = self.td_target(s, b, noise.next_action)
        critic_loss, q, grad = value_and_grad(lambda theta: self.critic_loss(theta, b, y), s.critic)
        critic, opt = adam(s.critic, grad, s.critic_opt, self.critic_lr)
        s = s._replace(critic=critic, critic_opt=opt)

        actor_loss, log_prob, grad = value_and_grad(
            lambda theta: self.actor_loss(theta, s, b, noise.action), s.actor
        )
        actor, opt = adam(s.actor, grad, s.actor_opt, self.actor_lr)
        s = s._replace(actor=actor, actor_opt=opt)

        # eq. 18, on log alpha: its gradient is alpha (entropy - target entropy)
        alpha, target_entropy = s.log_alpha.exp(), -float(self.spec.action_dim)
        log_alpha, opt = adam(
            s.log_alpha, -alpha * (log_prob + target_entropy), s.alpha_opt, self.alpha_lr
        )
        target_critic = polyak(s.target_critic, s.critic, self.tau)
        s = s._replace(log_alpha=log_alpha, alpha_opt=opt, target_critic=target_critic)
        return s, Stats(critic_loss, actor_loss, alpha, -log_prob, q)

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return self.actor.mode(s.actor, obs)

    def explore(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return self.actor.sample(s.actor, obs, noise).action
