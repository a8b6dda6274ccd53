"""Reading and checking the columns of an HDF5 file in D4RL's layout."""

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from offrl.errors import UserError

# Actions that were clipped in another precision may exceed the bound by a rounding error.
_BOUND_TOLERANCE = 1e-6
# Stored successors and the next rows' observations agree to a rounding error; a few may not, where
# an end is not flagged, as after D4RL's count of rows in a file without time-outs.  A file that has
# them may miss a tenth of its ends: all of them are one row off, or none is flagged, if it is more.
_SUCCESSOR_TOLERANCE, _APART, _ENDS_MISSED = 1e-4, 0.01, 0.1
_LAYOUT = "observations [N, D], actions [N, A] (discrete ones [N]), rewards [N], terminals [N]"


class Rows(NamedTuple):
    """The rows of a file: all finite, of equal length, at least one."""

    observations: NDArray[np.float32]  # [N, D]
    next_observations: NDArray[np.float32] | None  # [N, D]
    actions: NDArray[Any]  # float32 [N, A], or int64 [N] if they are discrete
    rewards: NDArray[np.float32]  # [N]
    terminals: NDArray[np.bool_]  # [N]
    timeouts: NDArray[np.bool_] | None  # [N]


def read_rows(path: Path, max_action: float, n_actions: int | None, with_next: bool) -> Rows:
    """Every row of the file.  `with_next` requires next_observations and timeouts.

    Without it next_observations are only compared with the rows, and may be unusable: then None.

    Actions lie in [-max_action, max_action]^A, or are discrete, n_actions of them.

    Raises UserError for a file that cannot be read, or whose contents are not in D4RL's layout.
    """
    try:
        with h5py.File(path, "r") as f:
            observations = _floats(path, f, "observations", ndim=2)
            n = len(observations)
            if n == 0 or observations.shape[1] == 0:
                raise UserError(f"{path}: 'observations' is empty, shape {observations.shape}")
            actions: NDArray[Any]
            if n_actions is None:
                actions = _floats(path, f, "actions", ndim=2, n=n)
            else:
                actions = _integers(path, f, "actions", n)
            check_actions(str(path), actions, max_action, n_actions)
            return Rows(
                observations,
                _next_observations(path, f, observations.shape)
                if with_next
                else _evidence(f, observations.shape),
                actions,
                _floats(path, f, "rewards", ndim=1, n=n),
                _flags(path, f, "terminals", n),
                _flags(path, f, "timeouts", n) if with_next or "timeouts" in f else None,
            )
    except FileNotFoundError as e:
        raise UserError(f"{path}: no such file") from e
    except OSError as e:
        raise UserError(
            f"{path}: not a readable HDF5 file, or cut short ({e}); fetch or write it again"
        ) from e


def check_actions(
    where: str, actions: NDArray[Any], max_action: float, n_actions: int | None
) -> None:
    """UserError, naming the first row, if an action lies outside the bounds of the environment."""
    if n_actions is not None:
        wrong = np.flatnonzero((actions < 0) | (actions >= n_actions))
        if len(wrong):
            raise UserError(
                f"{where}: 'actions' row {wrong[0]} is {actions[wrong[0]]}; "
                f"the environment has actions 0 to {n_actions - 1}"
            )
        return
    bound = max_action + _BOUND_TOLERANCE
    if actions.size and (actions.min() < -bound or actions.max() > bound):
        row = int(np.flatnonzero((np.abs(actions) > bound).any(axis=1))[0])
        raise UserError(
            f"{where}: 'actions' row {row} is {actions[row].tolist()}, "
            f"outside the environment's bounds [-{max_action:g}, {max_action:g}]"
        )


