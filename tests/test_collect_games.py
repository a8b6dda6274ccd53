"""Behaviour policies of games: trained, resumed, chosen, kept small, and put to work."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import killed_at_write
from omegaconf import OmegaConf
from test_online import collect, left, quiet

from offrl import behaviour_game
from offrl.algos.qrdqn import QRDQN
from offrl.data.atari import VERSION, own_behaviour, record_of
from offrl.data.atari_file import read_meta, unpack_atari
from offrl.data.digest import sha256_file
from offrl.envs.atari import AtariSettings, AtariVector
from offrl.errors import UserError
from offrl.online import Online
from offrl.plan import CONF
from offrl.rng import generator
from offrl.types import Spec

PLAYED = AtariSettings(
    game="pong", **{**OmegaConf.load(CONF / "atari" / "seed.yaml"), "max_episode_steps": 20}
)
TRAINING = replace(PLAYED, episodic_life=True, clip_rewards=True)
ALGO: dict[str, Any] = {
    "name": "qrdqn",
    "_target_": "offrl.algos.qrdqn.QRDQN",
    **{"n_quantiles": 5, "kappa": 1.0, "double": False, "target_period": 3, "lr": 1e-3},
    **{"adam_eps": 1e-4, "eps_start": 1.0, "eps_end": 0.1, "eps_steps": 10, "eps_test": 0.01},
    "hidden": [8],
}


def online(out: Path) -> Online:
    hyperparameters = {k: v for k, v in ALGO.items() if k not in ("name", "_target_")}
    hyperparameters["hidden"] = (8,)
    return Online(
        algo=QRDQN(Spec((4, 84, 84), 6, 0.0, 4), **hyperparameters),
        env_id="atari/pong",
        make_env=partial(AtariVector, TRAINING),
        make_eval_env=partial(AtariVector, PLAYED),
        gamma=0.99,
        n_step=3,
        seed=0,
        train_steps=96,
        start_steps=16,
        n_envs=4,
        steps_per_update=2,
        capacity=50,
        eval_every=48,
        eval_episodes=2,
        out=out,
        compile=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Online:
    run = online(tmp_path_factory.mktemp("trained"))
    run.train(quiet)
    return run


def test_it_resumes_in_every_bit(trained: Online, tmp_path: Path) -> None:
    killed, n = online(tmp_path), 0
    while killed_at_write(lambda: killed.train(quiet), 4 + 3 * (n % 2)):
        n += 1
        assert n < 10
    assert n >= 2
    assert left(tmp_path) == left(trained.out)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_envs": 3}, "train_steps=96|start_steps=16"),
        ({"steps_per_update": 3}, "n_envs=4: must be a multiple of steps_per_update=3"),
        ({"n_envs": 32, "start_steps": 32}, "n_envs=32: must be at most 16|eval_every=48"),
        ({"capacity": 0}, "capacity=0: must be a whole number, at least 1"),
    ],
)
def test_settings_that_do_not_fit(
    change: dict[str, Any], said: str, trained: Online, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        replace(trained, **change)


def test_one_output_for_the_quantiles_of_an_action(trained: Online) -> None:
    algo: Any = trained.algo
    theta = algo.init(generator(1, "init")).critic
    small = replace(algo, n_quantiles=1)
    mean = behaviour_game.mean_quantiles(algo, theta)
    g = torch.Generator().manual_seed(0)
    obs = torch.randint(256, (7, 4, 84, 84), generator=g, dtype=torch.uint8)
    assert mean.shape == small.init(generator(0)).critic.shape
    torch.testing.assert_close(small.critic.q(mean, obs), algo.critic.q(theta, obs))


CONFIG = {"algo": ALGO, "env": {}, "out": "/somewhere", "seed": 0, "threads": 1, "compile": False}


def test_publish(trained: Online, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "offrl" / "policies").mkdir(parents=True)
    monkeypatch.setattr(behaviour_game, "SELECTION", 2)
    monkeypatch.setattr(behaviour_game, "FRESH", 3)
    said: list[str] = []
    behaviour_game.publish(trained, CONFIG, PLAYED, tmp_path, said.append)
    folder = tmp_path / "offrl" / "policies" / "atari"
    record = json.loads((folder / "pong.json").read_text())
    assert record["policy"]["sha256"] == sha256_file(folder / "pong.safetensors")
    assert record["policy"]["fresh_episodes"] == 3
    assert record["trained_steps"] == 96
    assert record["training"] == {"algo": ALGO, "seed": 0, "threads": 1, "compile": False}
    assert len(said) == 3
    monkeypatch.setattr("offrl.data.atari.POLICIES", folder)
    assert record_of("pong") == record
    assert AtariSettings(**record["env"]) == PLAYED
    behaviour = own_behaviour(PLAYED)
    assert behaviour.algo["n_quantiles"] == 1
    assert behaviour.tensors["critic"].dtype == torch.float32
    returns = behaviour_game._returns(
        trained,
        QRDQN(**{**vars(trained.algo), "n_quantiles": 1}),
        behaviour.tensors["critic"],
        4,
        3,
    )
    assert record["policy"]["return_mean"] == returns.mean()


def test_gather(trained: Online, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviour_game, "SELECTION", 2)
    config = {**CONFIG, "n_steps": 50, "epsilon": 0.2}
    path = behaviour_game.gather(trained, config, PLAYED, quiet)
    meta = read_meta(path)
    assert (meta["epsilon"], meta["n"], meta["version"]) == (0.2, 50, VERSION)
    data = unpack_atari(path, "x", tmp_path)
    assert len(data) == 50
    assert np.diff(data.episode_start).tolist() == [20, 20, 10]
    before = path.stat().st_mtime_ns
    assert behaviour_game.gather(trained, config, PLAYED, quiet) == path
    assert path.stat().st_mtime_ns == before
    sticky = replace(PLAYED, sticky_actions=0.25)
    with pytest.raises(UserError, match=r"played otherwise: env: .*'sticky_actions': 0\.25"):
        behaviour_game.gather(trained, config, sticky, quiet)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(behaviour_game, "SELECTION", 1)
    settings = ("train_steps=16", "start_steps=8", "eval_every=8", "eval_episodes=1", "n_steps=30")
    game = ("env=pong", "algo=qrdqn", "atari.max_episode_steps=20", "algo.hidden=[8]")
    assert collect(monkeypatch, *game, *settings, "compile=false", "out=o") == 0
    out, _ = capsys.readouterr()
    assert len(unpack_atari(Path(out.strip()), "x", tmp_path)) == 30

    code = collect(monkeypatch, "env=pong", "out=o")
    assert "algo=sac" in str(code)
    assert "algo=qrdqn for games" in str(code)
    code = collect(monkeypatch, "env=hopper", "algo=bc", "out=o", "online=sac")
    assert "algo=sac for robots" in str(code)
