"""A file under D4RL's name is D4RL's: published numbers stand beside it."""

from pathlib import Path
from typing import Any

import pytest
from harness import SMALL_NET, TINY, cell, complete, write_robot

from offrl import run as run_module
from offrl.data import locate
from offrl.data.digest import sha256_file
from offrl.data.locate import d4rl_file, d4rl_info
from offrl.errors import UserError
from offrl.run import run
from offrl.sources import D4RL, File, Robot

HOPPER = Robot("hopper", "Hopper")
MEDIUM = D4RL("d4rl", "medium", False, ())


@pytest.fixture
def d4rl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """D4RL's folder, with a file under the name of hopper-medium-v2."""
    monkeypatch.setenv("OFFRL_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    return write_robot(tmp_path / "hopper_medium-v2.hdf5")


def publish(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """As if D4RL had published this file as its hopper-medium-v2."""
    monkeypatch.setattr(locate, "_sha256s", lambda: {"hopper-medium-v2": sha256_file(path)})


def test_every_dataset_of_the_suite_has_a_digest_of_its_own() -> None:
    robots, qualities = locate._ROBOTS, locate._QUALITIES
    digests = {d4rl_info(robot, quality).sha256 for robot in robots for quality in qualities}
    assert len(digests) == 18
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
    # as its copy on Hugging Face, imone/D4RL, has it
    assert d4rl_info("hopper", "medium-expert").sha256.startswith(
        "9d51ad87f8c905be3880d84c6140bcdb"
    )


def test_another_file_under_its_name(d4rl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = File("file", "x", str(d4rl), "x", False, "Hopper-v4")
    message = f"{d4rl}: is not the file that D4RL published as d4rl/hopper-medium-v2.* dataset=file"
    with pytest.raises(UserError, match=message):
        MEDIUM.open(HOPPER)
    digest = file.open(HOPPER).digest
    with pytest.raises(UserError, match=message):  # it is in the cache now
        MEDIUM.open(HOPPER)
    publish(monkeypatch, d4rl)
    data = MEDIUM.open(HOPPER)
    assert (data.id, data.digest) == ("d4rl/hopper-medium-v2", digest)
    with pytest.raises(KeyError):
        D4RL("d4rl", "expert", False, ()).open(HOPPER)


def test_a_mirror_that_has_another_file(
    d4rl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, d4rl)
    other = write_robot(tmp_path / "other.hdf5", seed=1)
    asked = []

    def fetch(urls: list[str], target: Path, valid: Any) -> str:
        asked.append((valid(d4rl), valid(other)))
        return "digest"

    monkeypatch.setattr(locate, "fetch", fetch)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "empty"))
    (tmp_path / "cache" / "d4rl").mkdir(parents=True)
    d4rl_file("hopper-medium-v2", ["http://a.test"])
    d4rl_file("hopper-medium-v0")  # nothing is known of it
    assert asked == [(True, False), (True, True)]


def test_a_run_asks_no_simulator_about_published_bytes(
    d4rl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old version of it has recorded them."""

    def unwanted(*_: object) -> None:
        raise AssertionError("the data was simulated")

    monkeypatch.setattr(run_module, "check_dynamics", unwanted)
    c = cell(*TINY, SMALL_NET, "env=hopper", "dataset=d4rl/medium", f"out='{tmp_path}'")
    assert "is not the file that D4RL published" in run(c).message
    publish(monkeypatch, d4rl)
    complete(c)
