"""Smaller datasets, nested in one another."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from offrl.data.dataset import Dataset
from offrl.errors import UserError
from offrl.rng import generator

Scalar = TypeVar("Scalar", bound=np.generic)


def subset(dataset: Dataset, buffer_size: int | None) -> Dataset:
    """The longest prefix of one fixed permutation of the episodes with at most `buffer_size`
    transitions.

    The last episode is cut, and thereby truncated and not complete.  The permutation depends on
    nothing but the number of episodes, so a smaller subset is contained in every larger one and is
    the same for all algorithms and seeds.  None, or at least N, gives `dataset` itself; states
    stay mapped in any case.  Raises UserError if buffer_size < 1.
    """
    if buffer_size is not None and buffer_size < 1:
        raise UserError(f"buffer_size is {buffer_size}; it must be at least 1 (or null for all)")
    if buffer_size is None or buffer_size >= len(dataset):
        return dataset
    order = torch.randperm(dataset.n_episodes, generator=generator("subset")).numpy()
    first = dataset.episode_start[:-1][order]
    length = np.diff(dataset.episode_start)[order]
    end = np.cumsum(length)
    n_episodes = int(np.searchsorted(end, buffer_size)) + 1
    order, first, length, end = (x[:n_episodes] for x in (order, first, length, end))
    start = np.concatenate([[0], end[:-1], [buffer_size]])
    kept = np.diff(start)
    rows = np.arange(buffer_size) + np.repeat(first - start[:-1], kept)
    final_action = dataset.actions_after()[order]
    if kept[-1] < length[-1]:
        final_action[-1] = dataset.action[rows[-1] + 1]
    return replace(
        dataset,
        index=_frozen(dataset.index[rows]),
        next_index=_frozen(dataset.next_index[rows]),
        action=_frozen(dataset.action[rows]),
        reward=_frozen(dataset.reward[rows]),
        terminated=_frozen(dataset.terminated[rows]),
        episode_start=_frozen(start),
        complete=_frozen(dataset.complete[order] & (kept == length)),
        episode_return=_frozen(dataset.episode_return[order]),
        final_action=_frozen(final_action),
    )


def _frozen(column: NDArray[Scalar]) -> NDArray[Scalar]:
    """A read-only view."""
    view = column.view()
    view.flags.writeable = False
    return view
