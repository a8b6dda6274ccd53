"""Batches of transitions, gathered from a mapped dataset."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from offrl.data.dataset import Dataset
from offrl.data.normalise import Normaliser
from offrl.types import Transition


class Transitions:
    """A dataset as an algorithm sees it: n-step rewards, successors, normalised observations.

    Rewards and successors are looked up when a batch is gathered, so no column is copied; what is
    computed beforehand costs 8 bytes per transition, whatever n.  Nothing reaches across the end
    of an episode: there the sum has m < n terms and the bootstrap looks at the m-th next state,
    with gamma^m, or with 0 if the m-th step terminated.  `reward_scale` multiplies every reward.
    All of it lies on `device` (on the CPU in the map): a CUDA graph can fetch nothing elsewhere.
    """

    def __init__(
        self,
        dataset: Dataset,
        gamma: float,
        n_step: int,
        normaliser: Normaliser | None,
        device: torch.device | str,
        reward_scale: float = 1.0,
    ) -> None:
        if n_step < 1:
            raise ValueError(f"n_step is {n_step}; it must be at least 1")
        self.gamma = gamma
        self.n_step = n_step
        self.normaliser = None if normaliser is None else normaliser.to(device)
        self.states = _tensor(dataset.states, device)  # [M, D] or [M, 84, 84]
        self.index = _tensor(dataset.index, device)  # [N] or [N, 4]
        self.next_index = _tensor(dataset.next_index, device)
        self.action = _tensor(dataset.action, device)  # [N, A] or [N]
        reward = dataset.reward
        if reward_scale != 1:
            reward = reward * np.float32(reward_scale)
        self.reward = _tensor(reward, device)
        self.terminated = _tensor(dataset.terminated, device)
        # The episode of each transition [N]; searching episode_start is 10 times slower.
        episodes = np.arange(dataset.n_episodes, dtype=np.int32)
        of_each = np.repeat(episodes, np.diff(dataset.episode_start))
        self.episode = torch.from_numpy(of_each).to(device)
        self.episode_last = _tensor(dataset.episode_start[1:] - 1, device)  # [E]
        self.final_action = _tensor(dataset.actions_after(), device)  # [E, A] or [E]
        rtg = return_to_go(reward, dataset.episode_start, gamma)
        self.return_to_go = torch.from_numpy(rtg).to(device)  # [N]
        powers = np.power(gamma, np.arange(n_step + 1, dtype=np.float64))
        self._powers = torch.from_numpy(powers).to(device)  # float64 [n_step + 1]: gamma^m

    def __len__(self) -> int:
        return len(self.index)

    def draw_rows(self, g: Generator, n_updates: int, batch: int) -> Tensor:
        """Row numbers, int64 [n_updates, batch], uniform with replacement, on g's device."""
        return torch.randint(len(self), (n_updates, batch), generator=g, device=g.device)

    def gather(self, rows: Tensor) -> Transition:
        """The transitions at `rows`, int64 [n] on this object's device, as new tensors."""
        episode = self.episode.index_select(0, rows)
        episode_last = self.episode_last.index_select(0, episode)
        last = torch.minimum(rows + (self.n_step - 1), episode_last)  # the m-th step
        following = self.action.index_select(0, torch.minimum(last + 1, episode_last))
        final = self.final_action.index_select(0, episode)
        at_end = (last == episode_last).view(-1, *[1] * (final.ndim - 1))
        discount = self._powers[last - rows + 1].float()
        return Transition(
            obs=self._states(self.index, rows),
            action=self.action.index_select(0, rows),
            reward=self._reward(rows, last),
            next_obs=self._states(self.next_index, last),
            next_action=torch.where(at_end, final, following),
            discount=discount.masked_fill_(self.terminated.index_select(0, last), 0.0),
            return_to_go=self.return_to_go.index_select(0, rows),
        )

    def _states(self, column: Tensor, rows: Tensor) -> Tensor:
        at = column.index_select(0, rows)  # [n] or [n, 4]
        states = self.states.index_select(0, at.view(-1))
        if at.ndim == 2:
            states = states.view(*at.shape, *states.shape[1:])
        return states if self.normaliser is None else self.normaliser(states)

    def _reward(self, rows: Tensor, last: Tensor) -> Tensor:
        if self.n_step == 1:
            return self.reward.index_select(0, rows)
        steps = rows[:, None] + torch.arange(self.n_step, device=rows.device)
        terms = self.reward[torch.minimum(steps, last[:, None])] * self._powers[:-1]
        return terms.masked_fill_(steps > last[:, None], 0.0).sum(1).float()


def return_to_go(
    reward: NDArray[np.float32], episode_start: NDArray[np.int64], gamma: float
) -> NDArray[np.float32]:
    """Discounted sum of the rewards from each transition to its episode's end, float32 [N].

    Accumulated in float64, backwards over time and across all episodes at once.
    """
    start, end = episode_start[:-1], episode_start[1:]
    length = end - start
    order = np.argsort(-length, kind="stable")  # the longest first: those still running lead
    end, n_longer = end[order], np.cumsum(np.bincount(length)[::-1])[::-1]
    total = np.zeros(len(length))
    out = np.empty(len(reward), dtype=np.float32)
    for k in range(1, len(n_longer)):  # the k-th transition from the end
        running = int(n_longer[k])
        rows = end[:running] - k
        total[:running] = reward[rows] + gamma * total[:running]
        out[rows] = total[:running]
    return out


def _tensor(column: NDArray[Any], device: torch.device | str) -> Tensor:
    """The column on `device`; on the CPU in the same memory, which nobody writes to.

    torch has no read-only tensors and warns of a read-only array, hence the view.
    """
    view = column.view()
    view.flags.writeable = True
    return torch.from_numpy(view).to(device)
