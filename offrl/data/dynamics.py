"""Whether data is of its environment at all: the simulator repeats some of its transitions.

Robots share sizes (halfcheetah and walker2d both have 17 observations and 6 actions), and a file's
columns may be permuted, scaled or normalised.  No shape shows that; a step of the simulator does.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offrl.data.dataset import Dataset
from offrl.envs.vector import make_env
from offrl.errors import UserError

_N = 64  # transitions, spread over the data
_FEW = 16  # with fewer nothing is certain
# The error of a transition: of the next observation, each dimension in units of its root mean
# square step, the root mean square over dimensions.  Nine in ten are below 0.02 for D4RL's robots'
# own data, 0.07 with observations in half precision, 0.1 for -v4 data on -v5 (Walker2d's right foot
# slides otherwise); one in ten may be anything, for contacts differ between versions of MuJoCo.
# Of all that the tests change, the mildest (a first position moved by 50, so that the floor is
# gone) has one transition in ten above 0.28, halved actions above 0.33, two swapped columns 0.37.
_SHARE, _BOUND = 0.9, 0.15
# The median error beside that with the actions of other transitions: at most 0.03 on the robots'
# own data, 0.79 and more where actions are permuted.  It sees small actions, that move little.
_RATIO = 0.3
_ROUNDING = 0.01  # where all actions are alike, others do no worse
# The median difference of rewards: at most 0.001 on the robots' own data, in half precision too and
# -v4 data on -v5; 0.02 and more where they are another row's.
_REWARD = 0.01


class _Layout(NamedTuple):
    """How observations show the simulator's state."""

    hidden: int  # the first positions, left out
    velocities: int  # where velocities begin
    clip: float  # their bound, at which they hide the state (Hopper, Walker2d); inf if none


def check_dynamics(dataset: Dataset, env_id: str) -> None:
    """UserError if, from its observations and actions, the simulator goes somewhere else.

    For environments of MuJoCo whose observations are the simulator's positions, less the first
    few, and velocities; others cannot be set to a state, and nothing is said of them.  Data of too
    few transitions to be sure gets a line on stderr, and so does data with other rewards, for they
    may be meant.
    """
    env = make_env(env_id)
    try:
        layout = _layout(env)
        if layout is None:
            return
        rows = np.flatnonzero(~dataset.terminated)  # D4RL's view has another o' after a terminal
        shown = _shown(dataset, rows, layout)
        if len(shown) < _FEW <= len(rows):
            raise UserError(
                f"{dataset.id}: its velocities stand at {env_id}'s bound of {layout.clip:g} in "
                f"nearly all of {len(rows)} transitions: they are scaled or clipped; mend its "
                "columns, or choose the environment that the data comes from (env=...)"
            )
        if len(shown) < _FEW:
            print(
                f"{dataset.id}: has {len(shown)} transition(s) that {env_id} can repeat, too few "
                "to tell whether it is data of that environment",
                file=sys.stderr,
            )
        if not len(shown):
            return
        if not _repeats(dataset, shown, env, layout):
            raise UserError(
                f"{dataset.id}: its transitions are not those of {env_id}: from the same "
                "observations and actions the simulator goes elsewhere; choose the environment "
                "that the data comes from (env=..., dataset.env_id=...), or mend its columns: they "
                "may be permuted, scaled or normalised, and actions may be another row's"
            )
        if (apart := _rewards_apart(dataset, shown, env, layout)) > _REWARD:
            print(
                f"{dataset.id}: its rewards are not those of {env_id} (half of them differ by "
                f"{apart:.2g} or more): learning takes them as they are, scores are the "
                "environment's own",
                file=sys.stderr,
            )
    finally:
        env.close()


def _layout(env: gymnasium.Env[Any, Any]) -> _Layout | None:
    """None if observations are no such state."""
    inner: Any = env.unwrapped
    if not hasattr(inner, "set_state") or not hasattr(inner, "_get_obs"):
        return None
    obs, _ = env.reset(seed=0)
    state = np.concatenate([inner.data.qpos, inner.data.qvel])
    hidden = len(state) - len(obs)
    if hidden < 0 or not np.array_equal(obs, state[hidden:]):
        return None
    fast = 1e3  # faster than any bound
    inner.set_state(inner.data.qpos.copy(), np.full(inner.model.nv, fast))
    velocities = inner.model.nq - hidden
    shown = float(inner._get_obs()[velocities:].max())
    return _Layout(hidden, velocities, shown if shown < fast else np.inf)


def _shown(dataset: Dataset, rows: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    """At most _N of `rows`, evenly, from whose observations the state can be set."""
    rows = rows[:: max(1, len(rows) // (50 * _N))]
    speed = np.abs(dataset.states[dataset.index[rows]][:, layout.velocities :])
    # at the bound, give or take what rounding moves; beyond it is no state of this robot
    rows = rows[~np.isclose(speed, layout.clip, rtol=0.01).any(axis=1)]
    return rows[np.linspace(0, len(rows) - 1, min(_N, len(rows))).astype(np.int64)]


def _repeats(
    dataset: Dataset, rows: NDArray[Any], env: gymnasium.Env[Any, Any], layout: _Layout
) -> bool:
    """Whether the simulator goes where the transitions at `rows` go, by their own actions."""
    obs, action = dataset.states[dataset.index[rows]], dataset.action[rows]
    following = dataset.states[dataset.next_index[rows]]
    step = np.sqrt(((following - obs) ** 2).mean(axis=0)) + 1e-6  # some dimension may never move

    def errors(actions: NDArray[Any]) -> NDArray[Any]:
        simulated, _ = _simulated(env, layout, obs, actions)
        each: NDArray[Any] = np.sqrt((((simulated - following) / step) ** 2).mean(axis=1))
        return each

    with _silent(), np.errstate(all="ignore"):
        own, others = errors(action), errors(np.roll(action, len(action) // 2, axis=0))
    # written so that a NaN is no match
    return bool(
        np.quantile(own, _SHARE) < _BOUND
        and np.median(own) < _RATIO * np.median(others) + _ROUNDING
    )


def _rewards_apart(
    dataset: Dataset, rows: NDArray[Any], env: gymnasium.Env[Any, Any], layout: _Layout
) -> float:
    """The median difference between the rewards at `rows` and the simulator's."""
    with _silent():
        obs, action = dataset.states[dataset.index[rows]], dataset.action[rows]
        _, simulated = _simulated(env, layout, obs, action)
    return float(np.median(np.abs(simulated - dataset.reward[rows])))


def _simulated(
    env: gymnasium.Env[Any, Any], layout: _Layout, obs: NDArray[Any], action: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The next observations [N, D] and rewards [N], each from the state that one of `obs` shows."""
    inner: Any = env.unwrapped
    following, rewards = [], []
    for o, a in zip(obs, action, strict=True):
        state = np.concatenate([np.zeros(layout.hidden), o])
        inner.set_state(state[: inner.model.nq], state[inner.model.nq :])
        next_obs, reward, *_ = inner.step(a)
        following.append(next_obs)
        rewards.append(reward)
    return np.array(following), np.array(rewards)


@contextmanager
def _silent() -> Iterator[None]:
    """MuJoCo warns of states that no robot has, on stdout and in a file of the working folder."""
    import mujoco  # only now: imported earlier, it would ask for a display's library

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda _: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
