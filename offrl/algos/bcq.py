"""Batch-constrained deep Q-learning (BCQ), Fujimoto, Meger & Precup 2019 (arXiv 1812.02900).

A VAE learns which actions the data take.  The policy draws candidates from it, moves each a little
towards higher values and takes the best; the critic's target does the same with target networks.
Deviations: none; 100 candidates at evaluation, the latents' clip and the weight of the KL term are
those of the authors' code.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, randn
from torch.nn import functional as F

from offrl.nn.heads import Critic
from offrl.nn.mlp import MLP
from offrl.nn.pairs import on_pairs
from offrl.nn.vae import VAE
from offrl.optim import AdamState, adam, adam_init, polyak
from offrl.types import Spec, Transition, value_and_grad


class State(NamedTuple):
    vae: Tensor
    actor: Tensor  # the perturbation network xi
    critic: Tensor  # [2, P]
    target_actor: Tensor
    target_critic: Tensor
    vae_opt: AdamState
    actor_opt: AdamState
    critic_opt: AdamState


class Noise(NamedTuple):
    posterior: Tensor  # standard normal [B, L], the sample that the VAE decodes
    target: Tensor  # standard normal [K, B, L], the candidates of the target
    actor: Tensor  # standard normal [1, B, L], the action that is perturbed


class Stats(NamedTuple):
    recon_loss: Tensor
    kl_loss: Tensor
    critic_loss: Tensor
    actor_loss: Tensor
    q_mean: Tensor


@dataclass(frozen=True)
class BCQ:
    spec: Spec
    phi: float
    lmbda: float
    n_candidates: int
    n_eval_candidates: int
    latent_per_action: int
    latent_clip: float
    kl_weight: float
    tau: float
    vae_lr: float
    actor_lr: float
    critic_lr: float
    hidden: tuple[int, ...]
    vae_hidden: tuple[int, ...]

    continuous: ClassVar[bool] = True
    policy_fields: ClassVar[tuple[str, ...]] = ("vae", "actor", "critic")
    period: ClassVar[int] = 1

    @property
    def latent_dim(self) -> int:
        return self.latent_per_action * self.spec.action_dim

    @property
    def act_noise_dim(self) -> int:
        return self.n_eval_candidates * self.latent_dim

    @property
    def vae(self) -> VAE:
        return VAE(self.spec, self.vae_hidden, self.latent_dim)

    @property
    def actor(self) -> MLP:
        inputs = self.spec.obs_shape[0] + self.spec.action_dim
        return MLP((inputs, *self.hidden, self.spec.action_dim))

    @property
    def critic(self) -> Critic:
        return Critic(self.spec, self.hidden)

    def init(self, g: Generator) -> State:
        vae, actor, critic = self.vae.init(g), self.actor.init(g), self.critic.init(g, 2)
        opts = adam_init(vae), adam_init(actor), adam_init(critic)
        return State(vae, actor, critic, actor.clone(), critic.clone(), *opts)

    def noise(self, n: int, g: Generator) -> Noise:
        b, l = self.spec.batch_size, self.latent_dim
        shapes = (b, l), (self.n_candidates, b, l), (1, b, l)
        return Noise(*(randn(n, *shape, generator=g, device=g.device) for shape in shapes))

    def sample(self, vae: Tensor, obs: Tensor, noise: Tensor) -> Tensor:
        """Actions like the data's: [B, D], standard normal [K, B, L] -> [K, B, A]."""
        return self.vae.decode(vae, obs, noise.clamp(-self.latent_clip, self.latent_clip))

    def perturb(self, actor: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """a + xi(s, a), within the box, where |xi| <= phi max_action.  [B, D], [K, B, A]."""
        limit = self.spec.max_action
        xi = self.phi * limit * on_pairs(self.actor, actor, obs, action).tanh()
        return (action + xi).clamp(-limit, limit)

    def vae_loss(
        self, theta: Tensor, b: Transition, eps: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Reconstruction and KL(q(z|s, a) | N(0, 1)), a mean over latent dimensions too."""
        mean, log_std = self.vae.encode(theta, b.obs, b.action)
        z = mean + log_std.exp() * eps
        recon = F.mse_loss(self.vae.decode(theta, b.obs, z[None])[0], b.action)
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).mean()
        return recon + self.kl_weight * kl, (recon, kl)

    def td_target(self, s: State, b: Transition, eps: Tensor) -> Tensor:
        """y = r + gamma max_k [lambda min_i + (1 - lambda) max_i] Q'_i(s', a'_k).  [B]"""
        sampled = self.sample(s.vae, b.next_obs, eps)
        action = self.perturb(s.target_actor, b.next_obs, sampled)
        q = self.critic.many(s.target_critic, b.next_obs, action)
        soft = self.lmbda * q.amin(0) + (1 - self.lmbda) * q.amax(0)
        return b.reward + b.discount * soft.amax(0)

    def critic_loss(self, theta: Tensor, b: Transition, y: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i mean (Q_i(s, a) - y)^2, and the mean of Q."""
        q = self.critic(theta, b.obs, b.action)
        return (q - y).square().mean(1).sum(), q.mean()

    def actor_loss(
        self, theta: Tensor, critic: Tensor, obs: Tensor, sampled: Tensor
    ) -> tuple[Tensor, tuple[()]]:
        """-Q_1(s, a + xi(s, a)) for sampled actions a [1, B, A]."""
        action = self.perturb(theta, obs, sampled)[0]
        return -self.critic(critic[0], obs, action).mean(), ()

    def update(self, s: State, b: Transition, noise: Noise) -> tuple[State, Stats]:
        _, (recon, kl), grad = value_and_grad(
            lambda theta: self.vae_loss(theta, b, noise.posterior), s.vae
        )
        vae, opt = adam(s.vae, grad, s.vae_opt, self.vae_lr)
        s = s._replace(vae=vae, vae_opt=opt)

        y = self.td_target(s, b, noise.target)
        critic_loss, q, grad = value_and_grad(lambda theta: self.critic_loss(theta, b, y), s.critic)
        critic, opt = adam(s.critic, grad, s.critic_opt, self.critic_lr)
        s = s._replace(critic=critic, critic_opt=opt)

        sampled = self.sample(s.vae, b.obs, noise.actor)
        actor_loss, _, grad = value_and_grad(
            lambda theta: self.actor_loss(theta, s.critic, b.obs, sampled), s.actor
        )
        actor, opt = adam(s.actor, grad, s.actor_opt, self.actor_lr)
        s = s._replace(
            actor=actor,
            actor_opt=opt,
            target_actor=polyak(s.target_actor, actor, self.tau),
            target_critic=polyak(s.target_critic, s.critic, self.tau),
        )
        return s, Stats(recon, kl, critic_loss, actor_loss, q)

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        """The candidate with the largest Q_1."""
        eps = torch.unflatten(noise, 1, (self.n_eval_candidates, -1)).movedim(1, 0)
        action = self.perturb(s.actor, obs, self.sample(s.vae, obs, eps))
        best = self.critic.many(s.critic[:1], obs, action)[0].argmax(0)
        return torch.take_along_dim(action, best[None, :, None], 0)[0]
