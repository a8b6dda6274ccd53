"""An algorithm around another, as curiosity (ICM) stands around a policy's: for the tests alone.

A model learns to predict the next observation, and its error is added to the reward that TD3+BC
sees.  State, Noise and Stats nest those of TD3+BC; nothing is inherited.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from offrl.algos import td3_bc
from offrl.nn.mlp import MLP
from offrl.optim import AdamState, adam, adam_init
from offrl.types import Algorithm, Spec, Transition, value_and_grad


class State(NamedTuple):
    td3_bc: td3_bc.State
    model: Tensor
    model_opt: AdamState


class Noise(NamedTuple):
    td3_bc: td3_bc.Noise
    obs: Tensor  # standard normal [period * B, D], blurs what the model sees


class Stats(NamedTuple):
    td3_bc: td3_bc.Stats
    model_loss: Tensor
    bonus: Tensor


@dataclass(frozen=True)
class Curious:
    td3_bc: td3_bc.TD3BC
    model_lr: float
    weight: float

    continuous: ClassVar[bool] = True
    policy_fields: ClassVar[tuple[str, ...]] = ("td3_bc",)
    act_noise_dim: ClassVar[int] = 0

    @property
    def spec(self) -> Spec:
        return self.td3_bc.spec

    @property
    def period(self) -> int:
        return self.td3_bc.period

    @property
    def model(self) -> MLP:
        n = self.spec.obs_shape[0]
        return MLP((n + self.spec.action_dim, *self.td3_bc.hidden, n))

    def init(self, g: Generator) -> State:
        model = self.model.init(g)
        return State(self.td3_bc.init(g), model, adam_init(model))

    def noise(self, n: int, g: Generator) -> Noise:
        rows = self.period * self.spec.batch_size
        obs = torch.randn(n, rows, *self.spec.obs_shape, generator=g, device=g.device)
        return Noise(self.td3_bc.noise(n, g), obs)

    def update(self, s: State, batch: Transition, noise: Noise) -> tuple[State, Stats]:
        x = torch.cat((batch.obs + 0.1 * noise.obs, batch.action), -1)

        def loss(theta: Tensor) -> tuple[Tensor, Tensor]:
            error = (self.model(theta, x) - batch.next_obs).square().mean(-1)
            return error.mean(), error.detach()

        value, error, grad = value_and_grad(loss, s.model)
        model, opt = adam(s.model, grad, s.model_opt, self.model_lr)
        bonus = self.weight * error
        inner, stats = self.td3_bc.update(
            s.td3_bc, batch._replace(reward=batch.reward + bonus), noise.td3_bc
        )
        return State(inner, model, opt), Stats(stats, value, bonus.mean())

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return self.td3_bc.act(s.td3_bc, obs, noise)


def checked(algo: Curious) -> Algorithm[State, Noise, Stats]:
    """For the type checker: a composite obeys the protocol, with the types of its own."""
    return algo
