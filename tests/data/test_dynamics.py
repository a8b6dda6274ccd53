"""Data that another environment made, or that was changed, is not trained on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness import manifest, tiny, write_robot

from offrl.data.d4rl import unpack_hdf5
from offrl.data.dataset import Dataset
from offrl.data.dynamics import _layout, check_dynamics
from offrl.data.package import behaviour_record
from offrl.data.rollout import own_dataset
from offrl.envs.vector import make_env
from offrl.errors import UserError
from offrl.run import run

ROBOTS = ("HalfCheetah-v4", "Hopper-v4", "Walker2d-v4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    folder = tmp_path_factory.mktemp("robots")
    return {
        robot: unpack_hdf5(write_robot(folder / f"{robot}.hdf5", robot), "file/x", folder, 1000)
        for robot in (*ROBOTS, "Pendulum-v1")
    }


def columns(d: Dataset, order: list[int]) -> Dataset:
    return replace(d, states=d.states[:, order])


def swapped(d: Dataset, i: int) -> Dataset:
    """Observations with columns i and i + 1 exchanged."""
    order = list(range(d.states.shape[1]))
    order[i : i + 2] = [i + 1, i]
    return columns(d, order)


def moved(d: Dataset, i: int) -> Dataset:
    states = np.array(d.states)
    states[:, i] += 50
    return replace(d, states=states)


def other_rows(d: Dataset) -> Dataset:
    return replace(d, action=np.random.default_rng(0).permutation(d.action))


def normalised(d: Dataset) -> Dataset:
    return replace(d, states=(d.states - d.states.mean(0)) / d.states.std(0))


def made_up(d: Dataset) -> Dataset:
    return replace(d, states=np.random.default_rng(0).standard_normal(d.states.shape))


CHANGES: dict[str, Callable[[Dataset], Dataset]] = {
    "observations reversed": lambda d: replace(d, states=d.states[:, ::-1]),
    "observations rolled": lambda d: replace(d, states=np.roll(d.states, 1, axis=1)),
    "observations normalised": normalised,
    "observations made up": made_up,
    "observations x100": lambda d: replace(d, states=d.states * 100),
    "observations x2": lambda d: replace(d, states=d.states * 2),
    "observations in degrees": lambda d: replace(d, states=np.rad2deg(d.states)),
    "first column moved": lambda d: moved(d, 0),
    "second column moved": lambda d: moved(d, 1),
    "actions rolled": lambda d: replace(d, action=np.roll(d.action, 1, axis=1)),
    "actions of other rows": other_rows,
    "actions one row late": lambda d: replace(d, action=np.roll(d.action, 1, axis=0)),
    "actions zero": lambda d: replace(d, action=np.zeros_like(d.action)),
    "actions negated": lambda d: replace(d, action=-np.asarray(d.action)),
    "actions halved": lambda d: replace(d, action=d.action / 2),
}


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robots_own_data(
    robot: str, data: dict[str, Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    d = data[robot]
    check_dynamics(d, robot)
    check_dynamics(d, robot.replace("-v4", "-v5"))
    check_dynamics(replace(d, states=d.states.astype(np.float16).astype(np.float32)), robot)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("robot", ROBOTS)
def test_other_rewards_are_said(
    robot: str, data: dict[str, Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    """They may be shaped or scaled with intent: it is no error."""
    d = data[robot]
    rounded = np.asarray(d.reward, np.float16).astype(np.float32)
    check_dynamics(replace(d, reward=rounded), robot)
    assert capsys.readouterr() == ("", "")
    others = (d.reward / 10, d.reward - 1, np.roll(d.reward, 1), np.zeros_like(d.reward))
    for reward in others:
        check_dynamics(replace(d, reward=reward), robot)
        out, err = capsys.readouterr()
        assert out == ""
        assert f"file/x: its rewards are not those of {robot}" in err


@pytest.mark.parametrize("quality", ["medium", "expert"])
@pytest.mark.parametrize("robot", ["halfcheetah", "hopper", "walker2d"])
def test_the_suites_own_data(
    robot: str, quality: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Policies that move well: other speeds, and other contacts, than of random actions."""
    d = own_dataset(robot, quality, 1500, tmp_path)
    env_id = behaviour_record(robot)["env_id"]
    capsys.readouterr()
    check_dynamics(d, env_id)
    assert capsys.readouterr() == ("", "")
    check_dynamics(replace(d, reward=np.roll(d.reward, 1)), env_id)
    assert "rewards are not those" in capsys.readouterr().err
    for i in range(d.states.shape[1] - 1):
        with pytest.raises(UserError, match="columns"):
            check_dynamics(swapped(d, i), env_id)
    for change in CHANGES.values():
        with pytest.raises(UserError, match="columns"):
            check_dynamics(change(d), env_id)


