"""buffer_size: one nested family of subsets for everybody."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from d4rl_layout import rows, write
from toy import dataset

from offrl.data.d4rl import unpack_hdf5
from offrl.data.dataset import Dataset
from offrl.data.subset import subset
from offrl.data.transitions import Transitions
from offrl.errors import UserError

LENGTHS = [5, 1, 8, 3, 12, 2, 7, 4]
N = sum(LENGTHS)


@pytest.fixture
def whole() -> Dataset:
    return dataset(LENGTHS, [True, False] * 4)


@pytest.mark.parametrize("buffer_size", range(1, N))
def test_a_prefix_of_whole_episodes_with_the_last_one_cut(whole: Dataset, buffer_size: int) -> None:
    part = subset(whole, buffer_size)
    assert len(part) == buffer_size
    assert part.episode_start[-1] == buffer_size
    assert part.n_episodes == len(part.episode_return) == len(part.episode_start) - 1
    for e, (a, b) in enumerate(pairwise(part.episode_start)):
        taken = part.action[a:b, 0].astype(int)  # the source's row numbers
        source = int(np.searchsorted(whole.episode_start, taken[0], side="right")) - 1
        first, end = whole.episode_start[source : source + 2]
        cut = e == part.n_episodes - 1 and b - a < end - first
        assert taken.tolist() == list(range(first, first + (b - a)))
        assert cut or b - a == end - first
        assert part.complete[e] == (not cut)
        assert part.terminated[b - 1] == (not cut and whole.terminated[end - 1])
        assert part.episode_return[e] == whole.episode_return[source]


def test_subsets_are_nested(whole: Dataset) -> None:
    for smaller, larger in pairwise(range(1, N)):
        a, b = subset(whole, smaller), subset(whole, larger)
        np.testing.assert_array_equal(a.action, b.action[:smaller])
        np.testing.assert_array_equal(a.index, b.index[:smaller])
    assert not np.array_equal(subset(whole, N - 1).index, whole.index[: N - 1])  # shuffled


def test_the_subset_is_always_the_same(whole: Dataset) -> None:
    """The permutation is part of every published number: changing it is a change of the data."""
    part = subset(whole, N - 1)
    firsts = part.action[part.episode_start[:-1], 0].astype(int).tolist()
    assert firsts == [17, 31, 5, 14, 38, 6, 0, 29]


@pytest.mark.parametrize("buffer_size", [None, N, N + 1])
def test_all_of_it_is_the_dataset_itself(whole: Dataset, buffer_size: int | None) -> None:
    assert subset(whole, buffer_size) is whole


@pytest.mark.parametrize("buffer_size", [0, -5])
def test_a_size_that_makes_no_sense(whole: Dataset, buffer_size: int) -> None:
    with pytest.raises(UserError, match=f"buffer_size is {buffer_size}; it must be at least 1"):
        subset(whole, buffer_size)


def test_a_cut_episode_is_bootstrapped(whole: Dataset) -> None:
    cut = next(k for k in range(1, N) if not subset(whole, k).complete[-1])
    transitions = Transitions(subset(whole, cut), 0.9, 1, None, "cpu")
    batch = transitions.gather(torch.tensor([cut - 1]))
    assert batch.discount.item() == pytest.approx(0.9)


@pytest.mark.parametrize("stored", [True, False])
def test_the_action_after_a_cut_is_still_the_data_s(whole: Dataset, stored: bool) -> None:
    after = whole.actions_after() + (100 if stored else 0)
    d = replace(whole, final_action=after) if stored else whole
    ends = whole.episode_start[1:] - 1
    for k in range(1, N):
        part = subset(d, k)
        batch = Transitions(part, 0.9, 1, None, "cpu").gather(torch.arange(k))
        for action, following in zip(part.action[:, 0], batch.next_action[:, 0], strict=True):
            i = int(action)  # the source's row number
            assert following == (after[list(ends).index(i), 0] if i in ends else i + 1)


def test_returns_are_of_complete_episodes_only(whole: Dataset) -> None:
    for k in range(1, N):
        part = subset(whole, k)
        assert len(part.episode_returns()) == part.complete.sum()
        assert set(part.episode_returns()) <= set(whole.episode_returns())


def test_states_stay_mapped_and_columns_read_only(tmp_path: Path) -> None:
    d = unpack_hdf5(write(tmp_path / "a.hdf5", rows("---t---d--")), "file/x", tmp_path / "c", 4)
    part = subset(d, 4)
    assert part.states is d.states
    for column in (part.index, part.action, part.reward, part.episode_start, part.complete):
        with pytest.raises(ValueError, match="read-only"):
            column[...] = 0
    Transitions(part, 0.9, 1, None, "cpu")
