"""Games of a behaviour policy: their order, their randomness, and when it stops."""

from itertools import islice

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from offrl.data.play import play
from offrl.data.rows import Rows
from offrl.envs.interface import EnvSpec
from offrl.evaluate import CHUNK
from offrl.rng import address_seed, generator

NOWHERE = 10**9


class Counters:
    """Games of 4 x 4 pictures that count their steps; how long one lasts follows from its seed."""

    env_id = "counters"
    spec = EnvSpec((4, 4, 4), 3, 0.0, False)
    max_episode_steps = 300
    per_second = 1.0

    def __init__(self, n: int = CHUNK) -> None:
        self.n = n
        self.obs = np.zeros((n, 4, 4, 4), np.uint8)
        self.left = np.zeros(n, int)
        self.steps = 0

    def reset(self, i: int, seed: int) -> NDArray[np.uint8]:
        # now and then a game that lasts longer than many others together
        self.left[i] = 300 if seed % 7 == 0 else 1 + seed % 23
        self.obs[i] = seed % 200
        return self.obs[i]

    def step_alive(
        self, actions: NDArray[np.int64], alive: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        assert alive.any()
        self.left -= alive
        self.steps += int(alive.sum())
        self.obs[alive, -1] += 1
        return alive * (1.0 + actions), alive & (self.left == 0), np.zeros(self.n, np.bool_)

    def picture(self, i: int) -> NDArray[np.uint8]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def policy(obs: Tensor, noise: Tensor) -> Tensor:
    """Depends on what it sees, on its noise and on nothing else."""
    assert obs.shape == (CHUNK, 4, 4, 4)
    assert noise.shape == (CHUNK, 2)
    return (obs[:, -1, 0, 0].long() + (10 * noise[:, 1]).long()) % 3


def games(n: int, address: str = "a") -> list[Rows]:
    return list(play(policy, Counters(), 2, (address,), n))


def same(a: Rows, b: Rows) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_games_come_in_order_and_whole() -> None:
    played = games(2000)
    for k, game in enumerate(played):
        seed = address_seed("a", "start", k)
        length = 300 if seed % 7 == 0 else 1 + seed % 23
        assert game.obs.shape == (length + 1, 4, 4)
        counted = (seed % 200 + np.arange(length + 1)) % 256
        assert game.obs[:, 0, 0].tolist() == counted.tolist()
        assert game.terminated
        assert game.return_ == game.reward.sum() == (1.0 + game.action).sum()
    assert len({g.action.tobytes() for g in played}) > len(played) / 2


@pytest.mark.parametrize("n", [1, 23, 24, 500, 1999, 5000])
def test_any_number_of_transitions_begins_with_the_same_games(n: int) -> None:
    some, more = games(n), games(8000)
    assert sum(len(g.action) for g in some) >= n > sum(len(g.action) for g in some[:-1])
    assert all(same(a, b) for a, b in zip(some, more, strict=False))
    assert len(some) < len(more)


def test_no_more_is_played_than_may_be_needed() -> None:
    envs = Counters()
    played = list(play(policy, envs, 2, ("a",), 3000))
    assert sum(len(g.action) for g in played) >= 3000
    assert envs.steps < 3000 + CHUNK * 300  # every row may be in a long game that comes later


def test_another_address_is_another_play() -> None:
    assert not same(games(1)[0], games(1, "b")[0])


def test_a_long_game_does_not_hold_up_what_is_ready() -> None:
    first = next(iter(islice(play(policy, Counters(), 2, ("a",), NOWHERE), 1)))
    assert same(first, games(1)[0])


def test_as_many_environments_as_the_policy_sees_rows() -> None:
    with pytest.raises(ValueError, match="needs 16 environments, not 4"):
        next(play(policy, Counters(4), 2, ("a",), 1))


def test_it_needs_no_gradients() -> None:
    def learns(obs: Tensor, noise: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        return policy(obs, noise)

    next(play(learns, Counters(), 2, ("a",), 1))


def test_every_game_has_noise_of_its_own() -> None:
    seen = []

    def watches(obs: Tensor, noise: Tensor) -> Tensor:
        seen.append(noise.clone())
        return policy(obs, noise)

    next(play(watches, Counters(), 2, ("a",), 1))
    for k in range(CHUNK):
        g = generator("a", "noise", k)
        assert torch.equal(seen[0][k], torch.randn(2, generator=g))
    assert len(torch.unique(seen[0])) == 2 * CHUNK
