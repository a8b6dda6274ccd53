"""Whole runs with discrete actions: CartPole from a file, and Pong from pixels."""

import csv
import re
import runpy
import sys
from pathlib import Path

import gymnasium
import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
from atari_toys import SHORT_PONG, write_pong
from harness import (
    ROOT,
    Train,
    cell,
    complete,
    killed_at_write,
    litter,
    manifest,
    results,
)
from numpy.typing import NDArray

import offrl
from offrl.cell import Cell
from offrl.data import memory
from offrl.envs.make import make_envs
from offrl.evaluate import start_seed
from offrl.policy import env_of
from offrl.run import run, run_dir_of

TINY_PONG = (
    *("algo=discrete_bc", "env=pong", "dataset=atari/file", "seeds=[0,3]", "buffer_size=70"),
    *("n_updates=4", "eval_every=2", "eval_episodes=2", "batch_size=4", "algo.hidden=[8]"),
)


def controller(obs: NDArray[np.float32]) -> int:
    """Pushes towards where the pole falls: seldom less than 200 steps."""
    return int(obs @ np.array([0.1, 0.5, 1.0, 1.0]) > 0)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 episodes of a controller in D4RL's layout, with discrete actions, a fifth random."""
    env, g, rows = gymnasium.make("CartPole-v0"), np.random.default_rng(0), []
    for k in range(30):
        obs, _ = env.reset(seed=k)
        end = timeout = False
        while not (end or timeout):
            action = int(g.integers(2)) if g.random() < 0.2 else controller(obs)
            following, reward, end, timeout, _ = env.step(np.int64(action))
            rows.append((obs, following, action, reward, end, timeout))
            obs = following
    names = ("observations", "next_observations", "actions", "rewards", "terminals", "timeouts")
    path = tmp_path_factory.mktemp("data") / "cartpole.hdf5"
    with h5py.File(path, "w") as f:
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            f[name] = np.array(column)
        assert f["actions"].dtype == np.int64
    return path


def on_cartpole(data: Path, out: Path, *overrides: str) -> Cell:
    return cell(
        *("env=cartpole", "dataset=file", f"dataset.path='{data}'", "dataset.env_id=CartPole-v0"),
        *("dataset.keep_timeouts=true", f"out='{out}'", *overrides),
    )


@pytest.fixture(scope="module")
def pong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pong(tmp_path_factory.mktemp("pong") / "pong.npz", 90)


def on_pong(data: Path, out: Path, *overrides: str) -> Cell:
    return cell(*TINY_PONG, f"dataset.path='{data}'", f"out='{out}'", *overrides)


