"""BCQ as a plain loop, from Algorithm 1 of Fujimoto, Meger & Precup 2019 (1812.02900)."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from .networks import Critic, mlp, update_target


class VAE(nn.Module):
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        max_action: float,
        latent_dim: int,
        hidden: Sequence[int],
    ) -> None:
        super().__init__()
        self.encoder = mlp((obs_dim + action_dim, *hidden, 2 * latent_dim))
        self.decoder = mlp((obs_dim + latent_dim, *hidden, action_dim))
        self.max_action = max_action

    def posterior(self, obs: Tensor, action: Tensor) -> Normal:
        mean, log_std = self.encoder(torch.cat([obs, action], 1)).chunk(2, 1)
        return Normal(mean, log_std.clamp(-4, 15).exp())

    def decode(self, obs: Tensor, z: Tensor) -> Tensor:
        return self.max_action * torch.tanh(self.decoder(torch.cat([obs, z], 1)))


class Perturbation(nn.Module):
    """a + phi max_action tanh(net(s, a)), within the box."""

    def __init__(
        self, obs_dim: int, action_dim: int, max_action: float, phi: float, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.net = mlp((obs_dim + action_dim, *hidden, action_dim))
        self.max_action, self.phi = max_action, phi

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        xi = self.phi * self.max_action * torch.tanh(self.net(torch.cat([obs, action], 1)))
        return (action + xi).clamp(-self.max_action, self.max_action)


class BCQ:
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        max_action: float,
        *,
        gamma: float,
        phi: float,
        lmbda: float,
        latent_per_action: int,
        latent_clip: float,
        kl_weight: float,
        tau: float,
        vae_lr: float,
        actor_lr: float,
        critic_lr: float,
        hidden: Sequence[int],
        vae_hidden: Sequence[int],
    ) -> None:
        latent_dim = latent_per_action * action_dim
        self.vae = VAE(obs_dim, action_dim, max_action, latent_dim, vae_hidden)
        self.actor = Perturbation(obs_dim, action_dim, max_action, phi, hidden)
        self.critic_1 = Critic(obs_dim, action_dim, hidden)
        self.critic_2 = Critic(obs_dim, action_dim, hidden)
        self.copy_targets()
        self.vae_optimizer = torch.optim.Adam(self.vae.parameters(), lr=vae_lr)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=actor_lr)
        self.critic_optimizer = torch.optim.Adam(
            [*self.critic_1.parameters(), *self.critic_2.parameters()], lr=critic_lr
        )
        self.gamma, self.lmbda, self.tau = gamma, lmbda, tau
        self.latent_clip, self.kl_weight = latent_clip, kl_weight

    def copy_targets(self) -> None:
        """The targets become copies of the networks, as they are at the start."""
        self.target_actor = copy.deepcopy(self.actor)
        self.target_critic_1 = copy.deepcopy(self.critic_1)
        self.target_critic_2 = copy.deepcopy(self.critic_2)

    def candidate(self, obs: Tensor, normal: Tensor) -> Tensor:
        return self.vae.decode(obs, normal.clamp(-self.latent_clip, self.latent_clip))

    @torch.no_grad()
    def target(
        self, reward: Tensor, next_obs: Tensor, terminated: Tensor, normals: Tensor
    ) -> Tensor:
        values = []
        for normal in normals:
            action = self.target_actor(next_obs, self.candidate(next_obs, normal))
            q_1 = self.target_critic_1(next_obs, action)
            q_2 = self.target_critic_2(next_obs, action)
            lower, upper = torch.min(q_1, q_2), torch.max(q_1, q_2)
            values.append(self.lmbda * lower + (1 - self.lmbda) * upper)
        best = torch.stack(values).max(0).values
        return reward + (1 - terminated) * self.gamma * best

    def train_step(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        posterior_normal: Tensor,
        target_normals: Tensor,
        actor_normal: Tensor,
    ) -> dict[str, float]:
        """One step of everything; the losses before their steps.

        Latent noise: [B, L], [candidates, B, L] and [B, L].
        """
        posterior = self.vae.posterior(obs, action)
        z = posterior.mean + posterior.stddev * posterior_normal
        recon_loss = F.mse_loss(self.vae.decode(obs, z), action)
        kl_loss = kl_divergence(posterior, Normal(torch.zeros_like(z), 1)).mean()
        self.vae_optimizer.zero_grad()
        (recon_loss + self.kl_weight * kl_loss).backward()
        self.vae_optimizer.step()

        y = self.target(reward, next_obs, terminated, target_normals)
        q_1, q_2 = self.critic_1(obs, action), self.critic_2(obs, action)
        critic_loss = F.mse_loss(q_1, y) + F.mse_loss(q_2, y)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        actor_loss = -self.critic_1(obs, self.actor(obs, self.candidate(obs, actor_normal))).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()

        update_target(self.target_critic_1, self.critic_1, self.tau)
        update_target(self.target_critic_2, self.critic_2, self.tau)
        update_target(self.target_actor, self.actor, self.tau)
        return {
            "recon_loss": recon_loss.item(),
            "kl_loss": kl_loss.item(),
            "critic_loss": critic_loss.item(),
            "actor_loss": actor_loss.item(),
            "q_mean": (q_1 + q_2).mean().item() / 2,
        }

    @torch.no_grad()
    def select_action(self, obs: Tensor, normals: Tensor) -> Tensor:
        """The action [A] for one observation [D], from latent noise [candidates, L]."""
        obs = obs.repeat(len(normals), 1)
        actions: Tensor = self.actor(obs, self.candidate(obs, normals))
        return actions[self.critic_1(obs, actions).argmax()]
