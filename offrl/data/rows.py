"""Episodes as the simulator gives them -> the columns of a Dataset."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offrl.envs.frames import STACK


class Rows(NamedTuple):
    """One episode of T steps."""

    obs: NDArray[Any]  # float32 [T + 1, D] or frames uint8 [T + 1, 84, 84]; the last ends it
    action: NDArray[Any]  # float32 [T, A] or int64 [T]
    reward: NDArray[np.float32]  # [T]
    terminated: bool  # at the last step
    return_: float


def columns(episodes: list[Rows], n: int) -> dict[str, NDArray[Any]]:
    """The columns of a Dataset with exactly `n` transitions; the last episode is cut."""
    kept = np.diff(cuts([len(e.action) for e in episodes], n))
    states = [e.obs[: k + 1] for e, k in zip(episodes, kept, strict=False)]
    return {"states": np.concatenate(states), **table(episodes, n)}


def cuts(lengths: Sequence[int], n: int) -> NDArray[np.int64]:
    """episode_start [E + 1] of the first `n` transitions of episodes of these lengths."""
    starts = np.concatenate(([0], np.minimum(np.cumsum(lengths), n)))
    return starts[: int(np.searchsorted(starts, n)) + 1]


def table(episodes: list[Rows], n: int) -> dict[str, NDArray[Any]]:
    """All columns but the states, of which nothing is read but what they are."""
    starts = cuts([len(e.action) for e in episodes], n)
    size = np.diff(starts)
    used = len(size)
    kept = episodes[:used]
    complete = size == np.array([len(e.action) for e in kept])
    terminated = np.zeros(n, np.bool_)
    terminated[starts[1:] - 1] = complete & np.array([e.terminated for e in kept])
    # episode e has size[e] + 1 states, so transition i of episode e stands in row i + e
    index: NDArray[Any] = np.arange(n) + np.repeat(np.arange(used), size)
    next_index = index + 1
    if episodes[0].obs.ndim == 3:
        first = np.repeat(starts[:-1] + np.arange(used), size)
        index, next_index = stacks(index, first), stacks(next_index, first)
    pairs = list(zip(kept, size, strict=True))
    return {
        "index": index,
        "next_index": next_index,
        "action": np.concatenate([e.action[:k] for e, k in pairs]),
        "reward": np.concatenate([e.reward[:k] for e, k in pairs]),
        "terminated": terminated,
        "episode_start": starts,
        "complete": complete,
        "episode_return": np.array([e.return_ for e in kept]),
    }


def stacks(newest: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int32]:
    """The frames of an observation, the oldest first, int32 [N, 4].

    `newest` [N] is its last frame and `first` [N] the first one of the episode, which is repeated.
    """
    back = newest[:, None] - np.arange(STACK - 1, -1, -1)
    frames: NDArray[np.int32] = np.maximum(back, first[:, None]).astype(np.int32)
    return frames


def concatenate(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The columns of several datasets, one after another."""
    small = [{k: x for k, x in p.items() if k != "states"} for p in parts]
    states = [p["states"] for p in parts]
    return {"states": np.concatenate(states), **following(small, [len(x) for x in states])}


def following(
    parts: Sequence[dict[str, NDArray[Any]]], n_states: Sequence[int]
) -> dict[str, NDArray[Any]]:
    """concatenate() of all columns but the states, of which each part has so many."""
    if len(parts) == 1:
        return parts[0]
    n_before = np.cumsum([0, *n_states]).tolist()  # Python's numbers: int32 stays int32
    n_rows = np.cumsum([0] + [len(p["index"]) for p in parts])
    out = {k: np.concatenate([p[k] for p in parts]) for k in parts[0] if k != "episode_start"}
    for k in ("index", "next_index"):
        out[k] = np.concatenate([p[k] + s for p, s in zip(parts, n_before, strict=False)])
    starts = [p["episode_start"][:-1] + r for p, r in zip(parts, n_rows, strict=False)]
    out["episode_start"] = np.concatenate([*starts, n_rows[-1:]])
    return out
