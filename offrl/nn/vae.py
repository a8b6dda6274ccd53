"""The conditional variational auto-encoder of BCQ: which actions do the data take in a state?"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from offrl.nn.mlp import MLP
from offrl.nn.pairs import on_pairs
from offrl.types import Spec

LOG_STD_MIN, LOG_STD_MAX = -4.0, 15.0  # of the posterior, "for numerical stability"


@dataclass(frozen=True)
class VAE:
    """Encoder q(z|s, a) = N(mean, std) and decoder a = max_action tanh(net(s, z)).

    theta [P] holds the encoder's parameters, then the decoder's.
    """

    spec: Spec
    hidden: tuple[int, ...]
    latent_dim: int

    @property
    def encoder(self) -> MLP:
        inputs = self.spec.obs_shape[0] + self.spec.action_dim
        return MLP((inputs, *self.hidden, 2 * self.latent_dim))

    @property
    def decoder(self) -> MLP:
        inputs = self.spec.obs_shape[0] + self.latent_dim
        return MLP((inputs, *self.hidden, self.spec.action_dim))

    def init(self, g: Generator) -> Tensor:
        return torch.cat((self.encoder.init(g), self.decoder.init(g)))

    def encode(self, theta: Tensor, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log deviation of the posterior, [B, L] each, for [B, D] and [B, A]."""
        output = self.encoder(theta[: self.encoder.size], torch.cat((obs, action), -1))
        mean, log_std = output.chunk(2, -1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def decode(self, theta: Tensor, obs: Tensor, z: Tensor) -> Tensor:
        """K actions for each state: [B, D], [K, B, L] -> [K, B, A]."""
        output = on_pairs(self.decoder, theta[self.encoder.size :], obs, z)
        return self.spec.max_action * output.tanh()
