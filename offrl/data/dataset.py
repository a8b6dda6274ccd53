"""The immutable dataset: columns with an explicit episode table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offrl.errors import UserError


@dataclass(frozen=True)
class ScoreRef:
    """The returns that mean 0 and 100 on a score scale; without them the score is the return."""

    name: str  # "d4rl", "offrl-v5": scores under different names are never compared
    ref_min: float | None
    ref_max: float | None

    def normalise(self, returns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Undiscounted returns -> scores, elementwise.  Not for standard deviations: it shifts."""
        if self.ref_min is None or self.ref_max is None:
            return returns
        return 100.0 * (returns - self.ref_min) / (self.ref_max - self.ref_min)


@dataclass(frozen=True, eq=False)
class Dataset:
    """N transitions in E episodes; read-only arrays, usually mapped from the cache.

    Transition i goes from states[index[i]] by action[i] to states[next_index[i]].  Episode e is
    the transitions episode_start[e] : episode_start[e + 1], in time order.  It ends at its last
    transition: terminated there, or truncated if `terminated` is false.
    """

    id: str  # "d4rl/hopper-medium-v2", "file/my_file", "offrl/hopper/medium-v0"
    digest: str  # SHA-256 of the source and the view that was taken of it
    states: NDArray[np.float32]  # [M, D]
    index: NDArray[np.int64]  # [N]
    next_index: NDArray[np.int64]  # [N]
    action: NDArray[np.float32]  # [N, A]
    reward: NDArray[np.float32]  # [N]
    terminated: NDArray[np.bool_]  # [N]
    episode_start: NDArray[np.int64]  # [E + 1], the last is N
    complete: NDArray[np.bool_]  # [E]: the episode is here from its start to its real end
    episode_return: NDArray[np.float64]  # [E]: undiscounted, every row of the source counted

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_episodes(self) -> int:
        return len(self.complete)

    @property
    def obs_dim(self) -> int:
        return int(self.states.shape[1])

    @property
    def action_dim(self) -> int:
        return int(self.action.shape[1])

    def episode_returns(self) -> NDArray[np.float64]:
        """Undiscounted returns of the complete episodes; empty if there is none."""
        return self.episode_return[self.complete]


def check_dims(dataset: Dataset, obs_dim: int, action_dim: int, env_id: str) -> None:
    """UserError unless the data has the observation and action sizes of the environment."""
    for what, has, wants in (
        ("observations", dataset.obs_dim, obs_dim),
        ("actions", dataset.action_dim, action_dim),
    ):
        if has != wants:
            raise UserError(
                f"{dataset.id}: {what} have {has} dimensions, but {env_id} has {wants}; "
                "choose the environment that the data comes from (env=...)"
            )
