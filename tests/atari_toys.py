"""Short games of Pong by an untrained network."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from offrl.algos.qrdqn import QRDQN
from offrl.checkpoint import save_tensors
from offrl.data import atari
from offrl.data.atari import Behaviour, gather
from offrl.data.digest import sha256_file
from offrl.envs.atari import AtariSettings
from offrl.evaluate import CHUNK
from offrl.rng import generator
from offrl.types import Spec

SHORT_PONG = AtariSettings(
    game="pong",
    sticky_actions=0.0,
    noop_max=30,
    frame_skip=4,
    fire_reset=True,
    fire_after_life_loss=True,
    episodic_life=False,
    clip_rewards=False,
    max_episode_steps=50,
)
SPEC = Spec((4, 84, 84), 6, 0.0, CHUNK)
ALGO = QRDQN(
    spec=SPEC,
    n_quantiles=3,
    kappa=1.0,
    double=True,
    target_period=100,
    lr=1e-4,
    adam_eps=1e-4,
    eps_start=1.0,
    eps_end=0.05,
    eps_steps=100,
    eps_test=0.005,
    hidden=(8,),
)
CONFIG: dict[str, Any] = {"name": "qrdqn", "_target_": "offrl.algos.qrdqn.QRDQN"} | {
    f.name: getattr(ALGO, f.name) for f in fields(ALGO) if f.name != "spec"
}


def random_behaviour(settings: AtariSettings = SHORT_PONG) -> Behaviour:
    state = ALGO.init(generator("toy"))
    tensors = {name: getattr(state, name) for name in ALGO.policy_fields}
    return Behaviour(settings, {**CONFIG, "hidden": list(ALGO.hidden)}, tensors, "f" * 64)


def write_pong(
    path: Path,
    n: int,
    epsilon: float = 0.2,
    seed: int = 5,
    settings: AtariSettings = SHORT_PONG,
) -> Path:
    gather(path, random_behaviour(settings), n, epsilon, seed, lambda _: None)
    return path


def publish_policy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A policy for pong, as if it were one of the package's; its record."""
    folder.mkdir()
    behaviour = random_behaviour()
    path = folder / "pong.safetensors"
    save_tensors(path, behaviour.tensors, {})
    record = {
        "env": asdict(SHORT_PONG),
        "actions": list(atari.action_names("pong")),
        "algo": dict(behaviour.algo),
        "policy": {"sha256": sha256_file(path)},
    }
    (folder / "pong.json").write_text(json.dumps(record))
    monkeypatch.setattr(atari, "POLICIES", folder)
    return record
