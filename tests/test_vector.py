"""Environments: which are accepted, and that they step alone."""

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from offrl.envs.interface import EnvSpec
from offrl.envs.vector import VectorEnv, env_spec, make_env
from offrl.errors import UserError


class Odd(gymnasium.Env[Any, Any]):
    """Spaces that the suite cannot use."""

    def __init__(self, low: Any, high: Any, obs_shape: tuple[int, ...] = (3,)) -> None:
        self.observation_space = Box(-1, 1, obs_shape)
        self.action_space = Box(np.float32(low), np.float32(high))


class Counting(Odd):
    """Discrete actions, counted from somewhere."""

    def __init__(self, start: int) -> None:
        super().__init__(-1, 1)
        self.action_space = Discrete(3, start=start)


gymnasium.register("CountingTest-v0", lambda **kw: Counting(**kw), max_episode_steps=5)
gymnasium.register("OddTest-v0", lambda **kw: Odd(**kw), max_episode_steps=5)
gymnasium.register("EndlessTest-v0", lambda **kw: Odd(**kw))


def test_env_spec() -> None:
    assert env_spec("Hopper-v5") == EnvSpec((11,), 3, 1.0, True)
    assert env_spec("CartPole-v1") == ((4,), 2, 0.0, False)
    assert env_spec("Pendulum-v1").max_action == 2.0
    shorter = env_spec("Hopper-v5", {"exclude_current_positions_from_observation": False})
    assert shorter.obs_shape == (12,)


@pytest.mark.parametrize("env_id", ["Hoper-v5", "Hopper-v99", "Nowhere/Hopper-v5", "not an id"])
def test_an_unknown_environment_is_named(env_id: str) -> None:
    with pytest.raises(UserError, match=f"environment {env_id}: "):
        env_spec(env_id)


def test_environments_that_moved_away_and_unknown_settings_are_named() -> None:
    with pytest.raises(UserError, match="environment Hopper-v2: "):
        env_spec("Hopper-v2")
    with pytest.raises(UserError, match=r"environment Hopper-v5: .*no_such_setting"):
        env_spec("Hopper-v5", {"no_such_setting": 1})


@pytest.mark.parametrize(
    ("low", "high"),
    [([-1, -2], [1, 2]), ([-1, -1], [1, 2]), ([0, 0], [1, 1]), ([-np.inf] * 2, [np.inf] * 2)],
)
def test_unequal_action_bounds_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(UserError, match="environment OddTest-v0: actions lie in"):
        env_spec("OddTest-v0", {"low": low, "high": high})


def test_discrete_actions_count_from_zero() -> None:
    assert env_spec("CountingTest-v0", {"start": 0}).action_dim == 3
    with pytest.raises(UserError, match=r"CountingTest-v0: .*counted from 1; .* from 0"):
        env_spec("CountingTest-v0", {"start": 1})


def test_other_spaces_are_refused() -> None:
    box = {"low": [-1, -1], "high": [1, 1]}
    with pytest.raises(UserError, match="one dimension"):
        VectorEnv("OddTest-v0", 1, {**box, "obs_shape": (2, 2)})
    with pytest.raises(UserError, match=r"one dimension"):
        VectorEnv("OddTest-v0", 1, {"low": [[-1]], "high": [[1]]})
    with pytest.raises(UserError, match="EndlessTest-v0: has no time limit"):
        VectorEnv("EndlessTest-v0", 1, box)
    assert VectorEnv("EndlessTest-v0", 1, {**box, "max_episode_steps": 7}).max_episode_steps == 7


def test_the_age_of_v4_is_no_news_but_other_warnings_are() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_env("Hopper-v4").close()
        with pytest.raises(DeprecationWarning):
            warnings.warn(
                "The environment Hopper-v4 is out of date", DeprecationWarning, stacklevel=1
            )


def test_only_what_is_alive_steps_and_equals_plain_gymnasium() -> None:
    env = VectorEnv("Hopper-v5", 3)
    plain = [gymnasium.make("Hopper-v5") for _ in range(3)]
    for i, e in enumerate(plain):
        obs, _ = e.reset(seed=10 + i)
        assert np.array_equal(env.reset(i, 10 + i), obs.astype(np.float32))
    assert env.obs.dtype == np.float32
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 3, 3)).astype(np.float32)
    alive = np.array([True, False, True])
    before = env.obs[1].copy()
    for a in actions:
        reward, terminated, truncated = env.step_alive(a, alive)
        assert reward.dtype == np.float64
        assert (reward[1], terminated[1], truncated[1]) == (0, False, False)
        for i in (0, 2):
            obs, r, term, trunc, _ = plain[i].step(a[i])
            assert np.array_equal(env.obs[i], obs.astype(np.float32))
            assert (reward[i], terminated[i], truncated[i]) == (r, term, trunc)
        alive &= ~(terminated | truncated)
    assert np.array_equal(env.obs[1], before)
    assert not alive.all()
    env.close()


def test_discrete_actions() -> None:
    env = VectorEnv("CartPole-v1", 2, {"max_episode_steps": 200})
    assert (env.spec, env.max_episode_steps) == (EnvSpec((4,), 2, 0.0, False), 200)
    plain = gymnasium.make("CartPole-v1")
    obs, _ = plain.reset(seed=3)
    env.reset(1, 3)
    alive = np.array([False, True])
    for action in (0, 1, 1, 0, 1):
        reward, terminated, _ = env.step_alive(np.array([0, action]), alive)
        obs, r, term, _, _ = plain.step(action)
        assert np.array_equal(env.obs[1], obs)
        assert (reward[1], terminated[1]) == (r, term)
    env.close()


def test_a_picture_needs_no_display() -> None:
    code = (
        "import os, mujoco; from offrl.envs.vector import make_env\n"
        "assert 'MUJOCO_GL' not in os.environ\n"
        "make_env('Hopper-v5').close(); assert 'MUJOCO_GL' not in os.environ\n"
        "make_env('Hopper-v5', {'render_mode': 'rgb_array'}).close()\n"
        "print(os.environ['MUJOCO_GL'])"
    )
    clean = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    if sys.platform == "linux":
        assert run.stdout == "egl\n", run.stderr
