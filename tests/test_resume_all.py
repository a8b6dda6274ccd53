"""Every algorithm, killed after its first checkpoint: the real run goes on in every bit."""

from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
from harness import TINY, cell, complete, interrupted, manifest, results

from offrl.plan import choices

ONLINE = ("sac", "qrdqn")  # benchmarks/collect.py trains them; tests/test_online.py kills it
DISCRETE = [n for n in choices("algo") if n.startswith("discrete_")]
CONTINUOUS = [n for n in choices("algo") if n not in (*DISCRETE, *ONLINE)]


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random actions in D4RL's layout."""
    env, g, rows = gymnasium.make("CartPole-v1"), np.random.default_rng(0), []
    for k in range(20):
        obs, _ = env.reset(seed=k)
        end = False
        while not end:
            action = g.integers(2)
            following, reward, end, _, _ = env.step(action)
            rows.append((obs, action, reward, end, False))
            obs = following
    path = tmp_path_factory.mktemp("data") / "cartpole.hdf5"
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    with h5py.File(path, "w") as f:
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            f[name] = np.array(column)
    return path


def whole_and_resumed(folder: Path, *overrides: str) -> None:
    node = cell(*TINY, *overrides).config["algo"]
    narrow = [f"algo.{key}=[16,16]" for key in node if key.endswith("hidden")]
    whole, killed = (
        cell(*TINY, *overrides, *narrow, f"out='{folder / x}'") for x in ("whole", "killed")
    )
    expected = results(complete(whole))
    run_dir = interrupted(killed, 6)
    complete(killed)
    assert [r["step"] for r in manifest(run_dir)["resumed"]] == [20]
    assert results(run_dir) == expected


@pytest.mark.full
@pytest.mark.parametrize("algo", CONTINUOUS)
def test_on_a_robot(algo: str, hopper: Path, tmp_path: Path) -> None:
    whole_and_resumed(tmp_path, "dataset=file", f"dataset.path='{hopper}'", f"algo={algo}")


@pytest.mark.full
@pytest.mark.parametrize("algo", DISCRETE)
def test_on_a_pole(algo: str, cartpole: Path, tmp_path: Path) -> None:
    data = ("dataset=file", f"dataset.path='{cartpole}'", "dataset.env_id=CartPole-v1")
    whole_and_resumed(tmp_path, "env=cartpole", *data, f"algo={algo}")
