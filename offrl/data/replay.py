"""Data of which only the actions are kept, 12 to 24 bytes a step.

The simulator, reset as it was, gives the rest again, in every bit.  One that differs in the last
bit would drift away from the states that the actions were chosen for, so returns are compared with
the recorded ones.

"medium-replay", as D4RL's, is all that a behaviour policy did in its training until it was medium.
The others are the first 100,000 transitions of the medium and the expert policy.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from offrl.data.package import policy_tensors
from offrl.data.rows import Rows, columns
from offrl.envs.vector import VectorEnv
from offrl.errors import UserError
from offrl.rng import address_seed

NAME = "actions"  # of the tensor in the file


def collect_seed(seed: int, block: int, episode: int) -> int:
    """From which an episode of an online training starts; `block` is the first step of a block."""
    return address_seed(seed, "collect", block, "episode", episode)


def replay(
    env: VectorEnv, actions: NDArray[np.float32], seed: int, block: int
) -> dict[str, NDArray[Any]]:
    """The columns of a Dataset from the actions [N, A] of an online training of that seed.

    The training resets its environment every `block` steps, which cuts an episode: it is then
    neither terminated nor complete.
    """
    episodes: list[Rows] = []
    complete: list[bool] = []
    for first in range(0, len(actions), block):
        stop, at, k = min(first + block, len(actions)), first, 0
        while at < stop:
            rows, ended = _episode(env, collect_seed(seed, first, k), actions[at:stop])
            episodes.append(rows)
            complete.append(ended)
            at += len(rows.action)
            k += 1
    return columns(episodes, len(actions)) | {"complete": np.array(complete)}


def recorded_replay(robot: str, record: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The columns of a robot's medium-replay, from the package's file.

    Raises UserError where the robot has none, for a file that is not the recorded one, and where
    the simulator of this machine does not give the recorded returns.
    """
    if "replay" not in record:
        raise UserError(f"dataset.quality=medium-replay: {robot} has no replay of its own")
    known, training = record["replay"], record["training"]
    tensors = policy_tensors(robot, "replay", known["sha256"])
    env = VectorEnv(record["env_id"], 1)
    try:
        data = replay(env, tensors[NAME].numpy(), training["seed"], training["eval_every"])
    finally:
        env.close()
    seen = summary(data)
    same = math.isclose(seen["return_mean"], known["return_mean"], rel_tol=1e-6)
    if seen["episodes"] != known["episodes"] or not same:
        raise UserError(
            f"offrl/{robot}/medium-replay: this machine's simulator gives {seen}, recorded were "
            f"{known['episodes']} episodes with mean return {known['return_mean']}: the replay "
            "cannot be made here; use another quality, or the pinned mujoco on an x86-64 machine"
        )
    return data


def kept_episodes(
    env: VectorEnv,
    kept: Mapping[str, Tensor],
    start_seed: Callable[[int], int],
    transitions: int,
) -> list[Rows] | None:
    """The first episodes of `kept`, until they have so many transitions or no more are kept.

    `kept` holds float32 actions [N, A], int64 lengths [E] and float64 returns [E].  None where the
    simulator of this machine does not repeat an episode.
    """
    lengths, returns = kept["lengths"].tolist(), kept["returns"].tolist()
    actions = kept[NAME].numpy()
    episodes: list[Rows] = []
    at = 0
    for length, return_ in zip(lengths, returns, strict=True):
        if at >= transitions:
            break
        rows, ended = _episode(env, start_seed(len(episodes)), actions[at : at + length])
        if not ended or (len(rows.action), rows.return_) != (length, return_):
            return None
        episodes.append(rows)
        at += length
    return episodes


def summary(data: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """What is recorded of a replay: its complete episodes."""
    returns = data["episode_return"][data["complete"]]
    return {"episodes": len(returns), "return_mean": float(returns.mean())}


def _episode(env: VectorEnv, seed: int, actions: NDArray[np.float32]) -> tuple[Rows, bool]:
    """One episode, and whether it came to its end before the actions did."""
    obs, rewards = [env.reset(0, seed).copy()], []
    alive = np.ones(1, np.bool_)
    for t in range(len(actions)):
        reward, terminated, truncated = env.step_alive(actions[t : t + 1], alive)
        obs.append(env.obs[0].copy())
        rewards.append(float(reward[0]))
        if terminated[0] or truncated[0]:
            break
    r = np.array(rewards)
    ended = bool(terminated[0] or truncated[0])
    done = bool(terminated[0])
    rows = Rows(np.stack(obs), actions[: len(r)], r.astype(np.float32), done, float(r.sum()))
    return rows, ended
