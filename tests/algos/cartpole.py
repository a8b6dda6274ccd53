"""CartPole with at most 200 steps: data made by a noisy controller, and the return of a policy."""

from collections.abc import Callable
from functools import cache

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offrl.types import Spec, Transition

GAMMA = 0.99
SPEC = Spec((4,), 2, 0.0, 64)
Env = gymnasium.Env[NDArray[np.float32], np.int64]
Policy = Callable[[Tensor], Tensor]  # obs [n, 4] -> int64 [n]

# Shares of random actions, from episode to episode, and how many episodes.
MIXED = (0.5, 0.75, 1.0), 150
RANDOM = (1.0,), 300


def make() -> Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=200)


def controller(obs: NDArray[np.float32]) -> int:
    """Pushes to where the pole falls: without noise it balances to the end."""
    return int(obs @ np.array([0.1, 0.5, 1.0, 1.0]) > 0)


@cache
def data(randomness: tuple[float, ...], n_episodes: int) -> tuple[Transition, float]:
    """Transitions, and the mean return.  A time-out is no terminal: its discount is not 0."""
    g, env = np.random.default_rng(0), make()
    rows: list[tuple[NDArray[np.float32], int, NDArray[np.float32], float]] = []
    for k in range(n_episodes):
        obs, _ = env.reset(seed=k)
        done = False
        while not done:
            random = g.random() < randomness[k % len(randomness)]
            action = int(g.integers(2)) if random else controller(obs)
            next_obs, _, terminated, truncated, _ = env.step(np.int64(action))
            rows.append((obs, action, next_obs, 0.0 if terminated else GAMMA))
            obs, done = next_obs, terminated or truncated
    obs_, action_, next_obs_, discount = (
        torch.tensor(np.array(x)) for x in zip(*rows, strict=True)
    )
    one = torch.ones(len(rows))
    batch = Transition(obs_, action_, one, next_obs_, action_, discount.float(), one)
    return batch, len(rows) / n_episodes


def mean_return(policy: Policy, n: int = 20) -> float:
    """Over n episodes from fixed starts."""
    envs = [make() for _ in range(n)]
    obs = np.array([env.reset(seed=10_000 + k)[0] for k, env in enumerate(envs)])
    alive, total = np.ones(n, np.bool_), np.zeros(n)
    while alive.any():
        actions = policy(torch.from_numpy(obs)).numpy()
        for k in np.flatnonzero(alive):
            obs[k], reward, terminated, truncated, _ = envs[k].step(actions[k])
            total[k] += float(reward)
            alive[k] = not (terminated or truncated)
    return float(total.mean())
