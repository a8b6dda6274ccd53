"""D4RL's HDF5 layout -> Dataset.

The default view gives the transitions of `d4rl.qlearning_dataset`, to the bit and in its order:
rows 0 .. N-2, the next observation is the observation of the next row (after a terminal row that
is the next episode's first, which its discount of 0 masks), rows with a time-out are dropped, a
time-out wins over a terminal.  What it loses there, the episode boundaries, is kept here.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offrl.atomic import write_atomic
from offrl.data.dataset import Dataset
from offrl.data.digest import sha256_file
from offrl.data.hdf5 import Rows, check_actions, check_order, read_rows
from offrl.data.store import Columns, open_dataset, write_dataset
from offrl.errors import UserError

_CHECKS = 2  # raise it when a file is to be checked once more, because more is asked of it
_VIEW = 2  # raise it when the same file gives other columns than before


def unpack_hdf5(
    path: Path,
    dataset_id: str,
    cache_root: Path,
    max_episode_steps: int,
    keep_timeouts: bool = False,
    max_action: float = 1.0,
    n_actions: int | None = None,
    published: str | None = None,
) -> Dataset:
    """The dataset of a file, unpacked under `cache_root` the first time and mapped afterwards.

    max_episode_steps: where time-outs fall in a file without `timeouts` (D4RL's older ones).
    keep_timeouts: every row is a transition with its true next observation, instead of D4RL's
    view; needs `next_observations` and `timeouts`.
    n_actions: if given, actions are whole numbers [N] from 0 to n_actions - 1.
    published: if given, the SHA-256 that the file must have.
    Raises UserError if the file or the cache is unusable; then nothing has been written.
    """
    view = {"view": _VIEW, "timeouts": keep_timeouts, "max_episode_steps": max_episode_steps}
    if n_actions is not None:
        view["discrete"] = True
    entry = _entry(path, cache_root, view)
    known = _known(entry, cache_root, view)
    source = known or sha256_file(path)
    if published not in (None, source):
        raise UserError(
            f"{path}: is not the file that D4RL published as {dataset_id}, with which scores are "
            f"compared: its SHA-256 is {source}, D4RL's is {published}.  Remove it, and it is "
            "downloaded; or use it under a name of its own: dataset=file dataset.path=..."
        )
    digest = _digest(source, view)
    if known is None:
        rows = read_rows(path, max_action, n_actions, with_next=keep_timeouts)
        flagged = rows.timeouts is not None
        if not flagged:
            rows = rows._replace(timeouts=_counted(path, rows.terminals, max_episode_steps))
        check_order(path, rows, flagged and published is None)
        columns = _every_row(rows) if keep_timeouts else _qlearning(path, rows)
        del rows  # the columns hold what they need: the rest need not be in memory twice
        if not (cache_root / digest).is_dir():
            meta = {"id": dataset_id, "source": path.name, "source_sha256": source, **view}
            write_dataset(cache_root, digest, columns, meta)
        entry.parent.mkdir(exist_ok=True)
        content = {"path": str(path.resolve()), "source": source, "checks": _CHECKS}
        write_atomic(entry, json.dumps(content).encode())
    dataset = open_dataset(cache_root, digest)
    # the bounds are not part of the view
    check_actions(str(path), dataset.action, max_action, n_actions)
    return replace(dataset, id=dataset_id)  # one file may be used under two names


def _entry(path: Path, cache_root: Path, view: Mapping[str, object]) -> Path:
    """The index file that knows the SHA-256 of this state of the source, without hashing it."""
    try:
        stat = path.stat()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror or e}; is the path right?") from e
    if not path.is_file():
        raise UserError(f"{path} is not a file; expected HDF5 in D4RL's layout")
    key = {"path": str(path.resolve()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, **view}
    return cache_root / "index" / f"{_sha256(key)}.json"


def _known(entry: Path, cache_root: Path, view: Mapping[str, object]) -> str | None:
    """The source's SHA-256, if its view is in the cache, and was checked as it is now."""
    try:
        content = json.loads(entry.read_text(encoding="utf-8"))
        source, checks = content["source"], content["checks"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if (
        checks != _CHECKS
        or not isinstance(source, str)
        or not (cache_root / _digest(source, view)).is_dir()
    ):
        return None
    return source


def _digest(source: str, view: Mapping[str, object]) -> str:
    return _sha256({"source": source, **view})


def _sha256(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _counted(path: Path, terminals: NDArray[np.bool_], max_episode_steps: int) -> NDArray[np.bool_]:
    """The time-outs [N] of a file without them, as D4RL counts them; says so."""
    timeouts = _counted_timeouts(terminals, max_episode_steps)
    if timeouts.any():
        print(
            f"{path}: has no 'timeouts': {timeouts.sum()} episode(s) without a terminal are "
            f"cut at the environment's limit of {max_episode_steps} steps; if they ended "
            "elsewhere, add 'timeouts' [N], true in an episode's last row",
            file=sys.stderr,
        )
    return timeouts


def _qlearning(path: Path, rows: Rows) -> Columns:
    timeouts = rows.timeouts
    assert timeouts is not None
    emitted = ~timeouts
    emitted[-1] = False
    index = np.flatnonzero(emitted)
    if len(index) == 0:
        raise UserError(f"{path}: no transition is left of {len(emitted)} row(s)")
    episodes = _episodes(rows.terminals | timeouts, rows.rewards, index)
    last = index[episodes["episode_start"][1:] - 1]
    return {
        "states": rows.observations,
        "index": index,
        "next_index": index + 1,
        "action": rows.actions[index],
        "reward": rows.rewards[index],
        "terminated": rows.terminals[index],
        "final_action": rows.actions[last + 1],  # after a time-out, of the row that is dropped
        **episodes,
    }


def _every_row(rows: Rows) -> Columns:
    observations, following = rows.observations, rows.next_observations
    assert following is not None  # as read_rows(with_next=True) promises
    assert rows.timeouts is not None
    n = len(observations)
    next_index = np.arange(1, n + 1)
    # Where the next row is not this row's successor, the successor is stored at the end.
    apart = np.ones(n, dtype=np.bool_)
    apart[:-1] = (following[:-1] != observations[1:]).any(axis=1)
    final = np.flatnonzero(apart)
    next_index[final] = n + np.arange(len(final))
    return {
        "states": np.concatenate([observations, following[final]]),
        "index": np.arange(n),
        "next_index": next_index,
        "action": rows.actions,
        "reward": rows.rewards,
        "terminated": rows.terminals,
        **_episodes(rows.terminals | rows.timeouts, rows.rewards, np.arange(n)),
    }


def _episodes(
    ends: NDArray[np.bool_], rewards: NDArray[np.float32], index: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The episode table: `ends` flags the last row of an episode, `index` lists the kept rows."""
    episode: NDArray[np.int64] = np.cumsum(ends) - ends  # of every row
    n_episodes = int(episode[-1]) + 1
    length = np.bincount(episode[index], minlength=n_episodes)
    complete = np.ones(n_episodes, dtype=np.bool_)
    complete[-1] = ends[-1]
    returns = np.bincount(episode, weights=rewards, minlength=n_episodes)
    kept = length > 0  # an episode of one row, dropped, has no transition
    return {
        "episode_start": np.concatenate([[0], np.cumsum(length[kept])]),
        "complete": complete[kept],
        "episode_return": returns[kept],
    }


def _counted_timeouts(terminals: NDArray[np.bool_], max_episode_steps: int) -> NDArray[np.bool_]:
    """Where D4RL sees time-outs in a file that does not flag them.

    Its counter starts an episode at 1 after a terminal (at 0 otherwise), so that such an episode
    is cut one row early; that is reproduced, for the transitions to be the same.
    """
    timeouts = np.zeros_like(terminals)
    terminal_rows = np.append(np.flatnonzero(terminals), len(terminals))
    start, counter, k = 0, 0, 0
    while start < len(terminals):
        while terminal_rows[k] < start:
            k += 1
        last = start + max_episode_steps - 1 - counter
        terminal = int(terminal_rows[k])
        if last <= terminal and last < len(terminals):
            timeouts[last] = True
            start, counter = last + 1, 0
        else:
            start, counter = terminal + 1, 1
    return timeouts
