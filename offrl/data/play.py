"""Games of a behaviour policy, one after another, whoever plays beside them."""

import zlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offrl.data.rows import Rows
from offrl.envs.interface import Envs
from offrl.evaluate import CHUNK, Act
from offrl.rng import Address, address_seed, generator

_PACK = 64  # frames that are compressed together while a game waits for its turn


def play(
    policy: Act, envs: Envs, noise_dim: int, address: tuple[Address, ...], n: int
) -> Iterator[Rows]:
    """Games 0, 1, ... in this order, until they have at least `n` transitions.

    `envs` are CHUNK games of pictures.  Game k is played in row k % CHUNK of what the policy sees;
    its start and its noise, `noise_dim` normal numbers for each step, are addressed by k: nothing
    of it depends on `n` or on the games beside it.
    """
    if envs.n != CHUNK:
        raise ValueError(f"needs {CHUNK} environments, not {envs.n}")
    noise = torch.zeros(CHUNK, noise_dim)
    games = [_Game(envs, k, address) for k in range(CHUNK)]
    alive = np.ones(CHUNK, np.bool_)
    waiting: dict[int, _Game] = {}  # over, but not those before them
    steps = dict.fromkeys(range(CHUNK), 0)  # of each game so far
    turn = given = 0  # the game that is handed out next; the steps of those that were
    while given < n:
        with torch.inference_mode():
            for row in alive.nonzero()[0].tolist():
                games[row].draw(noise[row])
            actions = policy(torch.from_numpy(envs.obs), noise).cpu().numpy()
        reward, terminated, truncated = envs.step_alive(actions, alive)
        for row in alive.nonzero()[0].tolist():
            game = games[row]
            game.add(
                envs.obs[row, -1], int(actions[row]), float(reward[row]), bool(terminated[row])
            )
            steps[game.number] += 1
            if terminated[row] or truncated[row]:
                waiting[game.number] = game
                following = game.number + CHUNK
                # unless the games before it are already enough
                alive[row] = sum(t for k, t in steps.items() if k < following) < n
                if alive[row]:
                    games[row] = _Game(envs, following, address)
                    steps[following] = 0
        while turn in waiting and given < n:
            rows = waiting.pop(turn).rows()
            turn, given = turn + 1, given + len(rows.action)
            yield rows


class _Game:
    """A game that is played; its frames are kept compressed."""

    def __init__(self, envs: Envs, number: int, address: tuple[Address, ...]) -> None:
        self.number = number
        self._noise = generator(*address, "noise", number)
        first = envs.reset(number % CHUNK, address_seed(*address, "start", number))[-1]
        self._shape = first.shape
        self._packed: list[bytes] = []
        self._frames = [first.copy()]
        self._actions: list[int] = []
        self._rewards: list[float] = []
        self._terminated = False

    def draw(self, noise: Tensor) -> None:
        """The noise of the next step, in place."""
        noise.normal_(generator=self._noise)

    def add(self, frame: NDArray[np.uint8], action: int, reward: float, terminated: bool) -> None:
        self._frames.append(frame.copy())
        self._actions.append(action)
        self._rewards.append(reward)
        self._terminated = terminated
        if len(self._frames) == _PACK:
            self._packed.append(zlib.compress(np.stack(self._frames).data, 1))
            self._frames.clear()

    def rows(self) -> Rows:
        raw = b"".join([*map(zlib.decompress, self._packed), *(f.tobytes() for f in self._frames)])
        return Rows(
            np.frombuffer(raw, np.uint8).reshape(-1, *self._shape),
            np.array(self._actions, np.int64),
            np.array(self._rewards, np.float32),
            self._terminated,
            float(np.sum(self._rewards)),
        )
