"""Data in D4RL's layout, made up for the tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Rows = dict[str, NDArray[Any]]


def rows(ends: Sequence[str], obs_dim: int = 3, action_dim: int = 2) -> Rows:
    """Distinct numbers; `ends` says per row: '-' goes on, 'd' terminal, 't' time-out, 'b' both.

    After an end the next row is another episode's start, so next_observations differ there.
    """
    g = np.random.default_rng(len(ends))
    n = len(ends)
    flags = np.array(list(ends))
    terminals = (flags == "d") | (flags == "b")
    timeouts = (flags == "t") | (flags == "b")
    observations = g.standard_normal((n, obs_dim), dtype=np.float32)
    following = np.concatenate([observations[1:], g.standard_normal((1, obs_dim))])
    ended = terminals | timeouts
    following[ended] = g.standard_normal((int(ended.sum()), obs_dim))
    return {
        "observations": observations,
        "next_observations": following.astype(np.float32),
        "actions": g.uniform(-1, 1, (n, action_dim)).astype(np.float32),
        "rewards": g.standard_normal(n, dtype=np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def write(path: Path, columns: Mapping[str, NDArray[Any]]) -> Path:
    with h5py.File(path, "w") as f:
        for key, column in columns.items():
            f.create_dataset(key, data=column)
        f.create_dataset("metadata/algorithm", data="a scalar, as D4RL's -v2 files have them")
    return path
