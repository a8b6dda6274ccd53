"""ReBRAC, Tarasov et al. 2023 (arXiv 2305.09836): TD3 with a penalty for leaving the data, one in
the actor's loss and one in the critics' target, and critics with layer normalisation.

What the paper leaves open follows the authors' code: penalties are sums over the dimensions of an
action, the actor maximises the lower critic divided by its mean absolute value, normalisation comes
after ReLU, and networks start as in the authors' code.

The authors' code is that of May 2023, with which the paper was made; theirs of October 2023 also
keeps targets from falling below the data's return.

Deviations: the authors' target of the actor follows the actor as it was before its last step, here
as it is after it (as in TD3).  One call of update is `period` critic steps and then one step of
actor and targets; the authors' delayed step comes first of its period and not last.  Where
the data does not tell what was done after a time-out, the last action stands for the next one; the
authors drop that transition.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor, randn

from offrl.nn.heads import Critic, DeterministicActor
from offrl.nn.mlp import MLP
from offrl.optim import AdamState, adam, adam_init, polyak
from offrl.types import Spec, Transition, minibatches, value_and_grad

HIDDEN_BIAS, ACTOR_BOUND, CRITIC_BOUND = 0.1, 1e-3, 3e-3  # the authors' initialisation


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
    actor_penalty: Tensor
    critic_penalty: Tensor
    q_mean: Tensor


@dataclass(frozen=True)
class ReBRAC:
    spec: Spec
    actor_bc_coef: float
    critic_bc_coef: float
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
        return Critic(self.spec, self.hidden, layer_norm=True)

    def init(self, g: Generator) -> State:
        actor = started(self.actor.net, self.actor.init(g), ACTOR_BOUND)
        critic = started(self.critic.net, self.critic.init(g, 2), CRITIC_BOUND)
        return State(
            actor, critic, actor.clone(), critic.clone(), adam_init(actor), adam_init(critic)
        )

    def noise(self, n: int, g: Generator) -> Noise:
        rows = self.period * self.spec.batch_size
        return Noise(randn(n, rows, self.spec.action_dim, generator=g, device=g.device))

    def td_target(self, s: State, b: Transition, eps: Tensor) -> tuple[Tensor, Tensor]:
        """y = r + gamma (min_i Q'_i(s', a') - beta_2 |a' - ahat'|^2) [B], eq. 4, with
        a' = pi'(s') + clip(eps) and ahat' what the data did in s'; and the mean penalty.
        """
        limit = self.spec.max_action
        smoothing = (self.policy_noise * limit * eps).clamp(
            -self.noise_clip * limit, self.noise_clip * limit
        )
        action = (self.actor(s.target_actor, b.next_obs) + smoothing).clamp(-limit, limit)
        penalty = (action - b.next_action).square().sum(-1)
        q = self.critic(s.target_critic, b.next_obs, action).amin(0)
        return b.reward + b.discount * (q - self.critic_bc_coef * penalty), penalty.mean()

    def critic_loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i mean (Q_i(s, a) - y)^2, and the mean of Q."""
        q = self.critic(theta, b.obs, b.action)
        return (q - y).square().mean(1).sum(), q.mean()

    def actor_loss(self, theta: Tensor, critic: Tensor, b: Transition) -> tuple[Tensor, Tensor]:
        """beta_1 |pi(s) - a|^2 - lambda min_i Q_i(s, pi(s)), eq. 3; and the mean penalty.

        lambda = 1 / mean |min_i Q_i|, as in TD3+BC.
        """
        action = self.actor(theta, b.obs)
        q = self.critic(critic, b.obs, action).amin(0)
        lmbda = 1 / q.detach().abs().mean()
        penalty = (action - b.action).square().sum(-1).mean()
        return self.actor_bc_coef * penalty - lmbda * q.mean(), penalty

    def update(self, s: State, batch: Transition, noise: Noise) -> tuple[State, Stats]:
        eps = noise.target.chunk(self.period)
        batches = minibatches(batch, self.period)
        for b, e in zip(batches, eps, strict=True):
            y, critic_penalty = self.td_target(s, b, e)
            critic_loss, q, grad = value_and_grad(
                lambda theta, b=b, y=y: self.critic_loss(theta, b, y), s.critic
            )
            critic, opt = adam(s.critic, grad, s.critic_opt, self.critic_lr)
            s = s._replace(critic=critic, critic_opt=opt)

        actor_loss, actor_penalty, grad = value_and_grad(
            lambda theta: self.actor_loss(theta, s.critic, batches[-1]), s.actor
        )
        actor, opt = adam(s.actor, grad, s.actor_opt, self.actor_lr)
        s = s._replace(
            actor=actor,
            actor_opt=opt,
            target_actor=polyak(s.target_actor, actor, self.tau),
            target_critic=polyak(s.target_critic, s.critic, self.tau),
        )
        return s, Stats(critic_loss, actor_loss, actor_penalty, critic_penalty, q)

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return self.actor(s.actor, obs)


def started(net: MLP, theta: Tensor, bound: float) -> Tensor:
    """theta, fresh from net.init, with the authors' hidden biases and a last layer in +-bound."""
    theta = theta.clone()
    *hidden, last = net.layers(theta)  # views, written through
    for _, bias in hidden:
        bias.fill_(HIDDEN_BIAS)
    for part in last:  # uniform in +-1/sqrt(fan_in) until here
        part.mul_(bound * math.sqrt(net.sizes[-2]))
    return theta
