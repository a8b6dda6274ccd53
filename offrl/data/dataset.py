"""The immutable dataset: columns with an explicit episode table."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offrl.envs.interface import EnvSpec
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

    Of pictures every frame is stored once: there states are frames and an observation is a stack of
    four, so `index` has four columns, the oldest frame first.
    """

    id: str  # "d4rl/hopper-medium-v2", "file/my_file", "offrl/hopper/medium-v0"
    digest: str  # SHA-256 of the source and the view taken of it, or of all columns
    states: NDArray[Any]  # float32 [M, D] or uint8 [M, 84, 84]
    index: NDArray[Any]  # int64 [N] or int32 [N, 4]
    next_index: NDArray[Any]  # like index
    action: NDArray[Any]  # float32 [N, A] or int64 [N]
    reward: NDArray[np.float32]  # [N]
    terminated: NDArray[np.bool_]  # [N]
    episode_start: NDArray[np.int64]  # [E + 1], the last is N
    complete: NDArray[np.bool_]  # [E]: the episode is here from its start to its real end
    episode_return: NDArray[np.float64]  # [E]: undiscounted, every row of the source counted
    final_action: NDArray[Any] | None = None  # like action, [E]: see actions_after()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_episodes(self) -> int:
        return len(self.complete)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """(D,) or (4, 84, 84)"""
        return (*self.index.shape[1:], *self.states.shape[1:])

    @property
    def continuous(self) -> bool:
        return self.action.ndim == 2

    def actions_after(self) -> NDArray[Any]:
        """What the data did in the last next state of each episode, [E, A] or [E].

        Where the source does not tell, the last action once more.
        """
        if self.final_action is not None:
            return self.final_action
        return self.action[self.episode_start[1:] - 1]

    def episode_returns(self) -> NDArray[np.float64]:
        """Undiscounted returns of the complete episodes; empty if there is none."""
        return self.episode_return[self.complete]


def check_fits(dataset: Dataset, env: EnvSpec, env_id: str) -> None:
    """UserError unless the data has the observations and actions of the environment."""
    if dataset.continuous != env.continuous:
        kinds = {True: "continuous", False: "discrete"}
        has, wants = f"{kinds[dataset.continuous]} actions", f"{kinds[env.continuous]} ones"
    elif dataset.obs_shape != env.obs_shape:
        has, wants = (f"observations of {_size(s)}" for s in (dataset.obs_shape, env.obs_shape))
    elif env.continuous and dataset.action.shape[1] != env.action_dim:
        has, wants = (
            f"actions of {n} dimensions" for n in (dataset.action.shape[1], env.action_dim)
        )
    elif (
        not env.continuous
        and not 0 <= dataset.action.min() <= dataset.action.max() < env.action_dim
    ):
        has = f"actions {dataset.action.min()} to {dataset.action.max()}"
        wants = f"0 to {env.action_dim - 1}"
    else:
        return
    raise UserError(
        f"{dataset.id}: has {has}, but {env_id} has {wants}; "
        "choose the environment that the data comes from (env=...)"
    )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} dimensions" if len(shape) == 1 else " x ".join(map(str, shape))
