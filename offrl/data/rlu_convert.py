"""One shard of RL Unplugged's Atari data -> a file of offrl.data.atari_file."""

import contextlib
import fcntl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from offrl.atomic import remove_leftovers
from offrl.data import atari_file
from offrl.data.digest import sha256_file
from offrl.data.memory import require_disk
from offrl.data.rlu_shard import Shard, read_shard
from offrl.data.trails import time_order
from offrl.envs.frames import STACK
from offrl.errors import UserError

T = TypeVar("T")


class Played(NamedTuple):
    """What a shard does not say itself."""

    actions: tuple[str, ...]  # the names of actions 0, 1, ...
    max_episode_steps: int
    meta: Mapping[str, Any]  # JSON, recorded in the file


def convert(path: Path, out: Path, played: Played, report: Callable[[int], object]) -> int:
    """Converts the shard at `path` to `out`, whole or not at all; the number of its transitions.

    report(k): k more bytes of the shard were read.  Raises UserError.
    """
    try:
        # as much as the shard for the pictures while it is converted, and as much for the result
        require_disk(out.parent, 2 * path.stat().st_size, f"converting {path}", "free some space")
        with tempfile.TemporaryFile(dir=out.parent) as spill:  # it has no name: nothing is left
            shard = read_shard(path, spill, report)
            _check_actions(shard, played.actions, path)
            columns, frames = _columns(shard, played.max_episode_steps)
            blocks = _ahead(shard.frames.decoded(frames, atari_file.BLOCK))
            meta = {**played.meta, "sha256": sha256_file(path), "n": len(columns["index"])}
            atari_file.write_atari(out, blocks, lambda: columns, meta)
    except OSError as e:
        raise UserError(f"converting {path} to {out}: {e.strerror or e}") from e
    return len(columns["index"])


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """One process at a time; what a killed one has left of `out` is removed."""
    with out.with_name(f".{out.name}.lock").open("w") as f:
        with contextlib.suppress(OSError):  # a file system without locks: go on without
            fcntl.flock(f, fcntl.LOCK_EX)
        remove_leftovers(out.parent, out.name)
        yield


def _columns(shard: Shard, limit: int) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """The columns of a Dataset but `states`, and the frames that those are, in their order."""
    before = np.column_stack([shard.stacks[:, :STACK], shard.action]).astype(np.int32)
    after = np.column_stack([shard.stacks[:, STACK:], shard.next_action]).astype(np.int32)
    rows, starts = time_order(shard.episode, before, after, shard.terminated)
    stacks = shard.stacks[rows]
    frames = _first_seen(stacks.ravel(), len(shard.frames))
    place = np.empty(len(frames), np.int32)
    place[frames] = np.arange(len(frames), dtype=np.int32)
    first, last = starts[:-1], starts[1:] - 1
    terminated, total = shard.terminated[rows], shard.episode_return[rows[first]]
    rewards = np.add.reduceat(shard.reward[rows].astype(np.float64), first)
    padded = (stacks[first, : STACK - 1] == stacks[first, :1]).all(1)  # an episode's first stack
    ended = terminated[last] | (last + 1 - first >= limit)
    return {
        "index": place[stacks[:, :STACK]],
        "next_index": place[stacks[:, STACK:]],
        "action": shard.action[rows],
        "reward": shard.reward[rows],
        "terminated": terminated,
        "episode_start": starts,
        "complete": padded & ended & (rewards == total),
        "episode_return": total,
    }, frames


def _first_seen(numbers: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """0 to n - 1, all of which are in `numbers`, in the order of their first places there.

    So neighbours in time are neighbours in the file, where deflate finds what they share.
    """
    place = np.empty(n, np.int64)
    place[numbers[::-1]] = np.arange(len(numbers))[::-1]  # of equal ones the last is kept
    return np.argsort(place)


def _check_actions(shard: Shard, names: tuple[str, ...], path: Path) -> None:
    for name, column in (("a_t", shard.action), ("a_tp1", shard.next_action)):
        # after the end of an episode there is no action
        wrong = (column < 0) | (column >= len(names))
        if name == "a_tp1":
            wrong &= ~shard.terminated
        if wrong.any():
            k = int(wrong.argmax())
            raise UserError(
                f"{path}: record {k}: {name} is {column[k]}, but the game has actions 0 to "
                f"{len(names) - 1}: {' '.join(names)}; is it a shard of that game?"
            )


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same; the next one is made by a thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
