"""Normalisation of observations, one object for training and evaluation, and of rewards."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offrl.data.dataset import Dataset
from offrl.errors import UserError

_EPS = 1e-3  # added to the standard deviation, Fujimoto & Gu 2021
_CHUNK = 65_536  # rows: keeps the float64 copies small


@dataclass(frozen=True, eq=False)
class Normaliser:
    """obs -> (obs - mean) / std, without clipping."""

    mean: Tensor  # float32 [D]
    std: Tensor  # float32 [D]: the standard deviation + 1e-3

    @classmethod
    def fit(cls, states: NDArray[np.float32], index: NDArray[np.int64]) -> "Normaliser":
        """Mean and population deviation of states[index], accumulated in float64.

        states [M, D], index [N]: the observations of the transitions, a state counted as often as
        it is listed.
        """
        chunks = [index[i : i + _CHUNK] for i in range(0, len(index), _CHUNK)]
        total = np.zeros(states.shape[1])
        for rows in chunks:
            total += states[rows].sum(axis=0, dtype=np.float64)
        mean = total / len(index)
        squares = np.zeros_like(mean)
        for rows in chunks:
            squares += np.square(states[rows] - mean).sum(axis=0)
        std = np.sqrt(squares / len(index)) + _EPS
        return cls(torch.from_numpy(mean).float(), torch.from_numpy(std).float())

    def __call__(self, obs: Tensor) -> Tensor:
        """Normalised observations; obs float32 [..., D] on the device of the statistics."""
        return (obs - self.mean) / self.std

    def to(self, device: torch.device | str) -> "Normaliser":
        return Normaliser(self.mean.to(device), self.std.to(device))

    def to_json(self) -> dict[str, list[float]]:
        """For the manifest; the numbers keep every bit."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}


def reward_scale(dataset: Dataset) -> float:
    """1000 / (best - worst return of a complete episode), IQL's scale for MuJoCo's rewards.

    The paper (Kostrikov et al. 2021, appendix B) divides by the difference; the 1000 stands in
    their code.  Raises UserError where the data has no two such episodes that differ.
    """
    returns = dataset.episode_returns()
    if len(returns) == 0 or returns.max() == returns.min():
        raise UserError(
            f"norm_reward=true: {dataset.id} has no two complete episodes of different returns; "
            "use more of the data or norm_reward=false"
        )
    return float(1000 / (returns.max() - returns.min()))
