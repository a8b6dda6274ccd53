"""Where data comes from.  A config's dataset names one of these dataclasses by its `_target_`.

A source binds data, environment and score reference together, so that they cannot be mismatched.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from offrl.data import atari
from offrl.data.atari_file import read_meta, unpack_atari, unpack_together
from offrl.data.d4rl import unpack_hdf5
from offrl.data.dataset import Dataset, ScoreRef
from offrl.data.locate import cache_dir, d4rl_file, d4rl_info
from offrl.data.package import behaviour_record
from offrl.data.rlu_games import check_shards, game_named, ranges
from offrl.data.rollout import VERSION, mixture, own_dataset
from offrl.envs.atari import AtariSettings, rom_id
from offrl.envs.make import EnvRef
from offrl.envs.make import atari as atari_ref
from offrl.envs.vector import env_spec, make_env
from offrl.errors import UserError
from offrl.rl_unplugged import VERSION as RLU_VERSION
from offrl.rl_unplugged import converted, recorded_settings


@dataclass(frozen=True)
class Robot:
    """conf/env/<name>.yaml"""

    name: str  # halfcheetah
    task: str  # HalfCheetah, the Gymnasium id without its version


@dataclass(frozen=True)
class Game:
    """conf/env/<name>.yaml of an Atari game; MsPacman and ms_pacman are one."""

    game: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "game", rom_id(self.game))

    @property
    def name(self) -> str:
        return self.game


Env = Robot | Game


class Task(NamedTuple):
    """What a dataset is evaluated on."""

    env: EnvRef
    score: ScoreRef

    @property
    def env_id(self) -> str:
        return self.env.id


class Source(Protocol):
    unhashed: ClassVar[tuple[str, ...]]  # the fields that do not identify the data

    def id(self, env: Env) -> str:
        """Names the data and its version."""

    def task(self, env: Env) -> Task: ...

    def open(self, env: Env) -> Dataset:
        """The data, fetched or made if need be."""


@dataclass(frozen=True)
class D4RL:
    """D4RL's MuJoCo data, -v2, evaluated on Gymnasium's -v4 environments with D4RL's references."""

    source: str
    quality: str
    keep_timeouts: bool
    mirrors: tuple[str, ...]

    unhashed: ClassVar[tuple[str, ...]] = ("mirrors",)

    def id(self, env: Env) -> str:
        suffix = "+timeouts" if self.keep_timeouts else ""  # not what others trained on
        return f"d4rl/{d4rl_info(env.name, self.quality).dataset_id}{suffix}"

    def task(self, env: Env) -> Task:
        info = d4rl_info(env.name, self.quality)
        return Task(EnvRef(info.env_id), ScoreRef("d4rl", info.ref_min, info.ref_max))

    def open(self, env: Env) -> Dataset:
        info = d4rl_info(env.name, self.quality)
        path = d4rl_file(info.dataset_id, self.mirrors)
        return unpack_hdf5(
            *(path, self.id(env), cache_dir(), info.max_episode_steps, self.keep_timeouts),
            published=info.sha256,
        )


@dataclass(frozen=True)
class Offrl:
    """The suite's own data, on the -v5 environments, with references of its own."""

    source: str
    quality: str
    n_transitions: int | None  # None for medium-replay alone, which has a length of its own

    unhashed: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.n_transitions is not None and self.n_transitions < 1:
            raise UserError(f"dataset.n_transitions={self.n_transitions}: must be at least 1")

    def id(self, env: Env) -> str:
        return f"offrl/{env.name}/{self.quality}-{VERSION}"

    def task(self, env: Env) -> Task:
        record = behaviour_record(env.name)
        mixture(env.name, self.quality)
        reference = record["reference"]
        return Task(
            EnvRef(record["env_id"]), ScoreRef("offrl-v5", reference["min"], reference["max"])
        )

    def open(self, env: Env) -> Dataset:
        return own_dataset(env.name, self.quality, self.n_transitions, cache_dir())


@dataclass(frozen=True)
class File:
    """An HDF5 file in D4RL's layout, scored with D4RL's references on D4RL's environment, by its
    return on any other."""

    source: str
    quality: str
    path: str
    name: str
    keep_timeouts: bool
    env_id: str

    unhashed: ClassVar[tuple[str, ...]] = ("path",)

    def id(self, env: Env) -> str:
        return f"file/{self.name}"

    def task(self, env: Env) -> Task:
        try:
            info = d4rl_info(env.name, "medium")  # the references are one set per robot
        except UserError:
            return Task(EnvRef(self.env_id), ScoreRef("return", None, None))
        if self.env_id != info.env_id:  # another version, or another robot: another scale
            return Task(EnvRef(self.env_id), ScoreRef("return", None, None))
        return Task(EnvRef(self.env_id), ScoreRef("d4rl", info.ref_min, info.ref_max))

    def open(self, env: Env) -> Dataset:
        gym_env = make_env(self.env_id)
        limit = gym_env.spec.max_episode_steps if gym_env.spec else None
        gym_env.close()
        if limit is None:
            raise UserError(f"dataset.env_id={self.env_id}: it has no time limit")
        spec, path = env_spec(self.env_id), Path(self.path).expanduser()
        return unpack_hdf5(
            *(path, self.id(env), cache_dir(), limit, self.keep_timeouts),
            max_action=spec.max_action,
            n_actions=None if spec.continuous else spec.action_dim,
        )


