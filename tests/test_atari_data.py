"""The suite's own Atari data, files of it, and what is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from atari_toys import SHORT_PONG, publish_policy, random_behaviour, write_pong
from harness import cell

from offrl.data import atari
from offrl.data.atari import Behaviour, as_evaluated, gather, human, own_games
from offrl.data.atari_file import read_meta, unpack_atari
from offrl.data.dataset import ScoreRef
from offrl.envs.atari import AtariVector, action_names
from offrl.envs.make import atari_settings, make_envs, spec_of
from offrl.errors import UserError
from offrl.plan import choices
from offrl.rng import address_seed
from offrl.sources import AtariFile, Game, Robot
from offrl.types import Spec

N = 130


@pytest.fixture(scope="module")
def pong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pong(tmp_path_factory.mktemp("pong") / "pong.npz", N)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An embedded policy, and an empty cache."""
    monkeypatch.setenv("OFFRL_DATA", str(tmp_path / "cache"))
    return publish_policy(tmp_path / "policies", monkeypatch)


def test_a_game_can_be_played_again_from_the_data(pong: Path, tmp_path: Path) -> None:
    data = unpack_atari(pong, "x", tmp_path)
    assert len(data) == N
    assert data.episode_start.tolist() == [0, 50, 100, 130]
    assert data.complete.tolist() == [True, True, False]
    env, one = AtariVector(SHORT_PONG, 1), np.ones(1, np.bool_)
    for k in range(3):
        obs = env.reset(0, address_seed("games", "pong", "v0", 5, "start", k))
        for i in range(data.episode_start[k], data.episode_start[k + 1]):
            assert np.array_equal(data.states[data.index[i]], obs)
            reward, terminated, _ = env.step_alive(data.action[i : i + 1], one)
            assert data.reward[i] == reward[0]
            assert data.terminated[i] == terminated[0]
            assert np.array_equal(data.states[data.next_index[i]], obs)
    assert not data.terminated.any()  # the frame limit truncates; nothing ends here


def test_epsilon_is_the_share_of_random_actions(tmp_path: Path) -> None:
    greedy = np.load(write_pong(tmp_path / "a", 60, epsilon=0.0))["action"]
    assert len(set(greedy.tolist())) == 1  # a network like that prefers one
    random = np.load(write_pong(tmp_path / "b", 400, epsilon=0.2))["action"]
    other = (random != greedy[0]).mean()
    assert 0.1 < other < 0.24  # 0.2 * 5 / 6, and five deviations of it


def test_everything_is_recorded(pong: Path) -> None:
    meta = read_meta(pong)
    assert meta["env"] == asdict(SHORT_PONG)
    assert meta["actions"] == list(action_names("pong"))
    assert (meta["epsilon"], meta["seed"], meta["n"]) == (0.2, 5, N)
    assert meta["policy_sha256"] == random_behaviour().sha256
    assert meta["numerics"]["ale-py"] != "absent"
    assert meta["algo"]["name"] == "qrdqn"


def test_more_data_begins_with_the_same_games(pong: Path, tmp_path: Path) -> None:
    more = np.load(write_pong(tmp_path / "more", 170))
    some = np.load(pong)
    assert np.array_equal(more["action"][:N], some["action"])
    assert np.array_equal(more["index"][:N], some["index"])
    other = np.load(write_pong(tmp_path / "other", N, seed=6))
    assert not np.array_equal(other["action"], some["action"])


