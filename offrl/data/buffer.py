"""The data of an online learner: it grows, each observation (or frame of one) stored once."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offrl.data.memory import require_disk
from offrl.types import Spec, Transition

_STATES, _ROWS = "states.bin", "rows.bin"
_REMEDY = "free some space, choose another out, or take fewer train_steps"


class Counts(NamedTuple):
    """How far the files are filled: what a checkpoint has to keep of a buffer."""

    states: Tensor  # int64 scalars
    rows: Tensor


class _Step(NamedTuple):
    stack: tuple[int, ...]  # the states that are the observation
    action: Any
    reward: float


class ReplayBuffer:
    """n-step transitions of several environments in append-only files below `folder`.

    A transition is written once it is known whole: after n steps, or at its episode's end, where
    the sum has fewer terms, as in offrl.data.transitions.  Sampling sees the last `capacity` rows.
    An observation of shape [k, h, w] is a stack of the last k frames; the first one of an episode
    is repeated.

    Raises UserError where `folder` has no room for n_steps.
    """

    def __init__(
        self, folder: Path, spec: Spec, n_steps: int, n_envs: int, gamma: float, n_step: int
    ) -> None:
        image = len(spec.obs_shape) == 3
        self._spec, self._gamma, self._n_step = spec, gamma, n_step
        self._stack = spec.obs_shape[0] if image else 1
        shape = spec.obs_shape[1:] if image else spec.obs_shape
        continuous = spec.max_action > 0
        rows: list[Any] = [
            ("index", np.int32, (self._stack,)),
            ("next_index", np.int32, (self._stack,)),
            ("action", *((np.float32, (spec.action_dim,)) if continuous else (np.int64,))),
            ("reward", np.float32),
            ("discount", np.float32),
        ]
        dtype = np.uint8 if image else np.float32
        state = int(np.prod(shape)) * np.dtype(dtype).itemsize
        # a full disk would be a bus error, far from here; what is written is there already
        needed = (n_steps + n_envs) * state + n_steps * np.dtype(rows).itemsize
        written = sum(
            p.stat().st_blocks * 512 for p in (folder / _STATES, folder / _ROWS) if p.exists()
        )
        require_disk(folder, max(0, needed - written), f"a replay of {n_steps} steps", _REMEDY)
        # every step leaves a state, and so does every reset: sparse files, filled as far as needed
        self._states = _mapped(folder / _STATES, dtype, shape, 2 * n_steps + n_envs)
        self._rows = _mapped(folder / _ROWS, np.dtype(rows), (), n_steps)
        self._state_tensor = torch.from_numpy(self._states)
        self.n_states = self.n_rows = 0
        self._now: list[tuple[int, ...]] = [()] * n_envs
        self._pending: list[deque[_Step]] = [deque() for _ in range(n_envs)]

    @property
    def counts(self) -> Counts:
        return Counts(torch.tensor(self.n_states), torch.tensor(self.n_rows))

    def rewind(self, counts: Counts) -> None:
        """Forgets what was written after a checkpoint."""
        self.n_states, self.n_rows = int(counts.states), int(counts.rows)

    def begin(self, env: int, obs: NDArray[Any]) -> None:
        """An episode starts in environment `env`; obs is the whole observation."""
        self._now[env] = self._stack * (self._keep(obs),)

    def add(self, env: int, action: Any, reward: float, next_obs: NDArray[Any], end: bool) -> None:
        """One step; `end` if it terminated, which ends the episode here."""
        pending = self._pending[env]
        pending.append(_Step(self._now[env], action, reward))
        self._now[env] = (*self._now[env][1:], self._keep(next_obs))
        if end:
            self._close(env, 0.0)
        elif len(pending) == self._n_step:
            self._write(env, 1.0)

    def cut(self, env: int) -> None:
        """The episode is truncated here: what is pending looks at the last observation."""
        self._close(env, 1.0)

    def gather(self, u: Tensor, capacity: int) -> Transition:
        """The transitions at `u` [n], uniform numbers in [0, 1), of the last `capacity` rows.

        What a learner does not know while it acts is NaN: returns-to-go, and next actions (-1
        where they are integers).
        """
        size = min(self.n_rows, capacity)
        rows = self._rows[self.n_rows - size + (u * size).long().numpy()]
        action, reward, discount = (
            torch.from_numpy(rows[k].copy()) for k in ("action", "reward", "discount")
        )
        obs, next_obs = (
            self._state_tensor[torch.from_numpy(rows[k].astype(np.int64))].view(
                len(rows), *self._spec.obs_shape
            )
            for k in ("index", "next_index")
        )
        unknown = torch.full_like(reward, torch.nan)
        no_action = torch.full_like(action, torch.nan if action.is_floating_point() else -1)
        return Transition(obs, action, reward, next_obs, no_action, discount, unknown)

    def first(self, n: int) -> tuple[Tensor, Tensor]:
        """The first n actions and rewards: of one environment and single steps in order of time."""
        action, reward = (torch.from_numpy(self._rows[k][:n].copy()) for k in ("action", "reward"))
        return action, reward

    def flush(self) -> None:
        self._states.flush()
        self._rows.flush()

    def _keep(self, obs: NDArray[Any]) -> int:
        """Stores the newest frame of an observation."""
        i = self.n_states
        self._states[i] = obs if self._states.ndim == 2 else obs[-1]
        self.n_states = i + 1
        return i

    def _close(self, env: int, bootstrap: float) -> None:
        while self._pending[env]:
            self._write(env, bootstrap)

    def _write(self, env: int, bootstrap: float) -> None:
        """The oldest pending step as a row, with the rewards of all that are pending."""
        pending = self._pending[env]
        reward = _discounted([p.reward for p in pending], self._gamma)
        discount = bootstrap * self._gamma ** len(pending)
        first = pending.popleft()
        row = (first.stack, self._now[env], first.action, reward, discount)
        self._rows[self.n_rows] = row
        self.n_rows += 1


def _discounted(rewards: Sequence[float], gamma: float) -> float:
    total = 0.0
    for r in reversed(rewards):
        total = r + gamma * total
    return total


def _mapped(path: Path, dtype: Any, shape: tuple[int, ...], n: int) -> "np.memmap[Any, Any]":
    """n entries in a file; one that was mapped with a smaller n before grows."""
    mode: Literal["r+", "w+"] = "r+" if path.exists() else "w+"
    return np.memmap(path, dtype, mode, shape=(n, *shape))
