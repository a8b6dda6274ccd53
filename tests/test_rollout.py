"""The suite's own data: rolled out on demand, the same every time, and consistent."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import ROOT, cell
from numpy.typing import NDArray

from offrl.checkpoint import load_tensors, save_tensors
from offrl.data import package, rollout
from offrl.data.dataset import Dataset
from offrl.data.digest import sha256_file
from offrl.data.package import behaviour_record
from offrl.data.rollout import ACTIONS, GRID, VERSION, behaviour, own_dataset, roll_out
from offrl.data.rows import Rows, columns, concatenate
from offrl.envs.vector import VectorEnv, env_spec, make_env
from offrl.errors import UserError
from offrl.evaluate import CHUNK
from offrl.rng import address_seed, generator

POLICIES = ROOT / "offrl" / "policies"
N = 2100  # at least two whole episodes and a piece


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rollouts")


@pytest.fixture(scope="module")
def medium(cache: Path) -> Dataset:
    return own_dataset("hopper", "medium", N, cache)


COLUMNS = (
    *("states", "index", "next_index", "action", "reward", "terminated"),
    *("episode_start", "complete", "episode_return"),
)


def digest(data: Dataset) -> str:
    h = hashlib.sha256()
    for name in COLUMNS:
        h.update(getattr(data, name).tobytes())
    return h.hexdigest()


def test_it_is_the_same_every_time(medium: Dataset, tmp_path: Path) -> None:
    again = own_dataset("hopper", "medium", N, tmp_path)
    assert again.digest == medium.digest
    assert digest(again) == digest(medium)
    assert again.id == f"offrl/hopper/medium-{VERSION}"


def test_it_is_made_once(medium: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "roll_out", None)
    assert digest(own_dataset("hopper", "medium", N, cache)) == digest(medium)


def test_the_columns_are_consistent(medium: Dataset) -> None:
    assert len(medium) == N
    start, length = medium.episode_start, np.diff(medium.episode_start)
    assert (length[:-1] > 1).all()
    assert medium.complete.tolist() == [True] * (medium.n_episodes - 1) + [False]
    assert len(medium.states) == N + medium.n_episodes  # every episode keeps its final state
    assert (medium.next_index == medium.index + 1).all()
    inner = np.ones(N, np.bool_)
    inner[start[1:] - 1] = False
    assert (medium.index[1:] == medium.next_index[:-1])[inner[:-1]].all()
    assert not medium.terminated[inner].any()
    for e in range(medium.n_episodes - 1):
        assert medium.terminated[start[e + 1] - 1] == (length[e] < 1000)
    assert not medium.terminated[-1]  # the last episode is cut, which is no end
    assert np.abs(medium.action).max() <= 1


@pytest.mark.parametrize("e", [0, 1, -2])
def test_an_episode_can_be_stepped_again(medium: Dataset, e: int) -> None:
    """The simulator, started and acted on as recorded, gives what was recorded."""
    e %= medium.n_episodes
    env = make_env("Hopper-v5")
    obs, _ = env.reset(seed=address_seed("rollout", "hopper", "medium", VERSION, "start", e))
    total, terminated = 0.0, False
    for i in range(medium.episode_start[e], medium.episode_start[e + 1]):
        np.testing.assert_array_equal(medium.states[medium.index[i]], obs.astype(np.float32))
        assert not terminated
        obs, reward, terminated, truncated, _ = env.step(medium.action[i])
        np.testing.assert_array_equal(medium.states[medium.next_index[i]], obs.astype(np.float32))
        assert medium.reward[i] == np.float32(reward)
        assert medium.terminated[i] == terminated
        total += float(reward)
    assert terminated or truncated
    assert medium.episode_return[e] == pytest.approx(total, rel=1e-12)


def test_the_actions_are_those_of_the_policy(medium: Dataset) -> None:
    """Of the exploring one, with the noise of the episode's address."""
    policy = behaviour("hopper", "medium")
    noise = torch.randn(1000, 3, generator=generator("rollout", "hopper", "medium", VERSION, 0))
    obs = torch.zeros(CHUNK, 11)
    for t in range(10):
        obs[0] = torch.from_numpy(medium.states[medium.index[t]].copy())
        action = policy(obs, noise[t].expand(CHUNK, 3))[0].numpy()
        np.testing.assert_allclose(medium.action[t], action, atol=2e-5)


def test_a_larger_set_begins_like_a_smaller_one(medium: Dataset, tmp_path: Path) -> None:
    small = own_dataset("hopper", "medium", 500, tmp_path)
    np.testing.assert_array_equal(small.action, medium.action[:500])
    np.testing.assert_array_equal(small.states[small.index], medium.states[medium.index[:500]])
    assert small.digest != medium.digest