def test_the_suites_own_data_is_played_once(
    published: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    first = own_games(SHORT_PONG, N, 0.2, 0, cache)
    assert (first.id, len(first)) == ("atari/pong/qrdqn-v0", N)
    assert len(list(cache.iterdir())) == 1  # the file that it was is gone
    monkeypatch.setattr(atari, "gather", None)
    assert own_games(SHORT_PONG, N, 0.2, 0, cache).digest == first.digest
    for changed in ((N + 1, 0.2, 0), (N, 0.3, 0), (N, 0.2, 1)):
        with pytest.raises(TypeError):
            own_games(SHORT_PONG, *changed, cache)


def test_sources_bind_data_environment_and_scale(published: dict[str, Any], pong: Path) -> None:
    own = "dataset=atari/qrdqn", "dataset.max_episode_steps=50", "n_updates=5000"
    c = cell("algo=discrete_bc", "env=pong", *own)
    task = c.source.task(c.env)
    assert task.env_id == "atari/pong"
    assert atari_settings(task.env) == SHORT_PONG
    assert task.score == ScoreRef("human", -20.7, 14.6)
    assert c.algo.spec.obs_shape == (4, 84, 84)
    assert c.config["env"] == {"name": "pong", "game": "pong"}
    assert c.config["dataset"]["id"] == "atari/pong/qrdqn-v0"
    assert c.config["dataset"]["epsilon"] == 0.2
    assert c.dirname.startswith("discrete_bc_pong_atari-qrdqn_")
    same = cell("algo=discrete_bc", "env=atari", "env.game=Pong", *own)
    assert same.run_id == c.run_id


@pytest.mark.usefixtures("published")
def test_every_discrete_algorithm_composes(pong: Path) -> None:
    file = f"dataset.path='{pong}'"
    ids = []
    for algo in (a for a in choices("algo") if a.startswith("discrete_")):
        for dataset in (("dataset=atari/qrdqn",), ("dataset=atari/file", file)):
            for size in ("null", 100000, 10000):
                c = cell(f"algo={algo}", "env=pong", *dataset, f"buffer_size={size}")
                assert c.algo.spec == Spec((4, 84, 84), 6, 0.0, c.settings.batch_size)
                ids.append(c.run_id)
    assert len(set(ids)) == len(ids) >= 5 * 2 * 3


@pytest.mark.parametrize(
    ("overrides", "weight"),
    [
        (("env=breakout", "buffer_size=null"), 20.0),  # there are 100,000
        (("env=breakout", "buffer_size=10000"), 10.0),
        (("env=breakout", "dataset.n_transitions=10000", "buffer_size=100000"), 10.0),
        (("env=pong", "dataset=atari/file", "buffer_size=null"), 10.0),
        (("env=pong", "dataset=atari/file", "buffer_size=10000"), 1.0),
    ],
)
def test_cqls_weight_is_that_of_as_many_transitions(
    pong: Path, overrides: tuple[str, ...], weight: float
) -> None:
    path = (f"dataset.path='{pong}'",) if "dataset=atari/file" in overrides else ()
    found = cell("algo=discrete_cql", "dataset=atari/qrdqn", *overrides, *path).config
    assert found["algo"]["min_q_weight"] == weight


def test_a_file_says_how_it_is_evaluated(tmp_path: Path) -> None:
    trained_on = replace(
        SHORT_PONG, sticky_actions=0.25, clip_rewards=True, episodic_life=True, max_episode_steps=40
    )
    path = write_pong(tmp_path / "sticky.npz", 50, settings=trained_on)
    source = AtariFile("atari", "x", str(path), "x")
    settings = atari_settings(source.task(Game("pong")).env)
    assert settings == replace(trained_on, clip_rewards=False, episodic_life=False)
    assert source.open(Game("pong")).id == "atari/pong/x"
    assert make_envs(source.task(Game("pong")).env, 2).max_episode_steps == 40
    assert spec_of(source.task(Game("pong")).env).action_dim == 6
    assert as_evaluated(settings) == settings


def test_human_scores() -> None:
    assert human("breakout") == ScoreRef("human", 1.7, 30.5)
    assert human("breakout").normalise(np.array([30.5, 1.7])).tolist() == [100, 0]
    assert human("adventure").name == "return"  # nobody has measured humans there


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as e:
        cell("algo=discrete_bc", *overrides)
    return str(e.value)


def test_what_does_not_fit_is_refused(
    pong: Path, published: dict[str, Any], tmp_path: Path
) -> None:
    own, file = "dataset=atari/qrdqn", ("dataset=atari/file", f"dataset.path='{pong}'")
    assert "is it pong" in refused("env=atari", "env.game=Pongg", own)
    none = cell("algo=discrete_bc", "env=breakout", own)  # a suite may hope for it
    with pytest.raises(
        UserError,
        match=r"env=breakout: .* no behaviour policy .*collect[.]py env=breakout algo=qrdqn",
    ):
        none.source.open(none.env)
    assert "env=hopper: is no Atari game" in refused("env=hopper", own)
    assert "data of pong, but env=breakout" in refused("env=breakout", *file)
    assert "norm_obs=true: atari/pong shows pictures" in refused("env=pong", own, "norm_obs=true")
    assert "n_transitions=0" in refused("env=pong", own, "dataset.n_transitions=0")
    assert "epsilon=1.5" in refused("env=pong", own, "dataset.epsilon=1.5")
    assert "sticky_actions=1.0" in refused("env=pong", own, "dataset.sticky_actions=1")
    assert "discrete" in refused("env=pong", own, "algo=td3_bc")
    absent = f"dataset.path='{tmp_path}/no.npz'"
    assert "no.npz: No such file" in refused("env=pong", "dataset=atari/file", absent)
    assert "env=pong" in refused("env=pong", "dataset=d4rl/medium").replace(
        "pong/medium", "env=pong"
    )


def test_another_policy_than_the_recorded_one(published: dict[str, Any], tmp_path: Path) -> None:
    record = tmp_path / "policies" / "pong.json"
    content = json.loads(record.read_text())
    content["policy"]["sha256"] = "0" * 64
    record.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"pong.safetensors: not what pong.json records"):
        own_games(SHORT_PONG, N, 0.2, 0, tmp_path)


def test_another_action_set(pong: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "action_names", lambda _: ("NOOP", "UP"))
    with pytest.raises(UserError, match=r"pong.npz: of a game with actions NOOP FIRE .* NOOP UP"):
        AtariFile("atari", "x", str(pong), "x").open(Game("pong"))


def test_names() -> None:
    assert Game("MsPacman") == Game("ms_pacman")
    assert Game("MsPacman").name == "ms_pacman"
    with pytest.raises(UserError, match="no Atari game"):
        AtariFile("atari", "x", "y", "x").id(Robot("hopper", "Hopper"))


def test_threads_are_as_they_were(tmp_path: Path) -> None:
    behaviour: Behaviour = random_behaviour()  # in one thread, as all that tests compute: forks
    torch.set_num_threads(2)
    try:
        gather(tmp_path / "a", behaviour, 10, 0.2, 0, lambda _: None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
