"""Whether data is of its environment at all: the simulator repeats some of its transitions.

Robots share sizes (halfcheetah and walker2d both have 17 observations and 6 actions), and a file's
columns may be permuted or already normalised.  No shape shows that; a step of the simulator does.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offrl.data.dataset import Dataset
from offrl.envs.vector import make_env
from offrl.errors import UserError

_N = 64  # transitions, spread over the data
# The error of a next observation, each dimension in units of its root mean square step: the root
# mean square over dimensions, the median over transitions.  For D4RL's robots, moving well or at
# random, it is 0 on their own data, at most 1.2 with noise of 0.3 standard deviations on every
# observation, 3.7 and more on another robot's data, 6.4 and more where columns are normalised, and
# over 100 where they are reversed.
_BOUND = 2.0
_CLIP = 10.0  # Hopper and Walker2d clip velocities there, and so hide their state


def check_dynamics(dataset: Dataset, env_id: str) -> None:
    """UserError if, from its observations and actions, the simulator goes somewhere else.

    For environments of MuJoCo whose observations are the simulator's positions, less the first
    few, and velocities; others cannot be set to a state, and nothing is said of them.
    """
    env = make_env(env_id)
    try:
        hidden = _hidden_positions(env)
        if hidden is None:
            return
        obs, action, following = _sample(dataset)
        if not len(obs):
            return
        simulated = np.array([_step(env, hidden, o, a) for o, a in zip(obs, action, strict=True)])
    finally:
        env.close()
    step = np.sqrt(((following - obs) ** 2).mean(axis=0)) + 1e-6  # some dimension may never move
    error = np.sqrt((((simulated - following) / step) ** 2).mean(axis=1))
    if not np.median(error) < _BOUND:  # a NaN is no match either
        raise UserError(
            f"{dataset.id}: its transitions are not those of {env_id}: from the same observations "
            "and actions the simulator goes elsewhere; choose the environment that the data comes "
            "from (env=..., dataset.env_id=...), or mend its columns: they may be permuted, scaled "
            "or normalised"
        )


def _hidden_positions(env: gymnasium.Env[Any, Any]) -> int | None:
    """How many of the first positions the observations leave out; None if they are not such."""
    inner: Any = env.unwrapped
    if not hasattr(inner, "set_state"):
        return None
    obs, _ = env.reset(seed=0)
    state = np.concatenate([inner.data.qpos, inner.data.qvel])
    hidden = len(state) - len(obs)
    return hidden if hidden >= 0 and np.array_equal(obs, state[hidden:]) else None


def _sample(dataset: Dataset) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """o, a, o' of transitions that a simulator can repeat, at most _N of each."""
    rows = np.flatnonzero(~dataset.terminated)  # D4RL's view has another o' after a terminal
    rows = rows[:: max(1, len(rows) // (50 * _N))]
    obs, following = dataset.states[dataset.index[rows]], dataset.states[dataset.next_index[rows]]
    whole = np.flatnonzero((np.abs(np.hstack([obs, following])) < _CLIP).all(1))
    keep = whole[:: max(1, len(whole) // _N)][:_N]
    return obs[keep], dataset.action[rows[keep]], following[keep]


def _step(
    env: gymnasium.Env[Any, Any], hidden: int, obs: NDArray[Any], action: NDArray[Any]
) -> NDArray[Any]:
    """The observation after an action, from the state that an observation shows."""
    inner: Any = env.unwrapped
    state = np.concatenate([np.zeros(hidden), obs])
    inner.set_state(state[: inner.model.nq], state[inner.model.nq :])
    following: NDArray[Any] = inner.step(action)[0]
    return following
