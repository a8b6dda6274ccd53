"""Environments by what is recorded of them."""

import json
from dataclasses import asdict

import pytest
from test_atari import PONG

from offrl.envs.atari import AtariVector
from offrl.envs.interface import EnvSpec
from offrl.envs.make import EnvRef, atari, atari_settings, make_envs, spec_of
from offrl.envs.vector import VectorEnv
from offrl.errors import UserError


def test_a_game_is_restored_from_json() -> None:
    ref = EnvRef(*json.loads(json.dumps(atari(PONG))))
    assert ref.id == "atari/pong"
    assert asdict(atari_settings(ref)) == asdict(PONG)
    envs = make_envs(ref, 2)
    assert isinstance(envs, AtariVector)
    assert (envs.n, envs.settings, envs.spec) == (2, PONG, spec_of(ref))


def test_gymnasiums_environments_and_their_settings() -> None:
    ref = EnvRef("CartPole-v1", {"max_episode_steps": 7})
    assert spec_of(ref) == EnvSpec((4,), 2, 0.0, False)
    envs = make_envs(ref, 3)
    assert isinstance(envs, VectorEnv)
    assert (envs.n, envs.max_episode_steps) == (3, 7)
    assert make_envs(EnvRef("Hopper-v5"), 1).max_episode_steps == 1000


def test_settings_of_a_game_that_do_not_fit() -> None:
    complete = dict(atari(PONG).settings)
    for settings, words in (
        ({k: v for k, v in complete.items() if k != "noop_max"}, "noop_max: no value"),
        ({**complete, "speed": 2}, "speed: unknown key"),
        ({**complete, "frame_skip": "x"}, "frame_skip"),
    ):
        with pytest.raises(UserError, match=f"atari/pong.{words}"):
            make_envs(EnvRef("atari/pong", settings), 1)
    with pytest.raises(UserError, match="no such Atari game"):
        spec_of(EnvRef("atari/pongg", complete))
