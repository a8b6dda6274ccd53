"""Policies out of a run directory, and benchmarks/evaluate.py: exactly what the run evaluated."""

import csv
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from harness import (
    ROOT,
    SMALL_NET,
    Finished,
    cell,
    complete,
    interrupted,
    manifest,
    tiny,
)

import offrl
from offrl.data.dataset import Dataset
from offrl.data.normalise import Normaliser
from offrl.envs.vector import VectorEnv, make_env
from offrl.errors import UserError
from offrl.evaluate import CHUNK, evaluate, start_seed
from offrl.policy import load_policies

EVALUATE = ROOT / "benchmarks" / "evaluate.py"
Evaluate = Callable[..., Finished]


@pytest.fixture(scope="module")
def run_dir(hopper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of td3_bc with normalised observations, evaluated on 3 episodes."""
    args = ("algo=td3_bc", "seeds=[0,5]", "norm_obs=true", "eval_episodes=3")
    return complete(tiny(hopper, tmp_path_factory.mktemp("policy"), *args))


@pytest.fixture
def run_evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    def command(*args: object) -> Finished:
        monkeypatch.setattr(sys, "argv", [str(EVALUATE), *map(str, args)])
        code: object = 0
        try:
            runpy.run_path(str(EVALUATE), run_name="__main__")
        except SystemExit as e:
            code = e.code or 0
        out, err = capsys.readouterr()
        # a text as exit code is printed to stderr by the interpreter, and means 1
        return Finished(int(code != 0), out, f"{err}{code}" if isinstance(code, str) else err)

    return command


def recorded(run_dir: Path) -> dict[int, list[tuple[float, int, float]]]:
    """(return, length, score) of each seed's last evaluation."""
    with (run_dir / "eval.csv").open() as f:
        rows = list(csv.DictReader(f))
    last = max(int(r["step"]) for r in rows)
    found: dict[int, list[tuple[float, int, float]]] = {}
    for r in rows:
        if int(r["step"]) == last:
            values = float(r["return"]), int(r["length"]), float(r["score"])
            found.setdefault(int(r["seed"]), []).append(values)
    return found


def test_it_gives_back_exactly_what_the_run_recorded(run_dir: Path) -> None:
    expected = recorded(run_dir)
    assert {s: len(x) for s, x in expected.items()} == {0: 3, 5: 3}
    for seed, episodes in expected.items():
        policy = offrl.load_policy(run_dir, seed)
        for n, at_once in ((3, 3), (20, 4)):  # also as the first ones of more
            got = evaluate(policy, VectorEnv("Hopper-v4", at_once), n)
            assert [(e.return_, e.length) for e in got[:3]] == [x[:2] for x in episodes]


def test_a_policy_that_draws_gives_back_what_the_run_recorded(
    hopper: Path, tmp_path: Path, run_evaluate: Evaluate
) -> None:
    """BCQ acts with noise: it is that of the seed and of the step of the evaluation."""
    run_dir = complete(tiny(hopper, tmp_path, "algo=bcq", "seeds=[0,5]"))
    lines = run_evaluate(run_dir).out.splitlines()
    for (seed, episodes), line in zip(recorded(run_dir).items(), lines[1:3], strict=True):
        mean, std = np.mean(x := [e[0] for e in episodes]), np.std(x)
        assert re.match(rf"seed {seed} +return +{mean:.3f} \+- +{std:.3f} ", line), line
    policy = offrl.load_policy(run_dir, 5)
    obs = np.ones((7, 11), np.float32)
    torch.manual_seed(0)
    drawn, again = policy.predict(obs), policy.predict(obs)
    torch.manual_seed(0)
    noise = torch.randn(7, policy.algo.act_noise_dim)
    np.testing.assert_array_equal(drawn, policy(torch.from_numpy(obs), noise).detach().numpy())
    assert (drawn != again).any()


def test_it_takes_raw_observations(run_dir: Path) -> None:
    """One after another by hand, the normaliser taken from the manifest."""
    policies, step = load_policies(run_dir)
    assert step == 40
    n = manifest(run_dir)["normaliser"]
    mean, std = np.float32(n["mean"]), np.float32(n["std"])
    env = make_env("Hopper-v4")
    raw = np.stack([env.reset(seed=start_seed(k))[0] for k in range(4)])
    for policy in policies.values():
        x = torch.from_numpy(((raw.astype(np.float32) - mean) / std).astype(np.float32))
        expected = policy.algo.act(policy.state, x, torch.zeros(4, 3)).numpy()
        np.testing.assert_allclose(policy.predict(raw), expected, rtol=1e-5, atol=1e-6)
        one = policy.predict(raw[2])
        assert one.shape == (3,)
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, expected[2], rtol=1e-5, atol=1e-6)
    assert (policies[0].predict(raw) != policies[5].predict(raw)).all()


def test_the_normaliser_is_that_of_the_data(run_dir: Path, hopper: Path) -> None:
    data: Dataset = (c := tiny(hopper, run_dir.parent)).source.open(c.env)
    fitted = Normaliser.fit(data.states, data.index)
    loaded = offrl.load_policy(run_dir, 0).normaliser
    assert loaded is not None
    assert torch.equal(loaded.mean, fitted.mean)
    assert torch.equal(loaded.std, fitted.std)


def test_a_second_process_gives_the_same(run_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy, torch, offrl; torch.set_num_threads(1);"
        "numpy.save(sys.argv[2], offrl.load_policy(sys.argv[1], 5).predict(numpy.ones((7, 11))))"
    )
    command = [sys.executable, "-c", code, str(run_dir), str(tmp_path / "a.npy")]
    subprocess.run(command, check=True, cwd=ROOT)
    here = offrl.load_policy(str(run_dir), 5).predict(np.ones((7, 11)))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), here)


