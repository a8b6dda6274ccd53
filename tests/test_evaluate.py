"""Evaluation: an episode's bits depend on the policy and the episode alone."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from offrl.envs.vector import VectorEnv
from offrl.evaluate import CHUNK, Act, Episode, evaluate, start_seed
from offrl.rng import generator


class Walk(gymnasium.Env[Any, Any]):
    """A random start in [0, 1); every action adds up; ends beyond 2; reward = new position."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = self.np_random.random()
        return np.array([self.x, 0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        return np.array([self.x, 1.0]), self.x, self.x > 2, False, {}


gymnasium.register("WalkTest-v0", lambda **_: Walk(), max_episode_steps=12)


def network(env: VectorEnv, noise_scale: float = 0.0) -> Act:
    """A random network whose last bits depend on the number of rows that it sees at once."""
    g = torch.Generator().manual_seed(3)
    d, a = env.spec.obs_shape[0], env.spec.action_dim
    w1, w2, w3 = (torch.randn(i, o, generator=g) / i**0.5 for i, o in ((d, 64), (64, 64), (64, a)))

    def policy(obs: Tensor, noise: Tensor) -> Tensor:
        assert obs.shape == (CHUNK, d)
        assert noise.shape == (CHUNK, a if noise_scale else 0)
        assert obs.dtype == noise.dtype == torch.float32
        hidden = torch.relu(torch.relu(obs @ w1) @ w2)
        return torch.tanh(hidden @ w3 + (noise_scale * noise if noise_scale else 0.0))

    return policy


def starts(n: int) -> list[float]:
    env = Walk()
    return [env.reset(seed=start_seed(k))[0][0] for k in range(n)]


def test_returns_lengths_and_starts() -> None:
    env = VectorEnv("WalkTest-v0", 4)
    got = evaluate(lambda obs, _: torch.full((CHUNK, 1), 0.5), env, 6)
    expected = []
    for k, x in enumerate(starts(6)):
        visited = [x + 0.5 * t for t in range(1, 5)]
        visited = [v for i, v in enumerate(visited) if i == 0 or visited[i - 1] <= 2]
        expected.append(Episode(k, sum(visited), len(visited)))
    assert [e.episode for e in got] == list(range(6))
    assert [e.length for e in got] == [e.length for e in expected]
    assert [e.return_ for e in got] == pytest.approx([e.return_ for e in expected], abs=1e-12)
    assert len({e.return_ for e in got}) == 6


def test_the_time_limit_ends_an_episode() -> None:
    env = VectorEnv("WalkTest-v0", 2)
    got = evaluate(lambda obs, _: torch.zeros(CHUNK, 1), env, 2)
    assert [e.length for e in got] == [12, 12]
    assert [e.return_ for e in got] == pytest.approx([12 * x for x in starts(2)])


@pytest.mark.parametrize("env_id", ["WalkTest-v0", "Hopper-v5"])
@pytest.mark.parametrize("noise_scale", [0.0, 0.3])
def test_an_episode_does_not_depend_on_its_company(env_id: str, noise_scale: float) -> None:
    env = VectorEnv(env_id, 20)
    policy = network(env, noise_scale)
    noise_dim = env.spec.action_dim if noise_scale else 0
    address = (7, "eval", 1000)
    twenty = evaluate(policy, env, 20, noise_dim, address)
    assert evaluate(policy, env, 20, noise_dim, address) == twenty
    assert evaluate(policy, env, 5, noise_dim, address) == twenty[:5]
    for n in (1, 3, 10, 16, 17, 40):
        assert evaluate(policy, VectorEnv(env_id, n), 20, noise_dim, address) == twenty
    assert len({e.return_ for e in twenty}) == 20
    assert len({e.length for e in twenty}) > 1 or env_id == "WalkTest-v0"


def test_noise_is_addressed_by_episode_and_step() -> None:
    env = VectorEnv("WalkTest-v0", 3)
    seen = []

    def policy(obs: Tensor, noise: Tensor) -> Tensor:
        seen.append(noise.clone())
        return torch.zeros(CHUNK, 1)

    evaluate(policy, env, 3, 2, (0, "x"))
    for k in range(3):
        g = generator(0, "x", "noise", k)
        expected = torch.stack([torch.randn(2, generator=g) for _ in range(12)])
        assert torch.equal(torch.stack(seen)[:, k], expected)
    assert not torch.stack(seen)[:, 3:].any()

    noisy = network(env, noise_scale=0.3)
    first = evaluate(noisy, env, 3, 1, (0, "x"))
    assert evaluate(noisy, env, 3, 1, (0, "y")) != first


def test_every_episode_sits_in_its_own_row() -> None:
    env = VectorEnv("WalkTest-v0", 7)
    calls: list[Tensor] = []

    def policy(obs: Tensor, noise: Tensor) -> Tensor:
        calls.append(obs.clone())
        return torch.ones(CHUNK, 1)

    evaluate(policy, env, 20)
    fresh = torch.stack([c[:, 1] == 0 for c in calls]) & torch.stack([c[:, 0] != 0 for c in calls])
    x = torch.stack([c[:, 0] for c in calls])
    for k, start in enumerate(starts(20)):
        hits = (fresh & (x == np.float32(start))).nonzero()
        assert hits.shape[0] == 1
        assert hits[0, 1] == k % CHUNK


def test_no_gradient_and_a_finite_action() -> None:
    env = VectorEnv("WalkTest-v0", 2)
    weight = torch.ones(1, requires_grad=True)

    def policy(obs: Tensor, noise: Tensor) -> Tensor:
        out = obs[:, :1] * weight
        assert not out.requires_grad
        return out.clamp(-1, 1)

    evaluate(policy, env, 2)
    with pytest.raises(FloatingPointError, match="WalkTest-v0: the policy gave an action"):
        evaluate(lambda obs, _: torch.full((CHUNK, 1), torch.nan), env, 2)


def test_an_episode_that_is_over_may_end_in_anything() -> None:
    """It is still asked beside those of its chunk that go on."""
    first, second = starts(2)
    step = 0.9 * abs(first - second)  # so that one ends at least one step before the other

    def policy(obs: Tensor, _: Tensor) -> Tensor:
        return torch.where(obs[:, :1] > 2, torch.nan, step)

    env = VectorEnv("WalkTest-v0", 2)
    alone = [evaluate(policy, VectorEnv("WalkTest-v0", 1), 1)[0]]
    both = evaluate(policy, env, 2)
    assert both[:1] == alone
    assert both[0].length != both[1].length
    assert min(e.length for e in both) < 12  # beyond 2, not at the limit


def test_later_episodes_are_the_same_by_themselves() -> None:
    env = VectorEnv("WalkTest-v0", 4)
    whole = evaluate(network(env, 0.5), env, 23, 1, (0, "later"))
    assert evaluate(network(env, 0.5), env, 18, 1, (0, "later"), first=5) == whole[5:]