def test_mixed_data_is_half_of_each(cache: Path) -> None:
    n = 301
    mixed = own_dataset("hopper", "random-medium", n, cache)  # an expert would take long
    parts = [own_dataset("hopper", q, k, cache) for q, k in (("random", 150), ("medium", 151))]
    assert len(mixed) == n
    assert mixed.n_episodes == sum(p.n_episodes for p in parts)
    at = 0
    for p in parts:
        rows = slice(at, at + len(p))
        np.testing.assert_array_equal(mixed.action[rows], p.action)
        np.testing.assert_array_equal(mixed.states[mixed.index[rows]], p.states[p.index])
        np.testing.assert_array_equal(mixed.states[mixed.next_index[rows]], p.states[p.next_index])
        at += len(p)
    assert mixed.episode_start[-1] == n
    assert mixed.episode_return.tolist() == [x for p in parts for x in p.episode_return]
    with pytest.raises(UserError, match="n_transitions=1: must be at least 2"):
        own_dataset("hopper", "medium-expert", 1, cache)


def test_many_episodes_of_a_task_that_never_terminates() -> None:
    """More than run at once: each is another one, and all end by the time limit."""
    env = VectorEnv("Pendulum-v1", CHUNK)
    got = roll_out(lambda obs, noise: noise.clamp(-2, 2), env, ("pendulum",), CHUNK * 200 + 1)
    env.close()
    assert len(got) == 2 * CHUNK
    assert [len(e.action) for e in got] == [200] * len(got)
    assert not any(e.terminated for e in got)
    assert len({e.obs[0].tobytes() for e in got}) == len({e.action.tobytes() for e in got})
    assert len({e.action.tobytes() for e in got}) == len(got)


@pytest.mark.parametrize("robot", ["halfcheetah", "hopper", "walker2d"])
def test_every_policy_can_be_used(robot: str) -> None:
    env = env_spec(behaviour_record(robot)["env_id"])
    noise = torch.zeros(CHUNK, env.action_dim)
    for quality in behaviour_record(robot)["policies"]:
        action = behaviour(robot, quality)(torch.ones(CHUNK, *env.obs_shape), noise)
        assert action.shape == noise.shape
        assert action.abs().max() <= env.max_action


def rows(length: int, start: float, terminated: bool) -> Rows:
    values: NDArray[np.float32] = start + np.arange(length + 1, dtype=np.float32)
    reward = np.ones(length, np.float32)
    return Rows(values[:, None], values[:-1, None], reward, terminated, float(length))


@pytest.mark.parametrize(
    ("n", "complete", "terminated"),
    [
        (7, [True, True, True], [2, 6]),  # exactly to an end
        (5, [True, True], [2]),  # to the end of a time-out
        (6, [True, True, False], [2]),  # the last is cut
        (2, [False], []),
    ],
)
def test_columns(n: int, complete: list[bool], terminated: list[int]) -> None:
    got = columns([rows(3, 0, True), rows(2, 10, False), rows(2, 20, True)], n)
    assert got["complete"].tolist() == complete
    assert np.flatnonzero(got["terminated"]).tolist() == terminated
    states = got["states"][:, 0]
    assert states[got["index"]].tolist() == [0, 1, 2, 10, 11, 20, 21][:n]
    assert states[got["next_index"]].tolist() == [1, 2, 3, 11, 12, 21, 22][:n]
    assert got["action"][:, 0].tolist() == [0, 1, 2, 10, 11, 20, 21][:n]
    both = concatenate([got, got])
    assert both["episode_start"][-1] == 2 * n
    twice = [*states[got["next_index"]]] * 2
    assert both["states"][:, 0][both["next_index"]].tolist() == twice


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's policies, to be damaged."""
    shutil.copytree(POLICIES, tmp_path / "policies")
    monkeypatch.setattr(package, "files", lambda _: tmp_path)
    return tmp_path / "policies"


def test_an_altered_policy_is_refused(policies: Path, tmp_path: Path) -> None:
    shutil.copy(policies / "hopper-expert.safetensors", policies / "hopper-medium.safetensors")
    with pytest.raises(UserError, match=r"hopper-medium\.safetensors.*hopper\.json"):
        own_dataset("hopper", "medium", 10, tmp_path / "cache")
    (policies / "hopper-random.safetensors").write_bytes(b"not a policy")
    with pytest.raises(UserError, match=r"hopper-random\.safetensors"):
        own_dataset("hopper", "random", 10, tmp_path / "cache")
    (policies / "hopper-expert.safetensors").unlink()
    with pytest.raises(UserError, match=r"hopper-expert\.safetensors"):
        own_dataset("hopper", "expert", 10, tmp_path / "cache")


def test_kept_actions_give_what_the_policy_gave(
    policies: Path, medium: Dataset, tmp_path: Path
) -> None:
    """Until rounding parts them: float32 policies, when the actions were kept; a grid here."""
    record = json.loads((policies / "hopper.json").read_text())
    del record["policies"]["medium"][ACTIONS]
    (policies / "hopper.json").write_text(json.dumps(record))
    rolled = own_dataset("hopper", "medium", N, tmp_path / "cache")
    np.testing.assert_allclose(rolled.action[:10], medium.action[:10], atol=1e-3)
    steps = rolled.action.astype(np.float64) * GRID
    np.testing.assert_array_equal(steps, steps.round())
    assert (rolled.action != medium.action).any()


