"""Data that another environment made, or that was changed, is not trained on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness import manifest, tiny, write_robot

from offrl.data.d4rl import unpack_hdf5
from offrl.data.dataset import Dataset
from offrl.data.dynamics import check_dynamics
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


def permuted(d: Dataset) -> Dataset:
    return replace(d, states=d.states[:, ::-1])


def normalised(d: Dataset) -> Dataset:
    return replace(d, states=(d.states - d.states.mean(0)) / d.states.std(0))


def made_up(d: Dataset) -> Dataset:
    return replace(d, states=np.random.default_rng(0).standard_normal(d.states.shape))


def noisy(d: Dataset) -> Dataset:
    noise = np.random.default_rng(0).standard_normal(d.states.shape) * d.states.std(0)
    return replace(d, states=d.states + 0.1 * noise)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robots_own_data(robot: str, data: dict[str, Dataset]) -> None:
    check_dynamics(data[robot], robot)
    check_dynamics(data[robot], robot.replace("-v4", "-v5"))
    check_dynamics(noisy(data[robot]), robot)


@pytest.mark.parametrize("change", [permuted, normalised, made_up])
@pytest.mark.parametrize("robot", ROBOTS)
def test_changed_data(
    robot: str, change: Callable[[Dataset], Dataset], data: dict[str, Dataset]
) -> None:
    with pytest.raises(UserError, match=rf"file/x: .* not those of {robot}: .*permuted"):
        check_dynamics(change(data[robot]), robot)


@pytest.mark.parametrize(
    ("theirs", "robot"), [("HalfCheetah-v4", "Walker2d-v4"), ("Walker2d-v4", "HalfCheetah-v4")]
)
def test_another_robots_data_of_the_same_size(
    theirs: str, robot: str, data: dict[str, Dataset]
) -> None:
    assert data[theirs].obs_shape == data[robot].obs_shape
    with pytest.raises(UserError, match=r"choose the environment .*env=\.\.\."):
        check_dynamics(data[theirs], robot)


def test_where_nothing_can_be_said(data: dict[str, Dataset]) -> None:
    """No state can be set, observations hide it, or no transition shows both of its states."""
    check_dynamics(made_up(data["Pendulum-v1"]), "Pendulum-v1")
    check_dynamics(made_up(data["Hopper-v4"]), "Reacher-v4")
    ended = replace(data["Hopper-v4"], terminated=np.ones(len(data["Hopper-v4"]), np.bool_))
    check_dynamics(made_up(ended), "Hopper-v4")
    clipped = replace(data["Hopper-v4"], states=np.full_like(data["Hopper-v4"].states, 10.0))
    check_dynamics(clipped, "Hopper-v4")


def test_a_run_ends_before_it_trains(tmp_path: Path) -> None:
    path = write_robot(tmp_path / "cheetah.hdf5", "HalfCheetah-v4")
    outcome = run(tiny(path, tmp_path, "env=walker2d"))
    assert outcome.status == "failed"
    assert "file/cheetah: its transitions are not those of Walker2d-v4" in outcome.message
    assert "\n" not in outcome.message
    assert manifest(outcome.run_dir)["error"] == outcome.message
    assert [p.name for p in outcome.run_dir.iterdir()] == ["manifest.json"]