def test_which_seed(run_dir: Path, hopper: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seed=None: the run has seeds \[0, 5\]"):
        offrl.load_policy(run_dir)
    with pytest.raises(UserError, match=r"seed=1: the run has seeds \[0, 5\]"):
        offrl.load_policy(run_dir, 1)
    one = complete(tiny(hopper, tmp_path))
    assert offrl.load_policy(one).normaliser is None


def test_no_policy_yet(hopper: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="manifest"):
        offrl.load_policy(tmp_path)
    run_dir = interrupted(tiny(hopper, tmp_path), 2)
    with pytest.raises(UserError, match="first evaluation"):
        offrl.load_policy(run_dir)


def test_a_damaged_policy(hopper: Path, tmp_path: Path) -> None:
    run_dir = complete(tiny(hopper, tmp_path))
    path = run_dir / "policy.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="checksum"):
        offrl.load_policy(run_dir)
    data[-1] ^= 1
    path.write_bytes(data)
    for text in ("[]", '{"config": {}}'):
        (run_dir / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=r"manifest\.json: not the manifest of a run"):
            offrl.load_policy(run_dir)


def test_evaluate_prints_the_recorded_numbers(run_dir: Path, run_evaluate: Evaluate) -> None:
    done = run_evaluate(run_dir)
    assert (done.code, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head == f"{run_dir.name}: step 40, Hopper-v4, score: d4rl"
    expected = recorded(run_dir)
    everything = [x for episodes in expected.values() for x in episodes]
    for line, (name, episodes) in zip(
        lines, [*((f"seed {s}", x) for s, x in expected.items()), ("all", everything)], strict=True
    ):
        returns, scores = (np.array([e[i] for e in episodes]) for i in (0, 2))
        assert line.split() == [
            *(*name.split(), "return", f"{returns.mean():.3f}", "+-", f"{returns.std():.3f}"),
            *("score", f"{scores.mean():.3f}", "+-", f"{scores.std():.3f}"),
            *("n", "=", str(len(episodes))),
        ]


def test_evaluate_more_episodes(run_dir: Path, run_evaluate: Evaluate) -> None:
    done = run_evaluate(run_dir, "episodes=20")
    assert [line.split()[-1] for line in done.out.splitlines()[1:]] == ["20", "20", "40"]
    policies, _ = load_policies(run_dir)
    returns = [e.return_ for e in evaluate(policies[0], VectorEnv("Hopper-v4", CHUNK), 20)]
    assert f"{np.mean(returns):.3f}" in done.out.splitlines()[1]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "usage: python benchmarks/evaluate.py RUN_DIR"),
        (["RUN", "episode=3"], "episode: unknown option"),
        (["RUN", "episodes=0"], "episodes=0: must be a whole number"),
        (["RUN", "episodes=1e2"], "episodes=1e2: must be a whole number"),
        (["RUN", "video=x.mp4"], "video=x.mp4: only .gif"),
        (["nowhere"], "nowhere/manifest.json: cannot be read"),
        (["runs/alpha=1/bc"], "runs/alpha=1/bc/manifest.json: cannot be read"),
    ],
)
def test_evaluate_bad_arguments(
    run_dir: Path, run_evaluate: Evaluate, args: list[str], words: str
) -> None:
    done = run_evaluate(*[run_dir if a == "RUN" else a for a in args])
    assert done.code == 1
    assert words in done.err
    assert done.err.count("\n") == 0
    assert done.out == ""


def test_evaluate_help_and_errors_of_the_real_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EVALUATE), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"evaluate: {tmp_path}/manifest.json: cannot be read: No such file or directory\n"
    )


def test_ctrl_c_in_evaluate(
    run_dir: Path, run_evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("offrl.evaluate.evaluate", pressed)
    done = run_evaluate(run_dir)
    assert (done.code, done.err) == (1, "evaluate: stopped")


@pytest.mark.full
def test_evaluate_video(run_dir: Path, run_evaluate: Evaluate, tmp_path: Path) -> None:
    done = run_evaluate(run_dir, f"video={tmp_path / 'x.gif'}")
    if "cannot be rendered" in done.err:
        pytest.skip(done.err)
    assert done.code == 0, done.err
    frames = imageio.imread(tmp_path / "x.gif")
    length = recorded(run_dir)[0][0][1]
    assert frames.shape == ((length + 1) // 2, 240, 240, 3)
    assert frames[0].std() > 10  # a picture
    assert (frames[0] != frames[-1]).any()
    blocked = run_evaluate(run_dir, f"video={tmp_path / 'no' / 'x.gif'}")
    assert blocked.code == 1
    assert "x.gif: cannot be written" in blocked.err


def test_a_policy_of_the_suites_own_data(tmp_path: Path) -> None:
    """-v5 and references of its own."""
    c = cell(
        *("algo=bc", "dataset=offrl/medium", "dataset.n_transitions=500", "n_updates=4"),
        *("eval_every=4", "eval_episodes=1", SMALL_NET, f"out={tmp_path}"),
    )
    run_dir = complete(c)
    (episode,) = evaluate(offrl.load_policy(run_dir), VectorEnv("Hopper-v5", 1), 1)
    ((return_, length, score),) = recorded(run_dir)[0]
    assert (episode.return_, episode.length) == (return_, length)
    ref = manifest(run_dir)["score"]
    expected = 100 * (return_ - ref["ref_min"]) / (ref["ref_max"] - ref["ref_min"])
    assert score == pytest.approx(expected, rel=1e-12)
