"""Online training for behaviour policies: it resumes in every bit, and ends in committed files."""

import json
import runpy
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import ROOT, killed_at_write

from offrl import behaviour, compiler, engine
from offrl.algos.sac import SAC
from offrl.checkpoint import load_tensors
from offrl.claim import claim
from offrl.data.digest import sha256_file
from offrl.data.rollout import exploring
from offrl.envs.vector import VectorEnv, env_spec
from offrl.errors import UserError
from offrl.evaluate import CHUNK, evaluate
from offrl.online import Online, policy_path
from offrl.types import Spec


def online(out: Path, env_id: str = "Hopper-v5") -> Online:
    env = env_spec(env_id)
    spec = Spec(env.obs_shape, env.action_dim, env.max_action, 8)
    algo = SAC(spec, 0.005, 3e-4, 3e-4, 3e-4, 1.0, (16, 16))
    return Online(
        algo=algo,
        env_id=env_id,
        make_env=partial(VectorEnv, env_id),
        make_eval_env=partial(VectorEnv, env_id),
        gamma=0.99,
        n_step=1,
        seed=0,
        train_steps=120,
        start_steps=20,
        n_envs=1,
        steps_per_update=1,
        capacity=1_000_000,
        eval_every=40,
        eval_episodes=2,
        out=out,
        compile=False,
    )


def left(out: Path) -> dict[str, bytes]:
    files = [out / "eval.csv", out / "train.csv", *sorted((out / "policies").iterdir())]
    return {p.name: p.read_bytes() for p in files}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(UserError, match="another process"):
        online(tmp_path).train(quiet)


def quiet(*_: float) -> None:
    pass


def test_it_resumes_in_every_bit(tmp_path: Path) -> None:
    """Killed at each of its writes in turn: rows, policies, checkpoints."""
    whole = online(tmp_path / "whole")
    whole.train(quiet)
    expected = left(whole.out)
    steps = [0, 40, 80, 120]
    assert [n for n in expected if n.endswith("safetensors")] == [
        policy_path(Path(), s).name for s in steps
    ]
    assert len(set(expected.values())) == len(expected)

    killed, n = online(tmp_path / "killed"), 0
    while killed_at_write(lambda: killed.train(quiet), 2 + n % 6):
        n += 1
        assert n < 50
    assert n >= 5
    assert left(killed.out) == expected


def test_a_longer_training_begins_like_a_shorter_one(tmp_path: Path) -> None:
    short = replace(online(tmp_path / "o"), train_steps=40)
    short.train(quiet)
    online(tmp_path / "o").train(quiet)
    online(tmp_path / "whole").train(quiet)
    assert left(tmp_path / "o") == left(tmp_path / "whole")


def test_other_settings_are_refused(tmp_path: Path) -> None:
    run = online(tmp_path)
    replace(run, train_steps=40).train(quiet)
    before = left(tmp_path)
    with pytest.raises(UserError, match=r"seed: 0 -> 1.*another out"):
        replace(run, seed=1).train(quiet)
    with pytest.raises(UserError, match=r"algo\.tau: 0\.005 -> 0\.5"):
        replace(run, algo=replace(run.algo, tau=0.5)).train(quiet)
    with pytest.raises(UserError, match=r"atari: absent -> \{'sticky_actions': 0\.25\}"):
        replace(run, games={"atari": {"sticky_actions": 0.25}}).train(quiet)
    assert left(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_steps": 1e6}, "train_steps=1000000.0: must be a whole number, at least 0"),
        ({"n_step": 0}, "n_step=0: must be a whole number, at least 1"),
        ({"train_steps": 100}, "train_steps=100: must be a multiple of eval_every=40"),
        ({"start_steps": 1, "n_step": 3}, "start_steps=1: must be at least 2"),
    ],
)
def test_settings_without_sense(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        replace(online(tmp_path), **changes)


def test_a_replay_that_goes_otherwise_is_not_published(tmp_path: Path) -> None:
    run = online(tmp_path)
    run.train(quiet)
    path = tmp_path / "replay.safetensors"
    assert behaviour.publish_replay(run, path, 120)["steps"] == 120
    path.unlink()
    with pytest.raises(UserError, match="give other rewards"):
        behaviour.publish_replay(replace(run, eval_every=60), path, 120)
    assert not path.exists()


def collect(monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    """benchmarks/collect.py, in this process."""
    path = ROOT / "benchmarks" / "collect.py"
    monkeypatch.setattr(sys, "argv", [str(path), *args])
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as e:
        return e.code
    return 0


COLLECT = (
    *("env=hopper", "train_steps=120", "start_steps=20", "eval_every=40", "eval_episodes=2"),
    *("batch_size=8", "algo.hidden=[16,16]", "compile=false"),
)


def test_collect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert collect(monkeypatch, *COLLECT, "out=o") == 0
    out, err = capsys.readouterr()
    assert out == "o\n"
    assert [line.split(":")[0] for line in err.splitlines()] == ["step 40", "step 80", "step 120"]
    online(tmp_path / "direct").train(quiet)
    assert left(tmp_path / "o") == left(tmp_path / "direct")  # the config is the same as above
    assert sorted(p.name for p in tmp_path.iterdir()) == ["direct", "o"]

    code = collect(monkeypatch, *COLLECT, "out=o", "seed=1")
    assert "seed: 0 -> 1" in str(code)


@pytest.mark.parametrize("wrong", ["publish=no", "compile=off"])
def test_no_is_not_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """To Hydra it is a text; policies would be published that were not meant to be."""
    monkeypatch.chdir(tmp_path)
    code = collect(monkeypatch, *COLLECT, "out=o", wrong)
    assert code == f"offrl: {wrong}: must be true or false"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("n_steps=100.7", "out=o"), "n_steps=100.7: must be a whole number, at least 0"),
        (("n_steps=-5", "out=o"), "n_steps=-5: must be a whole number, at least 0"),
        (("epsilon=abc", "out=o"), "epsilon=abc: must lie in [0, 1]"),
        (("epsilon=2", "out=o"), "epsilon=2: must lie in [0, 1]"),
        ((), "out: no value; set out=..."),
    ],
)
def test_what_cannot_be_gathered_is_not_trained_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert collect(monkeypatch, "env=pong", "algo=qrdqn", *wrong) == f"offrl: {said}"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_a_training_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations = []

    def pressed_in_the_second(*args: Any) -> Any:
        evaluations.append(args)
        if len(evaluations) == 2:
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as m:
        m.setattr("offrl.online.evaluate", pressed_in_the_second)
        said = collect(monkeypatch, *COLLECT, "out=o")
    assert said == "offrl: stopped; the same command goes on"
    assert collect(monkeypatch, *COLLECT, "out=o") == 0
    online(tmp_path / "direct").train(quiet)
    assert left(tmp_path / "o") == left(tmp_path / "direct")


