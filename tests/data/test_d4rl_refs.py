"""The vendored references are those of the installed d4rl package."""

import csv
import importlib.util
import runpy
from importlib import resources
from pathlib import Path

import pytest

from offrl.data.locate import d4rl_info
from offrl.errors import UserError

ROBOTS = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "walker2d": "Walker2d-v4"}
QUALITIES = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")


def test_vendored_references_equal_d4rls() -> None:
    spec = importlib.util.find_spec("d4rl")  # finds it without importing it
    assert spec is not None, "the d4rl package is missing; `make setup` installs it"
    assert spec.origin is not None
    infos = runpy.run_path(str(Path(spec.origin).with_name("infos.py")))
    with resources.files("offrl.reference").joinpath("d4rl_refs.csv").open(encoding="utf-8") as f:
        vendored = {row["dataset_id"]: row for row in csv.DictReader(f)}
    assert len(infos["REF_MIN_SCORE"]) > 100
    for dataset_id, ref_min in infos["REF_MIN_SCORE"].items():
        row = vendored[dataset_id]
        assert float(row["ref_min"]) == ref_min
        assert float(row["ref_max"]) == infos["REF_MAX_SCORE"][dataset_id]
        assert row["url"] == infos["DATASET_URLS"][dataset_id]


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_every_dataset_of_the_suite_is_known(robot: str, quality: str) -> None:
    info = d4rl_info(robot, quality)
    assert info.dataset_id == f"{robot}-{quality}-v2"
    assert info.env_id == ROBOTS[robot]
    assert info.max_episode_steps == 1000
    assert info.ref_min < info.ref_max
    name = f"{robot}_{quality.replace('-', '_')}-v2.hdf5"
    assert info.url.endswith(f"/gym_mujoco_v2/{name}")


def test_d4rls_own_example() -> None:
    info = d4rl_info("halfcheetah", "medium")
    assert (info.ref_min, info.ref_max) == (-280.178953, 12135.0)


@pytest.mark.parametrize(("robot", "quality"), [("hoper", "medium"), ("hopper", "mediun")])
def test_unknown_names_are_answered_with_the_known_ones(robot: str, quality: str) -> None:
    with pytest.raises(UserError, match=r"hopper, walker2d, qualities random, medium, expert"):
        d4rl_info(robot, quality)