def check_order(path: Path, rows: Rows, flagged: bool) -> None:
    """UserError if, between the ends of episodes, rows do not follow each other.

    Only a file that stores next_observations shows it: a replay buffer written out in the order in
    which it was sampled, or row by row from several environments at once; ends that are flagged in
    other rows, or nowhere.  flagged: the ends are a user's, not D4RL's or counted.
    """
    following = rows.next_observations
    if following is None:
        return
    assert rows.timeouts is not None
    ends = rows.terminals | rows.timeouts
    with np.errstate(invalid="ignore"):  # NaN is not close
        gap = np.abs(following[:-1] - rows.observations[1:])
        close = gap <= _SUCCESSOR_TOLERANCE * (1 + np.abs(following[:-1]))
    apart = ~close.all(axis=1)[~ends[:-1]]
    few = _APART * len(apart)
    if flagged:
        few = min(few, max(1, _ENDS_MISSED * ends.sum()))
    if apart.sum() > few:
        first = int(np.flatnonzero(~ends[:-1])[apart.argmax()])
        raise UserError(
            f"{path}: 'next_observations' of {apart.sum()} in {len(apart)} rows inside episodes is "
            f"not the next row's observation (first: row {first}): episodes are read off the order "
            "of rows.  Write the rows in order of time, with every episode's last one flagged in "
            "'terminals' or 'timeouts'; if their order is lost, flag every row in 'timeouts' and "
            "set dataset.keep_timeouts=true, which takes the stored successors (but knows no "
            "returns and next actions then, which cal_ql and rebrac need)"
        )


def _read(path: Path, f: Any, key: str, kinds: str, ndim: int, n: int | None) -> NDArray[Any]:
    item = f.get(key)
    if not isinstance(item, h5py.Dataset):
        found = ", ".join(sorted(f)) or "none"
        raise UserError(f"{path}: key '{key}' is missing (found: {found}); expected {_LAYOUT}")
    if item.dtype.kind not in kinds:
        raise UserError(f"{path}: '{key}' has type {item.dtype}, which is not a real number")
    shape: tuple[int, ...] = item.shape or ()
    column = len(shape) == 2 and shape[1] == 1 and ndim == 1  # D4RL accepts [N, 1] too
    if len(shape) != ndim and not column:
        raise UserError(f"{path}: '{key}' has shape {shape}; expected {ndim} dimension(s)")
    if n is not None and shape[0] != n:
        raise UserError(f"{path}: '{key}' has {shape[0]} rows, but 'observations' has {n}")
    values: NDArray[Any] = item[()]
    return values[:, 0] if column else values


def _floats(path: Path, f: Any, key: str, ndim: int, n: int | None = None) -> NDArray[np.float32]:
    raw = _read(path, f, key, "fiu", ndim, n)
    with np.errstate(over="ignore"):  # an overflow is reported below, with its row
        values: NDArray[np.float32] = raw.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        raise UserError(
            f"{path}: '{key}' row {row} is NaN or infinite as float32: {raw[row].tolist()}"
        )
    return values


def _integers(path: Path, f: Any, key: str, n: int) -> NDArray[np.int64]:
    raw = _read(path, f, key, "fiu", 1, n)
    wrong = np.flatnonzero(raw != np.floor(raw))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"{path}: '{key}' row {row} is {raw[row]}; discrete actions are integers")
    return raw.astype(np.int64, copy=False)


def _next_observations(path: Path, f: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = _floats(path, f, "next_observations", ndim=2, n=shape[0])
    if values.shape != shape:
        raise UserError(
            f"{path}: 'next_observations' has shape {values.shape}, but 'observations' {shape}"
        )
    return values


def _evidence(f: Any, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    item = f.get("next_observations")
    if not isinstance(item, h5py.Dataset) or item.shape != shape or item.dtype.kind not in "fiu":
        return None
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = item[()].astype(np.float32, copy=False)
    return values


def _flags(path: Path, f: Any, key: str, n: int) -> NDArray[np.bool_]:
    raw = _read(path, f, key, "biuf", 1, n)
    wrong = np.flatnonzero((raw != 0) & (raw != 1))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"{path}: '{key}' row {row} is {raw[row]}; expected 0 or 1")
    return raw.astype(np.bool_, copy=False)
