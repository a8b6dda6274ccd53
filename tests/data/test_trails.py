"""Rows in time order, by what they contain."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from offrl.data.trails import time_order


def order(nodes: list[list[int]], file: list[int], ids: list[int] | None = None) -> list[list[int]]:
    """The pieces of episodes that visit these nodes, whose rows stand in the order `file`.

    Row k of all is named k; an episode ends terminally with node -1.
    """
    rows = [(e, a, b) for e, path in enumerate(nodes) for a, b in itertools.pairwise(path)]
    picked = [rows[i] for i in file]
    episode = np.array([(ids or list(range(len(nodes))))[e] for e, _, _ in picked])
    before = np.array([[a] for _, a, _ in picked], np.int32)
    after = np.array([[b] for _, _, b in picked], np.int32)
    found, starts = time_order(episode, before, after, after[:, 0] == -1)
    names = np.array(file)[found]
    assert sorted(names.tolist()) == sorted(file)
    return [names[a:b].tolist() for a, b in itertools.pairwise(starts)]


def permuted(n: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(n).tolist()


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_rows(seed: int) -> None:
    pieces = order([[1, 2, 3, 4, -1], [1, 2, 3, 9]], permuted(7, seed), [-(2**62), 2**62])
    assert sorted(pieces) == [[0, 1, 2, 3], [4, 5, 6]]


def test_in_file_order_static_screens_stay_as_they_are() -> None:
    path = [1, 2, 2, 2, 3, 2, 2, 4, 2, -1]
    assert order([path], list(range(9))) == [list(range(9))]


@pytest.mark.parametrize("seed", range(20))
def test_static_screens_in_any_order_make_one_piece(seed: int) -> None:
    path = [1, 2, 2, 2, 3, 2, 2, 4, 2, -1]
    (piece,) = order([path], permuted(9, seed))
    rows = list(itertools.pairwise(path))
    trail = [rows[k] for k in piece]
    assert all(b == c for (_, b), (c, _) in itertools.pairwise(trail))
    assert (piece[0], piece[-1]) == (0, 8)


@pytest.mark.parametrize("seed", range(10))
def test_missing_rows_leave_pieces(seed: int) -> None:
    kept = [k for k in permuted(9, seed) if k not in (3, 6)]
    pieces = order([[1, 2, 3, 4, 5, 6, 7, 8, 9, -1]], kept)
    assert sorted(pieces) == [[0, 1, 2], [4, 5], [7, 8]]


def test_nothing_follows_a_terminal_row() -> None:
    def pieces(over: NDArray[np.bool_]) -> list[int]:
        nodes = np.array([[1], [2], [3], [4]], np.int32)
        return time_order(np.zeros(3, np.int64), nodes[:-1], nodes[1:], over)[1].tolist()

    assert pieces(np.array([False, False, False])) == [0, 3]
    assert pieces(np.array([False, True, False])) == [0, 2, 3]


def test_episodes_do_not_link_and_come_as_they_begin() -> None:
    assert order([[1, 2], [2, 3]], [1, 0]) == [[1], [0]]
    assert order([[1, 2, 3], [5, 6, 7]], [0, 2, 1, 3]) == [[0, 1], [2, 3]]


def test_a_ring_is_one_piece_from_its_first_row() -> None:
    assert order([[1, 2, 3, 1]], [1, 0, 2]) == [[1, 2, 0]]


def random_walk(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 4, 40).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_every_trail_is_one_however_often_it_crosses_itself(seed: int) -> None:
    walk = [9, *random_walk(seed), -1]
    rows = list(itertools.pairwise(walk))
    (piece,) = order([walk], permuted(len(rows), seed))
    trail = [rows[k] for k in piece]
    assert all(b == c for (_, b), (c, _) in itertools.pairwise(trail))
