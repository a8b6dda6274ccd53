"""Environments by reference: what a dataset, a manifest or a policy says that they are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from offrl.config import typed
from offrl.envs.atari import AtariSettings, AtariVector, atari_spec
from offrl.envs.interface import Envs, EnvSpec
from offrl.envs.vector import VectorEnv, env_spec

ATARI = "atari/"  # atari/pong; every other id is Gymnasium's


class EnvRef(NamedTuple):
    """An environment and its settings: JSON, so that it can be recorded."""

    id: str  # "Hopper-v4", "atari/pong"
    settings: Mapping[str, Any] = {}  # Gymnasium's keyword arguments, or those of AtariSettings


def make_envs(env: EnvRef, n: int, pictures: bool = False) -> Envs:
    """`n` environments; `pictures` if somebody will ask for them.  Raises UserError."""
    if env.id.startswith(ATARI):
        return AtariVector(atari_settings(env), n)
    render = {"render_mode": "rgb_array"} if pictures else {}
    return VectorEnv(env.id, n, {**env.settings, **render})


def spec_of(env: EnvRef) -> EnvSpec:
    """Looks at an environment and closes it.  Raises UserError."""
    if env.id.startswith(ATARI):
        return atari_spec(atari_settings(env).game)
    return env_spec(env.id, env.settings)


def atari(settings: AtariSettings) -> EnvRef:
    """The reference of a game."""
    values = dict(vars(settings))
    return EnvRef(f"{ATARI}{values.pop('game')}", values)


def atari_settings(env: EnvRef) -> AtariSettings:
    """The game that a reference means.  UserError for one that says too little, or too much."""
    values = {**env.settings, "game": env.id.removeprefix(ATARI)}
    return AtariSettings(**typed(OmegaConf.create(values), AtariSettings, env.id))