def test_collect_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It trains eagerly and says so, as train.py does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compiler, "HAS_COMPILER", False)

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("it was compiled")

    monkeypatch.setattr(engine, "compiled", unwanted)
    assert collect(monkeypatch, *COLLECT, "compile=true", "out=o") == 0
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("compile=true: no C++ compiler was found")
    assert json.loads((tmp_path / "o" / "settings.json").read_text())["compile"] is False
    assert collect(monkeypatch, *COLLECT, "out=o") == 0  # the same training


def test_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a repository of its own.  These policies have all learnt nothing."""
    run = online(tmp_path / "o")
    run.train(quiet)
    (tmp_path / "repository" / "offrl" / "policies").mkdir(parents=True)
    config: dict[str, Any] = {
        "algo": {"name": "sac"},
        "env": {},
        "out": "/somewhere",
        "seed": 0,
        "threads": 1,
        "compile": False,
    }
    said: list[str] = []
    monkeypatch.setattr(behaviour, "MEDIUM", (100.0, 200.0))
    with pytest.raises(UserError, match="none of the ten likeliest policies"):
        behaviour.publish(run, config, "toy", tmp_path / "repository", said.append)
    folder = tmp_path / "repository" / "offrl" / "policies"
    assert list(folder.iterdir()) == []

    monkeypatch.setattr(behaviour, "MEDIUM", (0.0, 10.0))
    # the best one is the last: there must be others before it to choose from
    header = "seed,step,episode,return,length,score\n"
    rows = [f"0,{step},0,{step},9,{step}\n" for step in (40, 80, 120)]
    (run.out / "eval.csv").write_text(header + "".join(rows))
    monkeypatch.setattr(behaviour, "SHORTLIST", 1)
    (folder / "toy-medium-actions-v0.safetensors").touch()  # of policies that were there before
    behaviour.publish(run, config, "toy", tmp_path / "repository", said.append)
    assert not list(folder.glob("*actions*"))
    record = json.loads((folder / "toy.json").read_text())
    assert record["policies"]["random"]["step"] == 0
    assert record["policies"]["expert"]["step"] == 120
    assert record["policies"]["medium"]["step"] in (40, 80)
    assert record["trained_steps"] == 120
    assert record["training"] == {"seed": 0, "threads": 1, "compile": False}
    assert record["reference"]["max"] == record["policies"]["expert"]["return_mean"]
    for quality, entry in record["policies"].items():
        path = folder / f"toy-{quality}.safetensors"
        assert entry["sha256"] == sha256_file(path)
        assert entry["fresh_episodes"] == 100
        assert entry["return_min"] <= entry["return_mean"] <= entry["return_max"]
    assert any("step 120" in s for s in said)
    assert record["replay"]["sha256"] == sha256_file(folder / "toy-replay.safetensors")
    assert record["replay"]["steps"] == record["policies"]["medium"]["step"]
    assert record["replay"]["episodes"] > 0


def test_exploring_acts_with_the_weights_that_it_is_given(tmp_path: Path) -> None:
    run = online(tmp_path)
    replace(run, train_steps=40).train(quiet)
    tensors, _ = load_tensors(policy_path(run.out, 40))
    env = VectorEnv("Hopper-v5", 1)
    obs = torch.from_numpy(env.reset(0, 0)).expand(CHUNK, -1)
    noise = torch.zeros(CHUNK, 3)
    trained = exploring(run.algo, tensors)(obs, noise)
    untrained = exploring(run.algo, load_tensors(policy_path(run.out, 0))[0])(obs, noise)
    assert (trained != untrained).any()
