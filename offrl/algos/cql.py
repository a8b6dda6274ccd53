"""Conservative Q-learning, Kumar et al. 2020 (arXiv 2006.04779): CQL(H) on soft actor-critic.

With `calibrated` it is Cal-QL, Nakamoto et al. 2023 (arXiv 2303.05479), in its offline phase.

What the paper leaves open follows the authors' code: the three importance-sampled groups of
actions, the loss of log alpha, and the actor's first `bc_steps` steps of maximum likelihood (theirs
are 40,000; a short run has few, decision 0004).  So do, where it differs from the paper, the
actor's learning rate (1e-4, there 3e-5) and the weight (a fixed 5, there a Lagrange multiplier of
threshold 10).

Deviations from that code: every loss looks at the parameters as they are before the step (as
Cal-QL's code does), layers begin as torch's do, target critics as copies of the critics, the log
deviation is clamped at -20, SAC's bound, not at -5, log-densities are exact (theirs adds 1e-6 to
1 - tanh^2), and cloning does not clamp the mean to [-9, 9].  From Cal-QL's: layers do not begin
orthogonal, three hidden layers, as CQL's code has, not two; the data's actions are not clipped to
0.99999; a target takes one action of the policy, not the best of ten; a multiplier starts at 1 and
holds the weighted gap at the threshold, not the gap; the log deviation has no learned scale and
offset, with which the authors' policy starts narrower; an unfinished last episode is kept.
Returns-to-go end at time-outs without a bootstrap, as theirs do for sparse rewards (for dense ones
theirs go on with the last reward for ever): before a time-out the bound is too low where rewards
are positive, and too high where they are negative.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, rand, randn

from offrl.nn.heads import Critic, GaussianActor, Normal, Sample
from offrl.optim import AdamState, adam, adam_init, polyak
from offrl.types import Spec, Transition, value_and_grad

MAX_LOG_MULTIPLIER = math.log(1e6)  # the authors' bound of the Lagrange multiplier


class Multiplier(NamedTuple):
    log_value: Tensor
    opt: AdamState


class NoMultiplier(NamedTuple):
    """Without a threshold there is nothing to learn."""


class State(NamedTuple):
    actor: Tensor
    critic: Tensor  # [2, P]
    target_critic: Tensor
    log_alpha: Tensor
    actor_opt: AdamState
    critic_opt: AdamState
    alpha_opt: AdamState
    multiplier: Multiplier | NoMultiplier


class Noise(NamedTuple):
    random: Tensor  # uniform in [0, 1) [K, B, A]
    policy: Tensor  # standard normal [K, B, A], of pi(s)
    next_policy: Tensor  # standard normal [K, B, A], of pi(s')
    next_action: Tensor  # standard normal [B, A]
    action: Tensor  # standard normal [B, A]


class Stats(NamedTuple):
    critic_loss: Tensor
    td_loss: Tensor
    gap: Tensor  # log-sum-exp of Q less Q of the data, before any weight
    actor_loss: Tensor
    alpha: Tensor
    entropy: Tensor
    multiplier: Tensor
    q_mean: Tensor


@dataclass(frozen=True)
class CQL:
    spec: Spec
    min_q_weight: float
    lagrange_threshold: float | None
    calibrated: bool
    n_actions: int
    backup_entropy: bool
    bc_steps: int
    tau: float
    actor_lr: float
    critic_lr: float
    max_grad_norm: float | None
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
        log_alpha = torch.zeros((), device=g.device)
        opts = adam_init(actor), adam_init(critic), adam_init(log_alpha)
        log_value = torch.zeros((), device=g.device)
        multiplier = (
            NoMultiplier()
            if self.lagrange_threshold is None
            else Multiplier(log_value, adam_init(log_value))
        )
        return State(actor, critic, critic.clone(), log_alpha, *opts, multiplier)

    def noise(self, n: int, g: Generator) -> Noise:
        one = (n, self.spec.batch_size, self.spec.action_dim)
        many = (n, self.n_actions, *one[1:])
        return Noise(
            rand(many, generator=g, device=g.device),
            *(randn(shape, generator=g, device=g.device) for shape in (many, many, one, one)),
        )

    def td_target(self, s: State, b: Transition, next_normal: Normal, eps: Tensor) -> Tensor:
        """y = r + gamma min_i Q'_i(s', a'), with -alpha log pi(a'|s') if backup_entropy. [B]"""
        action, log_prob = self.actor.squash(next_normal, eps)
        q = self.critic(s.target_critic, b.next_obs, action).amin(0)
        if self.backup_entropy:
            q = q - s.log_alpha.exp() * log_prob
        return b.reward + b.discount * q

    def random_actions(self, u: Tensor) -> Tensor:
        """Uniform in the box, from u uniform in [0, 1)."""
        return self.spec.max_action * (2 * u - 1)

    def proposals(self, normal: Normal, next_normal: Normal, noise: Noise) -> Sample:
        """The actions whose Q(s, .) is pushed down, K of each kind. [3 K, B, A], [3 K, B]"""
        random = self.random_actions(noise.random)
        # of the action divided by max_action, as everywhere
        log_uniform = torch.full_like(random[..., 0], -self.spec.action_dim * math.log(2))
        policy = self.actor.squash(normal, noise.policy)
        next_policy = self.actor.squash(next_normal, noise.next_policy)
        return Sample(
            torch.cat((random, policy.action, next_policy.action)),
            torch.cat((log_uniform, policy.log_prob, next_policy.log_prob)),
        )

    def gap(self, q: Tensor, q_data: Tensor, log_prob: Tensor, return_to_go: Tensor) -> Tensor:
        """log sum_k exp(Q(s, a_k) - log density(a_k)) - Q(s, a), eq. 4. [2, B]

        Cal-QL (its eq. 5.1) does not push the policy's actions below the data's return.
        """
        if self.calibrated:
            q_random, q_policy = q.tensor_split([self.n_actions], 1)
            q = torch.cat((q_random, q_policy.maximum(return_to_go)), 1)
        return (q - log_prob).logsumexp(1) - q_data

    def critic_loss(
        self, theta: Tensor, s: State, b: Transition, y: Tensor, proposals: Sample
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """sum_i mean (Q_i(s, a) - y)^2 + weight gap_i; (TD loss, gap [2], mean of Q)."""
        actions = torch.cat((proposals.action, b.action[None]))
        q, q_data = self.critic.many(theta, b.obs, actions).tensor_split([-1], 1)
        q_data = q_data.squeeze(1)
        td_loss = (q_data - y).square().mean(1).sum()
        gap = self.gap(q, q_data, proposals.log_prob, b.return_to_go).mean(1)
        weight = self.multiplier(s) * self.min_q_weight
        return td_loss + weight * gap.sum(), (td_loss, gap, q_data.mean())

    def actor_loss(
        self, theta: Tensor, s: State, b: Transition, eps: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Normal]]:
        """mean alpha log pi(a'|s) - min_i Q_i(s, a'); (mean of log pi, pi(.|s))."""
        normal = self.actor.normal(theta, b.obs)
        action, log_prob = self.actor.squash(normal, eps)
        q = self.critic(s.critic, b.obs, action).amin(0)
        # at first the likelihood of the data's action stands in the place of Q
        cloning = s.actor_opt.t < self.bc_steps
        value = torch.where(cloning, self.actor.log_prob(normal, b.action), q)
        return (s.log_alpha.exp() * log_prob - value).mean(), (log_prob.mean(), normal)

    def multiplier(self, s: State) -> Tensor:
        """The Lagrange multiplier alpha of appendix F; 1 where there is none."""
        if isinstance(s.multiplier, Multiplier):
            return s.multiplier.log_value.exp()
        return torch.ones_like(s.log_alpha)

    def step_multiplier(self, s: State, gap: Tensor) -> Multiplier | NoMultiplier:
        """A step up max_alpha alpha (min_q_weight gap - threshold), in log alpha: appendix F."""
        if not isinstance(s.multiplier, Multiplier) or self.lagrange_threshold is None:
            return s.multiplier
        excess = (self.min_q_weight * gap - self.lagrange_threshold).mean()
        grad = -self.multiplier(s) * excess
        log_value, opt = adam(s.multiplier.log_value, grad, s.multiplier.opt, self.critic_lr)
        return Multiplier(log_value.clamp(max=MAX_LOG_MULTIPLIER), opt)

    def clipped(self, grad: Tensor) -> Tensor:
        """The gradient of each critic, no longer than max_grad_norm. [2, P]"""
        if self.max_grad_norm is None:
            return grad
        norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
        return grad * torch.clamp(self.max_grad_norm / (norm + 1e-6), max=1)

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        actor_loss, (log_prob, normal), actor_grad = value_and_grad(
            lambda theta: self.actor_loss(theta, s, b, noise.action), s.actor
        )
        next_normal = self.actor.normal(s.actor, b.next_obs)
        y = self.td_target(s, b, next_normal, noise.next_action)
        proposals = self.proposals(normal, next_normal, noise)
        critic_loss, (td_loss, gap, q), critic_grad = value_and_grad(
            lambda theta: self.critic_loss(theta, s, b, y, proposals), s.critic
        )
        stats = Stats(
            *(critic_loss, td_loss, gap.mean(), actor_loss),
            *(s.log_alpha.exp(), -log_prob, self.multiplier(s), q),
        )

        actor, actor_opt = adam(s.actor, actor_grad, s.actor_opt, self.actor_lr)
        critic, critic_opt = adam(s.critic, self.clipped(critic_grad), s.critic_opt, self.critic_lr)
        # of -log alpha (log pi + target entropy): the authors take the logarithm, not alpha
        target_entropy = -float(self.spec.action_dim)
        log_alpha, alpha_opt = adam(
            s.log_alpha, -(log_prob + target_entropy), s.alpha_opt, self.actor_lr
        )
        target_critic = polyak(s.target_critic, critic, self.tau)
        multiplier = self.step_multiplier(s, gap)
        opts = actor_opt, critic_opt, alpha_opt
        return State(actor, critic, target_critic, log_alpha, *opts, multiplier), stats

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return self.actor.mode(s.actor, obs)
