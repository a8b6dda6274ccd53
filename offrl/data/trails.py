"""Rows of transitions -> episodes in time order, by what the rows contain.

A transition leads from (observation, action) to (next observation, next action).  These are the
nodes of a graph whose edges are the rows, and an order in time is a trail: a path that takes every
edge once.  Screens that do not change make nodes that are visited often; there the content leaves
the order open, and the order of the file decides.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def time_order(
    episode: Ints, before: NDArray[np.int32], after: NDArray[np.int32], over: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """(rows in time order [N], where the pieces start in them [P + 1]).

    Row i belongs to `episode`[i] and leads from what `before`[i] to what `after`[i] says, [N, K]
    each; nothing follows a row that is `over`.  A piece is a run of rows of one episode in which
    each leads to the next: the whole episode, or less where rows are missing.  Episodes come in the
    order of their first rows, and one whose rows stand in time order keeps it.
    """
    _, first, inverse = np.unique(episode, return_index=True, return_inverse=True)
    rows = np.argsort(first[inverse], kind="stable")
    a, b = rows[:-1], rows[1:]
    same = episode[a] == episode[b]
    follows = ~over[a] & (after[a] == before[b]).all(1)
    starts = np.concatenate(([0], (~same).nonzero()[0] + 1, [len(rows)]))
    broken = np.add.reduceat(np.append(same & ~follows, False), starts[:-1]) > 0
    pieces: list[Ints] = []
    for k, torn in enumerate(broken.tolist()):
        of_episode = rows[starts[k] : starts[k + 1]]
        if torn:
            pieces += _trails(of_episode, before, after, over)
        else:
            pieces.append(of_episode)
    ends = np.cumsum([0] + [len(p) for p in pieces])
    return np.concatenate(pieces), ends


def _trails(
    rows: Ints, before: NDArray[np.int32], after: NDArray[np.int32], over: NDArray[np.bool_]
) -> Iterator[Ints]:
    """The fewest trails that take every row once; Hierholzer's algorithm.

    Where a node is left more often than it is entered a trail begins, which is an edge to it from
    one more node, OUTSIDE, and where it is entered more often one ends: so every node is balanced.
    """
    tails = [before[i].tobytes() for i in rows]
    heads: list[bytes] = [
        b"over" + i.tobytes() if over[i] else after[i].tobytes() for i in rows
    ]  # all of one length but those of the last rows, which no row leaves
    edges = list(zip(heads, rows.tolist(), strict=True))
    leaving: dict[bytes, list[tuple[bytes, int]]] = {node: [] for node in (OUTSIDE, *tails, *heads)}
    for tail, edge in zip(tails, edges, strict=True):
        leaving[tail].append(edge)
    surplus = Counter(tails)
    surplus.subtract(heads)
    for node in leaving:
        leaving[OUTSIDE] += [(node, -1)] * surplus[node]
        leaving[node] += [(OUTSIDE, -1)] * -surplus[node]
    for edges_left in leaving.values():
        edges_left.reverse()  # the first is taken from the end
    for start in leaving:  # OUTSIDE first; then only rings are left
        yield from _split(_circuit(start, leaving))


OUTSIDE = b""


def _circuit(start: bytes, leaving: dict[bytes, list[tuple[bytes, int]]]) -> list[int]:
    """The rows of a closed trail from `start` through all that can be reached; takes its edges."""
    path, circuit = [(start, -1)], []
    while path:
        node, row = path[-1]
        if leaving[node]:
            path.append(leaving[node].pop())
        else:
            circuit.append(row)
            path.pop()
    return circuit[::-1]


def _split(circuit: Sequence[int]) -> Iterator[Ints]:
    """The stretches between the edges from and to OUTSIDE, which are no rows."""
    marks = [k for k, row in enumerate(circuit) if row < 0]
    for a, b in zip(marks, [*marks[1:], len(circuit)], strict=True):
        if b > a + 1:
            yield np.array(circuit[a + 1 : b])
