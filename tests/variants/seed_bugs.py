"""CQL with one bug of Tianshou's script each, to show what the bug costs; B3 etc. are mere names.

PYTHONPATH=tests python benchmarks/train.py algo=cql_b3 'hydra.searchpath=[tests/variants/conf]'
"""

from dataclasses import dataclass

from torch import Tensor

from offrl.algos.cql import CQL
from offrl.nn.heads import GaussianActor
from offrl.nn.mlp import MLP


@dataclass(frozen=True)
class OneCorner(CQL):
    """B3: "uniform" from -low to high, so every random action is one corner of the box."""

    def random_actions(self, u: Tensor) -> Tensor:
        return super().random_actions(0 * u + 1)


@dataclass(frozen=True)
class MeanOfTriples(CQL):
    """B4: the mean over k of log-sum-exps of three values, not one over all 3 K."""

    def gap(self, q: Tensor, q_data: Tensor, log_prob: Tensor, return_to_go: Tensor) -> Tensor:
        return (q - log_prob).unflatten(1, (3, -1)).logsumexp(1).mean(1) - q_data


@dataclass(frozen=True)
class Bottleneck(CQL):
    """B10: the actor's mean and log deviation are affine in the same A numbers."""

    @property
    def actor(self) -> GaussianActor:
        return BottleneckActor(self.spec, self.hidden)


@dataclass(frozen=True)
class BottleneckActor(GaussianActor):
    @property
    def net(self) -> MLP:
        n, a = self.spec.obs_shape[0], self.spec.action_dim
        return BottleneckMLP((n, *self.hidden, a, 2 * a))


@dataclass(frozen=True)
class BottleneckMLP(MLP):
    """Without a ReLU before the last layer."""

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        n_last = (self.sizes[-2] + 1) * self.sizes[-1]
        trunk, last = theta.tensor_split([-n_last], -1)
        return MLP(self.sizes[-2:])(last, MLP(self.sizes[:-1])(trunk, x))
