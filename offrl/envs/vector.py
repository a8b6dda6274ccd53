"""Gymnasium environments, one after another in this process.

On two cores that is faster than a process for each (11,000 against 4,200 HalfCheetah steps/s).
"""

import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from offrl.envs.interface import EnvSpec
from offrl.errors import UserError


def env_spec(env_id: str, kwargs: Mapping[str, Any] | None = None) -> EnvSpec:
    """Looks at an environment and closes it.

    Raises UserError for an unknown id, and for spaces that the suite cannot use.
    """
    env = make_env(env_id, kwargs)
    try:
        return _spec(env_id, env)
    finally:
        env.close()


class VectorEnv:
    """`n` environments of one Gymnasium id; see offrl.envs.interface.Envs.  obs: float32 [n, D].

    Raises UserError for an unknown id, for spaces that the suite cannot use, and where episodes
    have no time limit.
    """

    def __init__(self, env_id: str, n: int, kwargs: Mapping[str, Any] | None = None) -> None:
        self.env_id = env_id
        self.envs = [make_env(env_id, kwargs) for _ in range(n)]
        self.spec = _spec(env_id, self.envs[0])
        if len(self.spec.obs_shape) != 1:
            raise UserError(
                f"environment {env_id}: needs observations in one dimension, has "
                f"{self.envs[0].observation_space}"
            )
        limit = self.envs[0].spec.max_episode_steps if self.envs[0].spec else None
        if limit is None:
            raise UserError(f"environment {env_id}: has no time limit; set max_episode_steps")
        self.max_episode_steps: int = limit
        self.obs = np.zeros((n, self.spec.obs_shape[0]), np.float32)
        self._reward = np.zeros(n, np.float64)
        self._terminated = np.zeros(n, np.bool_)
        self._truncated = np.zeros(n, np.bool_)

    @property
    def n(self) -> int:
        return len(self.envs)

    @property
    def per_second(self) -> float:
        return float(self.envs[0].metadata.get("render_fps", 50))

    def reset(self, i: int, seed: int) -> NDArray[np.float32]:
        self.obs[i], _ = self.envs[i].reset(seed=seed)
        row: NDArray[np.float32] = self.obs[i]
        return row

    def step_alive(
        self, actions: NDArray[Any], alive: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        self._reward[:] = 0.0
        self._terminated[:] = False
        self._truncated[:] = False
        for i in alive.nonzero()[0].tolist():
            step = self.envs[i].step(actions[i])
            self.obs[i], self._reward[i], self._terminated[i], self._truncated[i], _ = step
        return self._reward, self._terminated, self._truncated

    def picture(self, i: int) -> NDArray[np.uint8]:
        """Needs render_mode="rgb_array" among the settings."""
        try:
            picture: Any = self.envs[i].render()
        except Exception as e:  # of whatever graphics library is there, or is not
            raise UserError(
                f"{self.env_id}: cannot be rendered: {e}; set MUJOCO_GL to what this machine has: "
                "egl, osmesa or glfw"
            ) from e
        return np.asarray(picture)

    def close(self) -> None:
        for env in self.envs:
            env.close()


def make_env(env_id: str, kwargs: Mapping[str, Any] | None = None) -> gymnasium.Env[Any, Any]:
    """One environment, without Gymnasium's checks of every step.

    Raises UserError for an unknown id and for settings that it does not have.
    """
    kwargs = dict(kwargs or {})
    if kwargs.get("render_mode") and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        # only for pictures: where EGL is missing, MuJoCo would refuse to be imported with it
        os.environ.setdefault("MUJOCO_GL", "egl")
    with warnings.catch_warnings():
        # D4RL's data belongs to the -v4 environments, so their age is no news
        warnings.filterwarnings("ignore", ".* is out of date.*", DeprecationWarning)
        try:
            return gymnasium.make(env_id, disable_env_checker=True, **kwargs)
        except (gymnasium.error.Error, ImportError, TypeError, ValueError) as e:
            where = "dataset.env_id names it for dataset=file"
            raise UserError(f"environment {env_id}: cannot be made ({where}): {e}") from e


def _spec(env_id: str, env: gymnasium.Env[Any, Any]) -> EnvSpec:
    obs, action = env.observation_space, env.action_space
    if not isinstance(obs, Box):
        raise UserError(f"environment {env_id}: observations are {obs}, not a Box")
    if isinstance(action, Discrete):
        if action.start != 0:
            raise UserError(
                f"environment {env_id}: actions are {action}, counted from {action.start}; the "
                "algorithms count them from 0 (shift them in a wrapper)"
            )
        return EnvSpec(obs.shape, int(action.n), 0.0, False)
    if not isinstance(action, Box) or len(action.shape) != 1:
        raise UserError(f"environment {env_id}: actions are {action}, not a Box of one dimension")
    bound = float(action.high[0])
    if not (np.isfinite(bound) and (action.high == bound).all() and (action.low == -bound).all()):
        raise UserError(
            f"environment {env_id}: actions lie in [{action.low}, {action.high}]; the algorithms "
            "need the same finite bound on every side (rescale the actions in a wrapper)"
        )
    return EnvSpec(obs.shape, action.shape[0], bound, True)
