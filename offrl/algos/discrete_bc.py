"""Behaviour cloning with discrete actions: a classifier and its cross entropy.

Deviations: the start of the CNN (docs/decisions/0005).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor
from torch.nn import functional as F

from offrl.nn.cnn import HeadedNet
from offrl.optim import AdamState, adam, adam_init
from offrl.types import Spec, Transition, value_and_grad


class State(NamedTuple):
    actor: Tensor
    actor_opt: AdamState


class Noise(NamedTuple):
    """BC consumes none."""


class Stats(NamedTuple):
    actor_loss: Tensor
    accuracy: Tensor  # share of the batch in which act() would do what the data did


@dataclass(frozen=True)
class DiscreteBC:
    spec: Spec
    lr: float
    hidden: tuple[int, ...]

    continuous: ClassVar[bool] = False
    policy_fields: ClassVar[tuple[str, ...]] = ("actor",)
    act_noise_dim: ClassVar[int] = 0
    period: ClassVar[int] = 1

    @property
    def net(self) -> HeadedNet:
        return HeadedNet(self.spec.obs_shape, self.hidden, (self.spec.action_dim,))

    def init(self, g: Generator) -> State:
        actor = self.net.init(g)
        return State(actor, adam_init(actor))

    def noise(self, n: int, g: Generator) -> Noise:
        return Noise()

    def loss(self, theta: Tensor, b: Transition) -> tuple[Tensor, Tensor]:
        """mean -log pi(a|s), and the accuracy."""
        (logits,) = self.net(theta, b.obs)
        accuracy = (logits.argmax(-1) == b.action).to(logits.dtype).mean()
        return F.cross_entropy(logits, b.action), accuracy

    def update(self, s: State, batch: Transition, noise: Noise) -> tuple[State, Stats]:
        loss, accuracy, grad = value_and_grad(lambda theta: self.loss(theta, batch), s.actor)
        return State(*adam(s.actor, grad, s.actor_opt, self.lr)), Stats(loss, accuracy)

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        (logits,) = self.net(s.actor, obs)
        return logits.argmax(-1)
