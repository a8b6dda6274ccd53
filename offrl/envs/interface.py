"""What every kind of environment offers: several of them, stepped together, without autoreset."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from offrl.types import Spec


class EnvSpec(NamedTuple):
    """What an algorithm must know of an environment."""

    obs_shape: tuple[int, ...]
    action_dim: int  # dimensions of a Box, or the number of discrete actions
    max_action: float  # the Box is [-max_action, max_action]^A; 0 for discrete actions
    continuous: bool

    def with_batch(self, batch_size: int) -> Spec:
        return Spec(self.obs_shape, self.action_dim, self.max_action, batch_size)


class Envs(Protocol):
    """`n` environments; whoever steps decides when one restarts.

    obs: float32 [n, D] or uint8 [n, 4, 84, 84], the current observations; rows change in place, so
    copy what you keep.
    """

    env_id: str
    spec: EnvSpec
    max_episode_steps: int
    obs: NDArray[Any]

    @property
    def n(self) -> int: ...

    def reset(self, i: int, seed: int) -> NDArray[Any]:
        """Starts an episode in environment `i`; returns its row of obs, a view."""

    def step_alive(
        self, actions: NDArray[Any], alive: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Steps the environments where `alive` [n], with actions float32 [n, A] or int64 [n].

        Updates obs.  Returns (reward, terminated, truncated), [n] each, zero where not alive.  They
        are overwritten by the next call.
        """

    def picture(self, i: int) -> NDArray[np.uint8]:
        """What environment `i` looks like to a person, [height, width, 3].

        Raises UserError where it cannot be rendered.
        """

    @property
    def per_second(self) -> float:
        """Steps in a second, at the speed that a person would see."""

    def close(self) -> None: ...
