"""Atari games, one after another in this process, preprocessed as in DQN.

The emulator is ale-py (licence GPL-2.0-only, an optional extra), through its plain interface: its
own vector environment is no faster on one thread (3,200 agent steps/s of ten Pongs, both), steps
every game even where some are over, and cannot press FIRE after a lost life.
"""

import difflib
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offrl.envs.frames import SIZE, STACK, shrink
from offrl.envs.interface import EnvSpec
from offrl.errors import UserError, missing_extra

HERTZ = 60  # frames of the console in a second


@dataclass(frozen=True)
class AtariSettings:
    """A game and everything that decides how it is played; recorded in every dataset.

    The steps of an agent: `frame_skip` frames with one action, seen as the maximum of the last two.
    Raises UserError for a game that does not exist and for values without a meaning.
    """

    game: str  # pong, ms_pacman; Pong and MsPacman will do
    sticky_actions: float  # probability, per frame, that the last action is repeated
    noop_max: int  # a game begins with 1 to so many frames without action; 0 for none
    frame_skip: int
    fire_reset: bool  # press FIRE once where an episode starts
    fire_after_life_loss: bool  # press it after a lost life, too: a greedy agent may wait for ever
    episodic_life: bool  # a lost life ends the episode, and reset() goes on with the game
    clip_rewards: bool  # -1, 0, 1
    max_episode_steps: int  # agent steps until a game is truncated

    def __post_init__(self) -> None:
        object.__setattr__(self, "game", rom_id(self.game))
        if not 0 <= self.sticky_actions < 1:
            raise UserError(f"sticky_actions={self.sticky_actions}: must lie in [0, 1)")
        for key, least in (("noop_max", 0), ("frame_skip", 1), ("max_episode_steps", 1)):
            if getattr(self, key) < least:
                raise UserError(f"{key}={getattr(self, key)}: must be at least {least}")


def rom_id(game: str) -> str:
    """The emulator's name of a game: UpNDown -> up_n_down.  Raises UserError, suggesting names."""
    plain = re.sub(r"[^a-z0-9]", "", game.lower())
    names: list[str] = _ale_py().roms.get_all_rom_ids()
    known = {name.replace("_", ""): name for name in names}
    if plain in known:
        return known[plain]
    near = [known[n] for n in difflib.get_close_matches(plain, known, cutoff=0.5)]
    hint = f"is it {' or '.join(near)}?" if near else "see the games of the Arcade Learning Env."
    raise UserError(f"env.game={game}: there is no such Atari game; {hint}")