@dataclass(frozen=True)
class AtariGames:
    """The suite's own Atari data: its behaviour policy plays, with some random actions."""

    source: str
    quality: str
    n_transitions: int
    epsilon: float
    seed: int
    # how the games are played: the fields of AtariSettings
    sticky_actions: float
    noop_max: int
    frame_skip: int
    fire_reset: bool
    fire_after_life_loss: bool
    episodic_life: bool
    clip_rewards: bool
    max_episode_steps: int

    unhashed: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.n_transitions < 1:
            raise UserError(f"dataset.n_transitions={self.n_transitions}: must be at least 1")
        if not 0 <= self.epsilon <= 1:
            raise UserError(f"dataset.epsilon={self.epsilon}: must lie in [0, 1]")

    def id(self, env: Env) -> str:
        return f"atari/{_game(env)}/{self.quality}-{atari.VERSION}"

    def task(self, env: Env) -> Task:
        return _atari_task(_game(env), self._played(env))

    def open(self, env: Env) -> Dataset:
        record = atari.record_of(_game(env))
        atari.check_actions(_game(env), record["actions"], f"offrl/policies/atari/{env.name}.json")
        played = self._played(env)
        data = atari.own_games(played, self.n_transitions, self.epsilon, self.seed, cache_dir())
        return _comparable(data, played)

    def _played(self, env: Env) -> AtariSettings:
        switches = {f.name for f in fields(AtariSettings)} - {"game"}
        return AtariSettings(_game(env), **{k: getattr(self, k) for k in switches})


@dataclass(frozen=True)
class AtariFile:
    """A file that benchmarks/collect.py has written."""

    source: str
    quality: str
    path: str
    name: str

    unhashed: ClassVar[tuple[str, ...]] = ("path",)

    def id(self, env: Env) -> str:
        return f"atari/{_game(env)}/{self.name}"

    def task(self, env: Env) -> Task:
        recorded = AtariSettings(**read_meta(self._path)["env"])
        if recorded.game != _game(env):
            raise UserError(
                f"{self._path}: data of {recorded.game}, but env={env.name}; set "
                f"env=atari env.game={recorded.game}, or another dataset.path"
            )
        return _atari_task(recorded.game, recorded)

    def open(self, env: Env) -> Dataset:
        self.task(env)
        meta = read_meta(self._path)
        atari.check_actions(_game(env), meta["actions"], str(self._path))
        data = unpack_atari(self._path, self.id(env), cache_dir())
        return _comparable(data, AtariSettings(**meta["env"]))

    @property
    def _path(self) -> Path:
        return Path(self.path).expanduser()


@dataclass(frozen=True)
class RLUnplugged:
    """Shards of RL Unplugged that benchmarks/convert_rl_unplugged.py has converted."""

    source: str
    quality: str
    run: int
    shards: tuple[int, ...]
    path: str | None

    unhashed: ClassVar[tuple[str, ...]] = ("path",)

    def __post_init__(self) -> None:
        check_shards(self.run, self.shards, "dataset.")

    def id(self, env: Env) -> str:
        return f"rlu/{_game(env)}/run{self.run}/{ranges(self.shards)}-{RLU_VERSION}"

    def task(self, env: Env) -> Task:
        return _atari_task(_game(env), self._played(env))

    def open(self, env: Env) -> Dataset:
        played, name = self._played(env), game_named(_game(env))
        paths = [converted(self.path, name, self.run, k) for k in self.shards]
        for path in paths:
            atari.check_actions(_game(env), read_meta(path)["actions"], str(path))
        return _comparable(unpack_together(paths, self.id(env), cache_dir()), played)

    def _played(self, env: Env) -> AtariSettings:
        return recorded_settings(self.path, game_named(_game(env)), self.run, self.shards)


def _game(env: Env) -> str:
    if not isinstance(env, Game):
        raise UserError(f"env={env.name}: is no Atari game; choose one, as env=pong")
    return env.game


def _atari_task(game: str, gathered: AtariSettings) -> Task:
    return Task(atari_ref(atari.as_evaluated(gathered)), atari.human(game))


def _comparable(data: Dataset, played: AtariSettings) -> Dataset:
    """Without returns where rewards were clipped: scores are of whole, unclipped games."""
    if not played.clip_rewards and not played.episodic_life:
        return data
    return replace(data, complete=np.zeros_like(data.complete))
