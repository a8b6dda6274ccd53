"""The types that every part of the suite shares.  Shapes: B batch, D observation, A action."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_map_only


class Transition(NamedTuple):
    """A batch of transitions; the only batch type.

    ``period`` minibatches stand one after the other: the leading size is ``period * batch_size``.
    """

    obs: Tensor  # float32 [B, D], normalised if the run says so, or uint8 [B, 4, 84, 84]
    action: Tensor  # float32 [B, A] or int64 [B]
    reward: Tensor  # float32 [B], n-step discounted sum (n = 1 unless the config says otherwise)
    next_obs: Tensor  # like obs: the state that the bootstrap looks at
    next_action: Tensor  # like action: what the data did there, or did last if that is unknown
    discount: Tensor  # float32 [B]: gamma^m, and 0 where the last step terminated
    return_to_go: Tensor  # float32 [B], discounted, stops at the episode's end


class Spec(NamedTuple):
    """What an algorithm must know of the problem to build its networks and draw its noise."""

    obs_shape: tuple[int, ...]
    action_dim: int  # dimensions of a Box, or the number of discrete actions
    max_action: float  # the Box is [-max_action, max_action]^A; 0 for discrete actions
    batch_size: int


State = TypeVar("State")
Noise = TypeVar("Noise")
Stats = TypeVar("Stats", covariant=True)


class Algorithm(Protocol[State, Noise, Stats]):
    """A frozen dataclass: a Spec and hyperparameters, written for one seed.

    The classes are listed nowhere: a config names one by its `_target_`.
    """

    continuous: ClassVar[bool]  # the action kind that it can handle
    policy_fields: ClassVar[tuple[str, ...]]  # the parts of State that act() reads

    @property
    def act_noise_dim(self) -> int:
        """Normal numbers that act() needs for one observation; 0 for a deterministic policy."""

    @property
    def spec(self) -> Spec: ...

    @property
    def period(self) -> int:
        """Gradient steps in one call of update."""

    def init(self, g: Generator) -> State:
        """A fresh state, no two tensors of which share memory."""

    def noise(self, n: int, g: Generator) -> Noise:
        """The noise that `n` updates consume, stacked on a leading axis."""

    def update(self, s: State, batch: Transition, noise: Noise) -> tuple[State, Stats]:
        """`period` gradient steps.  Pure: no RNG, no host transfer, no branch on data."""

    def act(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        """The evaluation policy: actions for obs [n, D]; noise is normal [n, act_noise_dim].

        A row's action depends on no other row.
        """


class OnlineAlgorithm(Algorithm[State, Noise, Stats], Protocol[State, Noise, Stats]):
    """An algorithm that also gathers its own data."""

    def explore(self, s: State, obs: Tensor, noise: Tensor) -> Tensor:
        """The behaviour policy, as act(), but with noise [n, A]."""


AnyAlgorithm = Algorithm[Any, Any, Any]


def minibatches(batch: Transition, period: int) -> Sequence[Transition]:
    """The `period` minibatches of a batch, [B, ...] each, in order."""
    columns = [x.chunk(period) for x in batch]
    return [Transition(*(c[i] for c in columns)) for i in range(period)]


def value_and_grad(loss: Any, theta: Tensor) -> tuple[Tensor, Any, Tensor]:
    """(loss, aux, gradient) of `loss(theta) -> (scalar, aux)` at theta; none of them has a graph.

    Eager and for one seed it is plain autograd, bit for bit the same: a transform of torch.func
    costs about as much as Adam, per call, and only vmap and the compiler need one.
    """
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(theta):
        grad, (value, aux) = torch.func.grad_and_value(loss, has_aux=True)(theta)
        return value, aux, grad
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        value, aux = loss(theta)
        (grad,) = torch.autograd.grad(value, theta)
    return value.detach(), tree_map_only(Tensor, Tensor.detach, aux), grad
