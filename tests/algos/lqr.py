"""A point mass with quadratic costs: a task whose best return is known, from the Riccati equation.

    x' = x + dt v,  v' = v + dt a,  |a| <= 1,  reward = -(s' Q s + R a^2),  s = (x, v)

An episode has no terminal; it is cut at a time limit, and the return is discounted.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from offrl.types import Spec, Transition

DT, GAMMA = 0.3, 0.9
A = torch.tensor([[1.0, DT], [0.0, 1.0]])
B = torch.tensor([[0.0], [DT]])
Q, R = torch.diag(torch.tensor([1.0, 0.1])), 1.0
HORIZON = 60  # GAMMA ** 60 = 0.002
Policy = Callable[[Tensor, Tensor], Tensor]  # (states [n, 2], standard normal [n, 1]) -> [n, 1]


def spec(batch_size: int) -> Spec:
    return Spec((2,), 1, 1.0, batch_size)


def starts(n: int, g: Generator) -> Tensor:
    """States [n, 2], uniform in a square so small that the best action lies within the box."""
    return torch.rand(n, 2, generator=g) - 0.5


def step(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """(next states [n, 2], rewards [n]); the action is clipped to the box."""
    action = action.clamp(-1, 1)
    cost = ((state @ Q) * state).sum(1) + R * action.square().sum(1)
    return state @ A.T + action @ B.T, -cost


def riccati() -> tuple[Tensor, Tensor]:
    """(P, K): the best return from s is -s' P s, the best action -K s."""
    p = Q
    for _ in range(500):
        gain = GAMMA * (B.T @ p @ A) / (R + GAMMA * (B.T @ p @ B))
        p = Q + GAMMA * A.T @ p @ (A - B @ gain)
    return p, gain


def mean_return(policy: Policy, noise: Generator | None = None) -> float:
    """The mean discounted return from 256 fixed starts; without `noise` the policy gets zeros."""
    state, total = starts(256, Generator().manual_seed(1)), torch.zeros(256)
    for t in range(HORIZON):
        z = torch.zeros(256, 1) if noise is None else torch.randn(256, 1, generator=noise)
        state, reward = step(state, policy(state, z))
        total += GAMMA**t * reward
    return float(total.mean())


def optimum(state: Tensor, noise: Tensor) -> Tensor:
    return -state @ riccati()[1].T


def behaviour(state: Tensor, noise: Tensor) -> Tensor:
    """What made the data: a gain that is much too small, and noise."""
    return (-0.1 * state[:, :1] - 0.1 * state[:, 1:] + 0.3 * noise).clamp(-1, 1)


def collect(policy: Policy, n_episodes: int, length: int, g: Generator) -> Transition:
    """Episodes of a policy as transitions [n_episodes * length, ...]; all end in time-outs."""
    state, columns = starts(n_episodes, g), []
    for _ in range(length):
        action = policy(state, torch.randn(n_episodes, 1, generator=g))
        next_state, reward = step(state, action)
        columns.append((state, action, reward, next_state))
        state = next_state
    return transition(*(torch.cat(c) for c in zip(*columns, strict=True)))


def transition(obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor) -> Transition:
    """One-step transitions; the columns that only other algorithms read are zeros."""
    discount, unused = torch.full_like(reward, GAMMA), torch.zeros_like(reward)
    return Transition(obs, action, reward, next_obs, torch.zeros_like(action), discount, unused)
