"""Episodes as the simulator gives them -> the columns of a Dataset."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rows(NamedTuple):
    """One episode of T steps."""

    obs: NDArray[np.float32]  # [T + 1, D]: the last is the final next observation
    action: NDArray[np.float32]  # [T, A]
    reward: NDArray[np.float32]  # [T]
    terminated: bool  # at the last step
    return_: float


def columns(episodes: list[Rows], n: int) -> dict[str, NDArray[Any]]:
    """The columns of a Dataset with exactly `n` transitions; the last episode is cut."""
    length = np.array([len(e.action) for e in episodes])
    starts = np.concatenate(([0], np.minimum(np.cumsum(length), n)))
    used = int(np.searchsorted(starts, n))
    kept, starts = episodes[:used], starts[: used + 1]
    size = np.diff(starts)
    complete = size == length[:used]
    terminated = np.zeros(n, np.bool_)
    terminated[starts[1:] - 1] = complete & np.array([e.terminated for e in kept])
    # episode e has size[e] + 1 states, so transition i of episode e stands in row i + e
    index = np.arange(n) + np.repeat(np.arange(used), size)
    pairs = list(zip(kept, size, strict=True))
    return {
        "states": np.concatenate([e.obs[: k + 1] for e, k in pairs]),
        "index": index,
        "next_index": index + 1,
        "action": np.concatenate([e.action[:k] for e, k in pairs]),
        "reward": np.concatenate([e.reward[:k] for e, k in pairs]),
        "terminated": terminated,
        "episode_start": starts,
        "complete": complete,
        "episode_return": np.array([e.return_ for e in kept]),
    }


def concatenate(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The columns of several datasets, one after another."""
    n_states = np.cumsum([0] + [len(p["states"]) for p in parts])
    n_rows = np.cumsum([0] + [len(p["index"]) for p in parts])
    out = {k: np.concatenate([p[k] for p in parts]) for k in parts[0] if k != "episode_start"}
    for k in ("index", "next_index"):
        out[k] = np.concatenate([p[k] + s for p, s in zip(parts, n_states, strict=False)])
    starts = [p["episode_start"][:-1] + r for p, r in zip(parts, n_rows, strict=False)]
    out["episode_start"] = np.concatenate([*starts, n_rows[-1:]])
    return out