def test_more_than_what_is_kept_goes_on_where_it_ends(
    policies: Path, medium: Dataset, tmp_path: Path
) -> None:
    path = policies / "hopper-medium-actions-v0.safetensors"
    kept, metadata = load_tensors(path)
    n = int(kept["lengths"][:2].sum())
    few = {"actions": kept["actions"][:n]} | {k: kept[k][:2] for k in ("lengths", "returns")}
    keep(policies, few, metadata)
    more = own_dataset("hopper", "medium", N, tmp_path / "cache")
    np.testing.assert_array_equal(more.action[:n], medium.action[:n])
    np.testing.assert_allclose(more.action[n : n + 10], medium.action[n : n + 10], atol=1e-3)
    assert (more.action[n:] != medium.action[n:]).any()


def keep(policies: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    path = policies / "hopper-medium-actions-v0.safetensors"
    save_tensors(path, tensors, metadata)
    record = json.loads((policies / "hopper.json").read_text())
    record["policies"]["medium"][ACTIONS] = sha256_file(path)
    (policies / "hopper.json").write_text(json.dumps(record))


def test_a_simulator_that_does_not_repeat_them(
    policies: Path, medium: Dataset, tmp_path: Path
) -> None:
    """One return is another: nothing kept is used."""
    kept, metadata = load_tensors(policies / "hopper-medium-actions-v0.safetensors")
    other, longer = kept["returns"].clone(), kept["lengths"].clone()
    other[1] += 1e-9
    longer[0] += 1
    for i, change in enumerate(({"returns": other}, {"lengths": longer})):
        keep(policies, kept | change, metadata)
        for _ in ("made", "from the cache"):
            with pytest.warns(UserWarning, match="hopper/medium: this machine's simulator does n"):
                rolled = own_dataset("hopper", "medium", N, tmp_path / str(i))
        assert len(rolled) == N
        first = int(kept["lengths"][0])  # an episode that is repeated, before the one that is not
        assert (rolled.action[:first] != medium.action[:first]).any()


def test_an_altered_file_of_actions_is_refused(policies: Path, tmp_path: Path) -> None:
    name = "hopper-medium-actions-v0.safetensors"
    shutil.copy(policies / "walker2d-medium-actions-v0.safetensors", policies / name)
    with pytest.raises(UserError, match=r"hopper-medium-actions-v0\.safetensors.*hopper\.json"):
        own_dataset("hopper", "medium", 10, tmp_path / "cache")


ROLL_OUT = """
from pathlib import Path
import torch
from offrl.data.rollout import own_dataset
x = torch.randn(16, 256, generator=torch.Generator().manual_seed(0))
data = own_dataset("hopper", "random", 2000, Path("cache"))
print((x @ x.T).numpy().tobytes().hex(), data.digest)
"""


def test_the_rounding_of_products_does_not_show(tmp_path: Path) -> None:
    """Other kernels of MKL sum in another order, as on another processor."""
    products, digests = set(), set()
    for i, kernels in enumerate(({}, {"MKL_CBWR": "COMPATIBLE"})):
        out = tmp_path / str(i)
        out.mkdir()
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | kernels
        command = [sys.executable, "-c", ROLL_OUT]
        product, digest = subprocess.check_output(command, cwd=out, env=environment).split()
        products.add(product)
        digests.add(digest)
    if len(products) == 1:
        pytest.skip("torch multiplies without MKL, or in one order on this machine")
    assert len(digests) == 1


@pytest.mark.full
def test_the_published_runs_are_on_the_data_that_is_made_here(tmp_path: Path) -> None:
    published = set()
    for path in (ROOT / "results").glob("*/runs.jsonl"):
        for line in path.read_text().splitlines():
            run = json.loads(line)
            config = run["config"]["dataset"]
            if config["source"] == "offrl":
                of = run["config"]["env"]["name"], config["quality"], config["n_transitions"]
                published.add((*of, run["dataset"]["digest"]))
    assert len(published) >= 9
    for robot, quality, n, digest in sorted(published, key=str):
        assert own_dataset(robot, quality, n, tmp_path).digest == digest, (robot, quality, n)


def test_what_there_is_not(policies: Path) -> None:
    record = json.loads((policies / "hopper.json").read_text())
    del record["policies"]["expert"]
    (policies / "hopper.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="quality=medium-expert: hopper has random, medium"):
        cell("dataset=offrl/medium-expert")
    (policies / "hopper.json").unlink()
    with pytest.raises(UserError, match="env=hopper"):
        cell("dataset=offrl/medium")
