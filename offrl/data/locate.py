"""Where D4RL's files are: the suite's cache, D4RL's own folder, or the network."""

import csv
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import h5py

from offrl.atomic import write_atomic
from offrl.data.digest import sha256_file
from offrl.data.download import fetch
from offrl.errors import UserError

_ROBOTS = ("halfcheetah", "hopper", "walker2d")
_QUALITIES = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")


class D4RLInfo(NamedTuple):
    """What D4RL knows about one of its datasets."""

    dataset_id: str  # "hopper-medium-v2"
    url: str
    ref_min: float  # returns that mean a score of 0 and 100
    ref_max: float
    env_id: str  # "Hopper-v4"
    max_episode_steps: int
    sha256: str  # of its file


def d4rl_info(env_name: str, quality: str) -> D4RLInfo:
    """The -v2 dataset of an environment ("hopper") and quality ("medium-replay").

    Raises UserError, naming what there is, if D4RL has none.
    """
    if env_name not in _ROBOTS or quality not in _QUALITIES:
        raise UserError(
            f"{env_name}/{quality}: not among the D4RL datasets of this suite; environments are "
            f"{', '.join(_ROBOTS)}, qualities {', '.join(_QUALITIES)}"
        )
    row = _references()[f"{env_name}-{quality}-v2"]
    return D4RLInfo(
        row["dataset_id"],
        row["url"],
        float(row["ref_min"]),
        float(row["ref_max"]),
        row["env_id"],
        int(row["max_episode_steps"]),
        _sha256s()[row["dataset_id"]],
    )


def d4rl_file(dataset_id: str, mirrors: Sequence[str] = ()) -> Path:
    """The local HDF5 file of a D4RL id ("hopper-medium-v2"), downloaded if it is nowhere.

    It is looked for in <cache>/d4rl, then in D4RL's own folder (D4RL_DATASET_DIR, else
    ~/.d4rl/datasets).  `mirrors` are base URLs, tried before D4RL's server; what is not D4RL's file
    is not taken from them.  The SHA-256 of a downloaded file is recorded beside it.  Raises
    UserError if it cannot be had.
    """
    row = _references().get(dataset_id)
    if row is None:
        raise UserError(f"D4RL has no dataset {dataset_id}")
    name = PurePosixPath(row["url"]).name
    own = Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets") / name
    for path in (_cache_path() / "d4rl" / name, own):
        if path.exists():
            return path
    target = cache_dir() / "d4rl" / name
    urls = [*(f"{m.rstrip('/')}/{name}" for m in mirrors), row["url"]]
    published = _sha256s().get(dataset_id)  # known of the suite's datasets

    def valid(path: Path) -> bool:
        return h5py.is_hdf5(path) and published in (None, sha256_file(path))

    digest = fetch(urls, target, valid)
    write_atomic(target.with_name(name + ".sha256"), f"{digest}  {name}\n".encode())
    return target


def cache_dir() -> Path:
    """The folder for downloads and unpacked data: OFFRL_DATA, else `offrl` in the user's cache.

    It is created if need be.  Raises UserError if it cannot be written.
    """
    path = _cache_path()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as e:
        raise UserError(
            f"the data cache {path} cannot be written ({e.strerror or e}); "
            "set OFFRL_DATA to a folder that can"
        ) from e


def _cache_path() -> Path:
    if data := os.environ.get("OFFRL_DATA"):
        return Path(data).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offrl"


@cache
def _references() -> dict[str, dict[str, str]]:
    return {row["dataset_id"]: row for row in _rows("d4rl_refs.csv")}


@cache
def _sha256s() -> dict[str, str]:
    return {row["dataset_id"]: row["sha256"] for row in _rows("d4rl_files.csv")}


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("offrl.reference").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
