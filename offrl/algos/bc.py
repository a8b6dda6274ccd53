"""Behaviour cloning, Pomerleau 1989: a deterministic actor and the mean squared error.

Deviations: none.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor
from torch.nn import functional as F

from offrl.nn.heads import DeterministicActor
from offrl.optim import AdamState, adam, adam_init
from offrl.types import Spec, Transition, value_and_grad


class State(NamedTuple):
    actor: Tensor
    actor_opt: AdamState


class Noise(NamedTuple):
    """BC consumes none."""


class Stats(NamedTuple):
    actor_loss: Tensor


@dataclass(frozen=True)
class BC:
    spec: Spec
    lr: float
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = True
    policy_fields: ClassVar[tuple[str, ...]] = ("actor",)
    act_noise_dim: ClassVar[int] = 0
    period: ClassVar[int] = 1

    @property
    def actor(self) -> DeterministicActor:
        return DeterministicActor(self.spec, self.hidden)

    def init(self, g: Generator) -> State:
        actor = self.actor.init(g)
        return State(actor, adam_init(actor))

    def noise(self, n: int, g: Generator) -> Noise:
        return Noise()

    def update(self, s: State, batch: Transition, noise: Noise) -> tuple[State, Stats]:
        def loss(theta: Tensor) -> tuple[Tensor, tuple[()]]:
            return F.mse_loss(self.actor(theta, batch.obs), batch.action), ()

        value, _, grad = value_and_grad(loss, s.actor)
        return State(*adam(s.actor, grad, s.actor_opt, self.lr)), Stats(value)

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        return self.actor(s.actor, obs)