@pytest.fixture(scope="module")
def pong_run(pong: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete(on_pong(pong, tmp_path_factory.mktemp("run")))


def recorded(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "eval.csv").open() as f:
        rows = list(csv.DictReader(f))
    return [r for r in rows if r["step"] == rows[-1]["step"]]


def test_a_pole_is_balanced_by_a_whole_run(cartpole: Path, tmp_path: Path) -> None:
    quick = ("algo=discrete_bc", "algo.hidden=[64]", "algo.lr=1e-3", "n_updates=500")
    c = on_cartpole(cartpole, tmp_path, *quick, "eval_every=500", "eval_episodes=10")
    run_dir = complete(c)
    returns = [float(r["return"]) for r in recorded(run_dir)]
    assert max(int(r["length"]) for r in recorded(run_dir)) == 200
    assert np.mean(returns) >= 190
    assert manifest(run_dir)["score"]["name"] == "return"
    policy = offrl.load_policy(run_dir)
    obs = np.array([[0, 0, 0.1, 0.5], [0, 0, -0.1, -0.5]])  # the pole falls right, left
    assert policy.predict(obs).tolist() == [1, 0]
    assert policy.predict(obs[0]) == 1
    assert policy.predict(obs[0]).shape == ()
    # the same episode once more, in plain Gymnasium
    env = gymnasium.make("CartPole-v0")
    now, _ = env.reset(seed=start_seed(0))
    total, done = 0.0, False
    while not done:
        now, reward, end, timeout, _ = env.step(np.int64(policy.predict(now)))
        total, done = total + float(reward), end or timeout
    assert total == returns[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [(2, "'actions' row 7 is 2.*actions 0 to 1"), (0.5, "'actions' row 7 is 0.5.*integers")],
)
def test_actions_that_there_are_not(
    value: float, words: str, cartpole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.hdf5"
    path.write_bytes(cartpole.read_bytes())
    with h5py.File(path, "a") as f:
        actions = f["actions"][()].astype(type(value))
        actions[7] = value
        del f["actions"]
        f["actions"] = actions
    outcome = run(on_cartpole(path, tmp_path, "algo=discrete_bc", "n_updates=4", "eval_every=4"))
    assert outcome.status == "failed"
    assert re.search(f"bad.hdf5: {words}", outcome.message), outcome.message


def test_pixels_through_the_real_command(train: Train, pong: Path, pong_run: Path) -> None:
    done = train(*TINY_PONG, f"dataset.path='{pong}'")
    assert done.code == 0, done.err
    assert results(done.run_dir) == results(pong_run)


def test_what_a_run_on_pixels_records(pong_run: Path) -> None:
    content = manifest(pong_run)
    settings = {k: v for k, v in vars(SHORT_PONG).items() if k != "game"}
    assert content["score"] == {
        "name": "human",
        "env_id": "atari/pong",
        "settings": settings,
        "ref_min": -20.7,
        "ref_max": 14.6,
    }
    assert content["dataset"]["n_transitions"] == 70
    assert content["numerics"]["ale-py"] == content["versions"]["ale-py"] != "absent"
    for r in recorded(pong_run):
        assert float(r["score"]) == pytest.approx(100 * (float(r["return"]) + 20.7) / 35.3)
        assert int(r["length"]) == 50


def test_killed_at_every_write(pong: Path, pong_run: Path, tmp_path: Path) -> None:
    c = on_pong(pong, tmp_path)
    kills = 0
    while killed_at_write(lambda: complete(c), 3 + kills % 5):
        kills += 1
        assert kills < 30
    assert kills >= 2
    assert results(run_dir_of(c)) == results(pong_run)
    assert litter(run_dir_of(c)) == []


def test_a_policy_gives_back_the_recorded_episode(pong_run: Path) -> None:
    policy = offrl.load_policy(pong_run, 3)
    env = make_envs(env_of(manifest(pong_run)), 1)
    env.reset(0, start_seed(1))
    total, truncated = 0.0, False
    while not truncated:
        action = policy.predict(env.obs[0])
        assert (action.dtype, action.shape) == (np.int64, ())
        assert policy.predict(env.obs) == action
        reward, _, ends = env.step_alive(np.array([action]), np.ones(1, np.bool_))
        total, truncated = total + float(reward[0]), bool(ends[0])
    (row,) = (r for r in recorded(pong_run) if (r["seed"], r["episode"]) == ("3", "1"))
    assert total == float(row["return"])


def test_evaluated_again_and_filmed(
    pong_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, gif = ROOT / "benchmarks" / "evaluate.py", tmp_path / "x.gif"
    monkeypatch.setattr(sys, "argv", [str(script), str(pong_run), f"video={gif}"])
    runpy.run_path(str(script), run_name="__main__")
    out = capsys.readouterr().out
    assert "atari/pong, score: human" in out
    returns = [float(r["return"]) for r in recorded(pong_run)]
    scores = [float(r["score"]) for r in recorded(pong_run)]
    assert f"all      return {np.mean(returns):10.3f}" in out
    assert f"score {np.mean(scores):8.3f}" in out
    frames = imageio.imread(gif)
    assert frames.shape == (25, 210, 160, 3)
    assert (frames[0] != frames[-1]).any()


def test_too_little_memory_is_said_before_loading(
    pong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000)
    monkeypatch.setattr("offrl.run.Transitions", None)
    outcome = run(on_pong(pong, tmp_path))
    assert outcome.status == "failed"
    assert "70 transitions need 0.00 GB of memory, 0.00 GB are free" in outcome.message


def test_other_data_under_the_same_name(pong: Path, pong_run: Path, tmp_path: Path) -> None:
    other = write_pong(tmp_path / "pong.npz", 90, seed=9)
    c = on_pong(pong, tmp_path, "n_updates=4")
    assert killed_at_write(lambda: complete(c), 5)
    outcome = run(on_pong(other, tmp_path))
    assert outcome.status == "failed"
    assert "begun with other data: digest of atari/pong/pong" in outcome.message
