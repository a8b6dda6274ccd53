"""Where D4RL's files are looked for, and where everything is cached."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from offrl.data import locate
from offrl.data.locate import cache_dir, d4rl_file
from offrl.errors import UserError

NAME = "hopper_medium-v2.hdf5"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OFFRL_DATA", "XDG_CACHE_HOME", "D4RL_DATASET_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The addresses of each download that was asked for."""
    asked = []

    def fetch(urls: list[str], target: Path, valid: Callable[[Path], bool]) -> str:
        assert not valid(_text(target.parent.parent / "page.hdf5"))
        asked.append(list(urls))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"data")
        return hashlib.sha256(b"data").hexdigest()

    monkeypatch.setattr(locate, "fetch", fetch)
    return asked


def _text(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("<html>please log in</html>")
    return path


def _put(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_cache_dir(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == home / ".cache" / "offrl"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_dir() == home / "xdg" / "offrl"
    monkeypatch.setenv("OFFRL_DATA", str(home / "here"))
    assert cache_dir() == home / "here"
    assert (home / "here").is_dir()
    monkeypatch.setenv("OFFRL_DATA", "~/there")
    assert cache_dir() == home / "there"


def test_an_unwritable_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("OFFRL_DATA", str(home / "file"))
    with pytest.raises(UserError, match=r"data cache .*file cannot be written .* OFFRL_DATA"):
        cache_dir()


def test_the_suites_cache_comes_first(home: Path, fetched: list[list[str]]) -> None:
    _put(home / ".d4rl" / "datasets" / NAME)
    ours = _put(home / ".cache" / "offrl" / "d4rl" / NAME)
    assert d4rl_file("hopper-medium-v2") == ours
    assert fetched == []


def test_d4rls_own_folder_is_honoured(
    home: Path, fetched: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = _put(home / ".d4rl" / "datasets" / NAME)
    assert d4rl_file("hopper-medium-v2") == theirs
    elsewhere = _put(home / "elsewhere" / NAME)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(home / "elsewhere"))
    assert d4rl_file("hopper-medium-v2") == elsewhere
    assert fetched == []


def test_a_download_tries_mirrors_first_and_records_the_digest(
    home: Path, fetched: list[list[str]]
) -> None:
    path = d4rl_file("hopper-medium-v2", ["http://a.test/d4rl/", "http://b.test"])
    assert path == home / ".cache" / "offrl" / "d4rl" / NAME
    d4rls = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/" + NAME
    assert fetched == [[f"http://a.test/d4rl/{NAME}", f"http://b.test/{NAME}", d4rls]]
    recorded = path.with_name(NAME + ".sha256").read_text()
    assert recorded == f"{hashlib.sha256(b'data').hexdigest()}  {NAME}\n"
    d4rl_file("hopper-medium-v2")
    assert len(fetched) == 1


def test_an_unknown_id() -> None:
    with pytest.raises(UserError, match="no dataset hopper-medium-v9"):
        d4rl_file("hopper-medium-v9")
