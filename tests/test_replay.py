"""medium-replay: recorded actions, from which the simulator gives a training's data again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import ROOT, cell
from test_online import online, quiet

from offrl.checkpoint import save_tensors
from offrl.data import package
from offrl.data import replay as module
from offrl.data.buffer import Counts
from offrl.data.digest import sha256_file
from offrl.data.package import behaviour_record
from offrl.data.replay import collect_seed, replay
from offrl.data.rollout import REPLAY, own_dataset
from offrl.envs.vector import VectorEnv, make_env
from offrl.errors import UserError


def test_it_is_what_the_training_saw_in_every_bit(tmp_path: Path) -> None:
    run = online(tmp_path)  # 120 steps in blocks of 40
    run.train(quiet)
    buffer = run.buffer()
    buffer.rewind(Counts(torch.tensor(0), torch.tensor(120)))
    seen = buffer.gather((torch.arange(120) + 0.5).double() / 120, 120)
    actions = buffer.first(120)[0]
    assert torch.equal(actions, seen.action)
    data = replay(VectorEnv(run.env_id, 1), actions.numpy(), run.seed, run.eval_every)
    assert np.array_equal(data["states"][data["index"]], seen.obs)
    assert np.array_equal(data["states"][data["next_index"]], seen.next_obs)
    assert np.array_equal(data["reward"], seen.reward)
    assert np.array_equal(data["terminated"], seen.discount == 0)
    start = data["episode_start"]
    assert {0, 40, 80, 120} <= set(start.tolist())  # a block's end cuts an episode
    ends = data["terminated"][start[1:] - 1]
    assert data["complete"].tolist() == ends.tolist()  # none lasted for 1,000 steps
    assert not data["complete"].all()
    assert data["complete"].any()


def test_the_end_of_the_actions_cuts_an_episode(tmp_path: Path) -> None:
    actions = np.zeros((3, 3), np.float32)
    data = replay(VectorEnv("Hopper-v5", 1), actions, 0, 40)
    assert data["complete"].tolist() == [False]
    assert not data["terminated"].any()
    obs, _ = make_env("Hopper-v5").reset(seed=collect_seed(0, 0, 0))
    assert np.array_equal(data["states"][0], obs.astype(np.float32))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder in which hopper's replay is 100 random steps."""
    folder = tmp_path / "policies"
    shutil.copytree(ROOT / "offrl" / "policies", folder)
    monkeypatch.setattr(package, "files", lambda _: tmp_path)
    actions = 2 * torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) - 1
    path = folder / "hopper-replay.safetensors"
    save_tensors(path, {module.NAME: actions}, {})
    record = json.loads((folder / "hopper.json").read_text())
    data = replay(VectorEnv("Hopper-v5", 1), actions.numpy(), 0, 5000)
    record["replay"] = {"sha256": sha256_file(path), "steps": 100, **module.summary(data)}
    (folder / "hopper.json").write_text(json.dumps(record))
    return folder


def test_as_a_dataset(toy: Path, tmp_path: Path) -> None:
    data = own_dataset("hopper", REPLAY, None, tmp_path / "cache")
    assert len(data) == 100
    assert data.id == "offrl/hopper/medium-replay-v0"
    assert data.digest == own_dataset("hopper", REPLAY, None, tmp_path / "other").digest
    assert cell("dataset=offrl/medium-replay").config["dataset"]["n_transitions"] is None


def test_what_does_not_fit(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"n_transitions=50: .*buffer_size"):
        own_dataset("hopper", REPLAY, 50, tmp_path)
    with pytest.raises(UserError, match="n_transitions=None: must be at least 1"):
        own_dataset("hopper", "medium", None, tmp_path)
    record = json.loads((toy / "hopper.json").read_text())
    for key, value in (("return_mean", 1.01), ("episodes", 2)):
        wrong = record["replay"] | {key: record["replay"][key] * value}
        (toy / "hopper.json").write_text(json.dumps(record | {"replay": wrong}))
        with pytest.raises(UserError, match="hopper/medium-replay: this machine's simulator"):
            own_dataset("hopper", REPLAY, None, tmp_path)
    (toy / "hopper.json").write_text(json.dumps(record))
    shutil.copy(toy / "walker2d-replay.safetensors", toy / "hopper-replay.safetensors")
    with pytest.raises(UserError, match=r"hopper-replay\.safetensors: not the file"):
        own_dataset("hopper", REPLAY, None, tmp_path)
    del record["replay"]
    (toy / "hopper.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="quality=medium-replay: hopper has random"):
        cell("dataset=offrl/medium-replay")
    assert not any((tmp_path / d).exists() for d in ("index",))


@pytest.mark.full
@pytest.mark.parametrize("robot", ["halfcheetah", "hopper", "walker2d"])
def test_the_replays_of_the_package(robot: str, tmp_path: Path) -> None:
    record = behaviour_record(robot)
    path = ROOT / "offrl" / "policies" / f"{robot}-replay.safetensors"
    assert path.stat().st_size < 5_000_000
    data = own_dataset(robot, REPLAY, None, tmp_path)
    steps = record["policies"]["medium"]["step"]
    assert len(data) == record["replay"]["steps"] == steps
    returns = data.episode_returns()
    assert returns.mean() < record["policies"]["medium"]["return_mean"]  # it was still learning
    half = len(returns) // 2
    assert returns[:half].mean() < returns[half:].mean()
