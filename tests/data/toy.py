"""Small in-memory datasets."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from offrl.data.dataset import Dataset


def dataset(
    lengths: Sequence[int], terminal: Sequence[bool], obs_dim: int = 3, action_dim: int = 2
) -> Dataset:
    """Episodes of the given lengths; `terminal` says which of them end in a terminal.

    Each episode has states of its own, the final one included; the reward of transition i is
    i + 1, its action is filled with i, and the state in row j is filled with j.
    """
    n, start = sum(lengths), np.concatenate([[0], np.cumsum(lengths)])
    index = np.arange(n) + np.repeat(np.arange(len(lengths)), lengths)
    n_states = n + len(lengths)
    terminated = np.zeros(n, dtype=np.bool_)
    terminated[start[1:] - 1] = terminal
    reward = np.arange(1, n + 1, dtype=np.float32)
    return Dataset(
        id="toy",
        digest="0" * 64,
        states=np.repeat(np.arange(n_states, dtype=np.float32)[:, None], obs_dim, axis=1),
        index=index,
        next_index=index + 1,
        action=np.repeat(np.arange(n, dtype=np.float32)[:, None], action_dim, axis=1),
        reward=reward,
        terminated=terminated,
        episode_start=start,
        complete=np.ones(len(lengths), dtype=np.bool_),
        episode_return=np.add.reduceat(reward.astype(np.float64), start[:-1]),
    )


def columns_of(d: Dataset) -> dict[str, np.ndarray]:
    """The columns that are stored of it."""
    columns = {f.name: getattr(d, f.name) for f in fields(d) if f.name not in ("id", "digest")}
    return {name: column for name, column in columns.items() if column is not None}