@pytest.mark.parametrize("seed", range(3))
def test_velocities_near_their_bound(seed: int, tmp_path: Path) -> None:
    """Rounding moves them off it, and they hide the state as before."""
    d = own_dataset("walker2d", "expert", 1500, tmp_path)
    noise = np.random.default_rng(seed).standard_normal(d.states.shape)
    states = (d.states + 1e-3 * d.states.std(axis=0) * noise).astype(np.float32)
    check_dynamics(replace(d, states=states), behaviour_record("walker2d")["env_id"])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_changed_data(
    robot: str,
    change: str,
    data: dict[str, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"file/x: .* not those of {robot}: .*permuted"):
        check_dynamics(CHANGES[change](data[robot]), robot)
    assert capfd.readouterr() == ("", "")  # nor does MuJoCo complain, on stdout or in a file
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("robot", ROBOTS)
def test_two_columns_exchanged(robot: str, data: dict[str, Dataset]) -> None:
    for i in range(data[robot].states.shape[1] - 1):
        with pytest.raises(UserError, match=f"not those of {robot}"):
            check_dynamics(swapped(data[robot], i), robot)


@pytest.mark.parametrize("robot", ROBOTS)
def test_actions_too_small_to_move_much(robot: str, tmp_path: Path) -> None:
    """Their own explain the data better than other rows' do, by whatever little there is.

    On HalfCheetah other rows' actions are within the bound of the error here.
    """
    path = write_robot(tmp_path / "a.hdf5", robot, scale=0.005)
    d = unpack_hdf5(path, "file/x", tmp_path, 1000)
    check_dynamics(d, robot)
    with pytest.raises(UserError, match=f"not those of {robot}"):
        check_dynamics(other_rows(d), robot)
    alike = write_robot(tmp_path / "b.hdf5", robot, scale=0.0)
    check_dynamics(unpack_hdf5(alike, "file/x", tmp_path, 1000), robot)


@pytest.mark.parametrize(
    ("theirs", "robot"), [("HalfCheetah-v4", "Walker2d-v4"), ("Walker2d-v4", "HalfCheetah-v4")]
)
def test_another_robots_data_of_the_same_size(
    theirs: str, robot: str, data: dict[str, Dataset]
) -> None:
    assert data[theirs].obs_shape == data[robot].obs_shape
    with pytest.raises(UserError, match=r"choose the environment .*env=\.\.\."):
        check_dynamics(data[theirs], robot)


def test_where_nothing_can_be_said(
    data: dict[str, Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    """No state can be set, or observations hide it."""
    check_dynamics(made_up(data["Pendulum-v1"]), "Pendulum-v1")
    check_dynamics(made_up(data["Hopper-v4"]), "Reacher-v4")
    assert capsys.readouterr().err == ""


def test_too_few_transitions(data: dict[str, Dataset], capsys: pytest.CaptureFixture[str]) -> None:
    d = data["Hopper-v4"]
    ended = replace(d, terminated=np.ones(len(d), np.bool_))
    check_dynamics(made_up(ended), "Hopper-v4")
    assert "file/x: has 0 transition(s) that Hopper-v4 can repeat, too" in capsys.readouterr().err
    ended.terminated[:9] = False  # they are looked at nevertheless
    check_dynamics(ended, "Hopper-v4")
    assert "file/x: has 9 transition(s)" in capsys.readouterr().err
    with pytest.raises(UserError, match="not those of Hopper-v4"):
        check_dynamics(made_up(ended), "Hopper-v4")


def test_velocities_at_their_bound(data: dict[str, Dataset]) -> None:
    """Some are, on Hopper and Walker2d, and hide the state; in a robot's data not nearly all."""
    states = np.array(data["Hopper-v4"].states)
    states[:, -1] = 10.0
    with pytest.raises(UserError, match=r"file/x: .*Hopper-v4's bound of 10 in nearly all of"):
        check_dynamics(replace(data["Hopper-v4"], states=states), "Hopper-v4")
    cheetah = data["HalfCheetah-v4"]  # has none
    assert _layout(make_env("HalfCheetah-v4")) == (1, 8, np.inf)
    assert _layout(make_env("Walker2d-v4")) == (1, 8, 10.0)
    fast = replace(cheetah, terminated=(np.abs(cheetah.states[cheetah.index]) < 10).all(1))
    with pytest.raises(UserError, match="not those of HalfCheetah-v4"):
        check_dynamics(other_rows(fast), "HalfCheetah-v4")


def test_a_run_ends_before_it_trains(tmp_path: Path) -> None:
    path = write_robot(tmp_path / "cheetah.hdf5", "HalfCheetah-v4")
    outcome = run(tiny(path, tmp_path, "env=walker2d"))
    assert outcome.status == "failed"
    assert "file/cheetah: its transitions are not those of Walker2d-v4" in outcome.message
    assert "\n" not in outcome.message
    assert manifest(outcome.run_dir)["error"] == outcome.message
    assert [p.name for p in outcome.run_dir.iterdir()] == ["manifest.json"]