class AtariVector:
    """`n` games; see offrl.envs.interface.Envs.  obs: uint8 [n, 4, 84, 84], the oldest frame first.

    reset(i, seed) begins a game that the seed determines alone, whatever was played before.  Only
    where the last step lost a life under `episodic_life` it goes on with the game.
    """

    def __init__(self, settings: AtariSettings, n: int) -> None:
        self.settings = settings
        self.env_id = f"atari/{settings.game}"
        self.max_episode_steps = settings.max_episode_steps
        self._games = [_Game(settings) for _ in range(n)]
        self.spec = atari_spec(settings.game)
        self.obs = np.zeros((n, STACK, SIZE, SIZE), np.uint8)
        self._reward = np.zeros(n, np.float64)
        self._terminated = np.zeros(n, np.bool_)
        self._truncated = np.zeros(n, np.bool_)

    @property
    def n(self) -> int:
        return len(self._games)

    @property
    def per_second(self) -> float:
        return HERTZ / self.settings.frame_skip

    def reset(self, i: int, seed: int) -> NDArray[np.uint8]:
        self.obs[i] = self._games[i].reset(seed)
        row: NDArray[np.uint8] = self.obs[i]
        return row

    def step_alive(
        self, actions: NDArray[np.int64], alive: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        self._reward[:] = 0.0
        self._terminated[:] = False
        self._truncated[:] = False
        for i in alive.nonzero()[0].tolist():
            step = self._games[i].step(int(actions[i]))
            frame, self._reward[i], self._terminated[i], self._truncated[i] = step
            self.obs[i, :-1] = self.obs[i, 1:]
            self.obs[i, -1] = frame
        return self._reward, self._terminated, self._truncated

    def picture(self, i: int) -> NDArray[np.uint8]:
        return self._games[i].picture()

    def close(self) -> None:
        self._games.clear()


@dataclass
class _Game:
    settings: AtariSettings
    _steps: int = 0
    _lives: int = 0
    _goes_on: bool = False  # a life was lost by the last step, and the next episode is the next one
    _screens: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((2, 210, 160), np.uint8))

    def __post_init__(self) -> None:
        self._rom = _ale_py().roms.get_rom_path(self.settings.game)
        self._ale = _emulator()
        self._ale.setFloat("repeat_action_probability", self.settings.sticky_actions)
        self._actions = _actions(self.settings.game)
        by_name = {a.name: a for a in self._actions}
        self._noop, self._fire = by_name["NOOP"], by_name.get("FIRE")

    def reset(self, seed: int) -> NDArray[np.uint8]:
        """The first frame of an episode."""
        goes_on, self._goes_on = self._goes_on, False
        if goes_on:
            frame = self._skip(self._noop)[0]
        if not goes_on or self._ale.game_over():
            frame = self._begin(seed)
        if self.settings.fire_reset and self._fire is not None:
            frame = self._skip(self._fire)[0]
            if self._ale.game_over():  # for that game FIRE is no start
                frame = self._begin(seed)
        self._lives = self._ale.lives()
        return frame

    def _begin(self, seed: int) -> NDArray[np.uint8]:
        # only loading clears everything that a game left behind, for every game; it takes 0.1 s
        self._ale.setInt("random_seed", seed % 2**31)
        self._ale.loadROM(self._rom)
        self._steps = 0
        if self.settings.noop_max:
            noops = np.random.default_rng(seed).integers(1, self.settings.noop_max + 1)
            for _ in range(int(noops)):
                self._ale.act(self._noop)
                if self._ale.game_over():
                    self._ale.reset_game()
        self._ale.getScreenGrayscale(self._screens[0])
        return shrink(self._screens[0])

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool]:
        """(frame, reward, terminated, truncated)"""
        s = self.settings
        frame, reward = self._skip(self._actions[action])
        over, lives = self._ale.game_over(), self._ale.lives()
        lost = not over and 0 < lives < self._lives
        if lost and s.fire_after_life_loss and not s.episodic_life and self._fire is not None:
            frame, more = self._skip(self._fire)
            reward += more
            over, lives = self._ale.game_over(), self._ale.lives()
        self._lives = lives
        self._steps += 1
        terminated = over or (lost and s.episodic_life)
        truncated = not terminated and self._steps >= s.max_episode_steps
        self._goes_on = terminated and not over and self._steps < s.max_episode_steps
        return frame, float(np.sign(reward)) if s.clip_rewards else reward, terminated, truncated

    def _skip(self, action: Any) -> tuple[NDArray[np.uint8], float]:
        """`frame_skip` frames, or fewer if the game is over: the last two as one, and the sum."""
        reward, last = 0.0, self.settings.frame_skip - 1
        self._screens[0] = 0
        for k in range(self.settings.frame_skip):
            reward += self._ale.act(action)
            over = self._ale.game_over()
            if k == last - 1 and not over:
                self._ale.getScreenGrayscale(self._screens[0])
            if over:
                break
        self._ale.getScreenGrayscale(self._screens[1])
        return shrink(np.maximum(*self._screens)), reward

    def picture(self) -> NDArray[np.uint8]:
        screen: NDArray[np.uint8] = self._ale.getScreenRGB()
        return screen


def action_names(game: str) -> tuple[str, ...]:
    """What actions 0, 1, ... of a game are called."""
    return tuple(a.name for a in _actions(game))


def atari_spec(game: str) -> EnvSpec:
    return EnvSpec((STACK, SIZE, SIZE), len(_actions(game)), 0.0, False)


@cache
def _actions(game: str) -> tuple[Any, ...]:
    """The emulator's minimal action set of a game."""
    ale = _emulator()
    ale.loadROM(_ale_py().roms.get_rom_path(game))
    return tuple(ale.getMinimalActionSet())


def _emulator() -> Any:
    ale_py = _ale_py()
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
    return ale_py.ALEInterface()


def _ale_py() -> Any:
    try:
        import ale_py
        import ale_py.roms
    except ImportError as e:
        raise UserError(f"ale-py: {missing_extra('atari')}") from e
    return ale_py
