"""Implicit Q-learning, Kostrikov, Nair & Levine 2021 (arXiv 2110.06169).

A batch moves V, then the policy, then Q, then the target of Q, in the order of the authors' code
(Algorithm 1 extracts the policy after all steps of Q and V; as the policy never enters the losses
of Q and V, one may train it alongside).  V looks at the target critics, the policy and Q at the
new V.

Deviations: networks start as torch's do; the authors' code has orthogonal weights, and biases 0.
Rewards are scaled by the returns of complete episodes, every row of them; the authors' code also
counts the piece at the end of a file that was cut off, and leaves out the rows that time-outs cost.
Actions are the data's; the authors' code keeps them 1e-5 inside of the box.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from offrl.nn.heads import Critic
from offrl.nn.mlp import MLP
from offrl.optim import AdamState, adam, adam_init, polyak
from offrl.types import Spec, Transition, value_and_grad

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0  # the authors' clamp of the policy's log deviation
MAX_WEIGHT = 100.0  # bound of exp(beta (Q - V)), of the authors' code


class State(NamedTuple):
    actor: Tensor  # [P + A]: the network of the mean, then the log deviations
    critic: Tensor  # [2, P]
    target_critic: Tensor
    value: Tensor
    actor_opt: AdamState
    critic_opt: AdamState
    value_opt: AdamState


class Noise(NamedTuple):
    """IQL consumes none."""


class Stats(NamedTuple):
    value_loss: Tensor
    actor_loss: Tensor
    critic_loss: Tensor
    v_mean: Tensor
    q_mean: Tensor
    weight_mean: Tensor


@dataclass(frozen=True)
class IQL:
    spec: Spec
    expectile: float
    beta: float
    tau: float
    actor_lr: float
    actor_decay_steps: int
    critic_lr: float
    value_lr: float
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = True
    policy_fields: ClassVar[tuple[str, ...]] = ("actor",)
    act_noise_dim: ClassVar[int] = 0
    period: ClassVar[int] = 1

    @property
    def mean_net(self) -> MLP:
        return MLP((self.spec.obs_shape[0], *self.hidden, self.spec.action_dim))

    @property
    def critic(self) -> Critic:
        return Critic(self.spec, self.hidden)

    @property
    def value(self) -> MLP:
        return MLP((self.spec.obs_shape[0], *self.hidden, 1))

    def init(self, g: Generator) -> State:
        log_std = torch.zeros(self.spec.action_dim, device=g.device)
        actor = torch.cat((self.mean_net.init(g), log_std))
        critic, value = self.critic.init(g, 2), self.value.init(g)
        opts = adam_init(actor), adam_init(critic), adam_init(value)
        return State(actor, critic, critic.clone(), value, *opts)

    def noise(self, n: int, g: Generator) -> Noise:
        return Noise()

    def v(self, theta: Tensor, obs: Tensor) -> Tensor:
        """V(s). [B, D] -> [B]"""
        return self.value(theta, obs).squeeze(-1)

    def value_loss(self, theta: Tensor, b: Transition, q: Tensor) -> tuple[Tensor, Tensor]:
        """L_2^tau(Q'(s, a) - V(s)), eq. 5, and the mean of V; L_2^tau(u) = |tau - 1(u < 0)| u^2."""
        v = self.v(theta, b.obs)
        u = q - v
        weight = torch.where(u > 0, self.expectile, 1 - self.expectile)
        return (weight * u.square()).mean(), v.mean()

    def critic_loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i mean (Q_i(s, a) - y)^2, eq. 6 with y = r + gamma V(s'), and the mean of Q."""
        q = self.critic(theta, b.obs, b.action)
        return (q - y).square().mean(1).sum(), q.mean()

    def actor_loss(self, theta: Tensor, b: Transition, weight: Tensor) -> tuple[Tensor, tuple[()]]:
        """-exp(beta (Q'(s, a) - V(s))) log pi(a|s), eq. 7."""
        return -(weight * self.log_prob(theta, b.obs, b.action)).mean(), ()

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The parameters of the mean's network, and the log deviations [A], clamped."""
        net, log_std = torch.split(theta, [self.mean_net.size, self.spec.action_dim])
        return net, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def log_prob(self, theta: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """log N(a; tanh(net(s)), std), actions in units of max_action. [B, D], [B, A] -> [B]"""
        net, log_std = self.split(theta)
        z = (action / self.spec.max_action - self.mean_net(net, obs).tanh()) * (-log_std).exp()
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def decayed_lr(self, opt: AdamState) -> Tensor:
        """The actor's learning rate: a cosine from actor_lr to 0 in actor_decay_steps steps."""
        done = (opt.t / self.actor_decay_steps).clamp(max=1.0)
        return self.actor_lr * 0.5 * (1 + (math.pi * done).cos())

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        q_data = self.critic(s.target_critic, b.obs, b.action).amin(0)
        value_loss, v_mean, grad = value_and_grad(
            lambda theta: self.value_loss(theta, b, q_data), s.value
        )
        value, value_opt = adam(s.value, grad, s.value_opt, self.value_lr)

        v, next_v = self.v(value, torch.cat((b.obs, b.next_obs))).chunk(2)
        weight = (self.beta * (q_data - v)).exp().clamp(max=MAX_WEIGHT)
        actor_loss, _, grad = value_and_grad(
            lambda theta: self.actor_loss(theta, b, weight), s.actor
        )
        actor, actor_opt = adam(s.actor, grad, s.actor_opt, self.decayed_lr(s.actor_opt))

        y = b.reward + b.discount * next_v
        critic_loss, q_mean, grad = value_and_grad(
            lambda theta: self.critic_loss(theta, b, y), s.critic
        )
        critic, critic_opt = adam(s.critic, grad, s.critic_opt, self.critic_lr)
        target_critic = polyak(s.target_critic, critic, self.tau)
        s = State(actor, critic, target_critic, value, actor_opt, critic_opt, value_opt)
        return s, Stats(value_loss, actor_loss, critic_loss, v_mean, q_mean, weight.mean())

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        net, _ = self.split(s.actor)
        return self.spec.max_action * self.mean_net(net, obs).tanh()
