"""The stored form of an Atari dataset: exact, small, streamed, and checked."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_games import game_data, games

from offrl.data import atari_file
from offrl.data.atari_file import read_meta, unpack_atari, write_atari, write_games
from offrl.data.dataset import Dataset
from offrl.data.rows import Rows
from offrl.data.store import LAYOUT, content_digest
from offrl.errors import UserError

LENGTHS, ENDS = [3, 1, 7, 5], [True, False, True, False]
META = {"env": {"game": "pong"}, "epsilon": 0.2}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari_file, "BLOCK", 6)


def write(path: Path, n: int = 16) -> Path:
    write_games(path, games(LENGTHS, ENDS), n, META)
    return path


def same(a: Dataset, b: Dataset) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in LAYOUT)


@pytest.mark.parametrize("n", [1, 3, 7, 12, 15, 16])
def test_what_is_unpacked_is_what_was_played(n: int, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    data = unpack_atari(write(tmp_path / "a.npz", n), "file/a", cache)
    assert len(data) == n
    assert same(data, game_data(LENGTHS, ENDS, n))
    assert data.id == "file/a"
    assert data.digest == content_digest(cache, data.digest)
    assert [p.name for p in tmp_path.iterdir()] in (["a.npz", "cache"], ["cache", "a.npz"])
    assert isinstance(data.states, np.ndarray)
    assert not data.states.flags.writeable


def test_numpy_and_the_standard_library_can_read_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    columns = np.load(path)
    assert columns["action"].tolist() == game_data(LENGTHS, ENDS).action.tolist()
    assert columns["states/000000"].shape == (6, 84, 84)
    meta = json.loads(zipfile.ZipFile(path).read("meta.json"))
    assert meta["epsilon"] == 0.2
    assert meta["format"] == "offrl-atari-1"
    assert meta["columns"]["states"]["shape"] == [20, 84, 84]
    assert read_meta(path) == meta


def test_the_same_data_gives_the_same_bytes_and_few_of_them(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
    assert len(first) < 20 * 84 * 84 / 10


def test_unpacking_happens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.npz")
    unpack_atari(path, "file/a", tmp_path)
    monkeypatch.setattr(atari_file, "write_dataset", None)
    assert unpack_atari(path, "file/b", tmp_path).id == "file/b"


def test_too_few_transitions_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 16 transitions, not 17"):
        write(tmp_path / "a.npz", 17)
    assert list(tmp_path.iterdir()) == []


def test_a_large_set_is_never_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari_file, "BLOCK", 64)
    n, length = 4000, 100

    def played() -> Iterator[Rows]:
        while True:
            yield games([length], [True])[0]

    tracemalloc.start()
    write_games(tmp_path / "a.npz", played(), n, META)
    data = unpack_atari(tmp_path / "a.npz", "x", tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data) == n
    assert data.states.nbytes > 28e6
    assert peak < 6e6


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 1  # within the first frames
    path.write_bytes(data)


def rewritten(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
    """Changes a member and keeps the archive valid."""

    def change_member(path: Path) -> None:
        with zipfile.ZipFile(path) as z:
            members = {k: z.read(k) for k in z.namelist()}
        with zipfile.ZipFile(path, "w") as z:
            for k, data in members.items():
                new = change(data) if k == name else data
                if new is not None:
                    z.writestr(k, new)

    return change_member


def other_pixel(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def pickled(_: bytes) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([print], dtype=object), allow_pickle=True)
    return out.getvalue()


def newer(data: bytes) -> bytes:
    return data.replace(b"offrl-atari-1", b"offrl-atari-9")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda p: p.unlink(), "No such file.*is the path right"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "is the path right"),
    "empty": (lambda p: p.write_bytes(b""), "cut short.*copy or collect it again"),
    "another kind of file": (lambda p: p.write_bytes(b"x" * 999), "cut short"),
    "cut short": (cut_short, "cut short"),
    "a flipped bit": (flip, "states/000000.npy"),
    "altered frames": (rewritten("states/000001.npy", other_pixel), "checksum of states"),
    "altered rewards": (rewritten("reward.npy", other_pixel), "checksum of reward"),
    "a missing column": (rewritten("action.npy", lambda _: None), "action.npy is missing"),
    "missing frames": (rewritten("states/000002.npy", lambda _: None), "000002.npy is missing"),
    "a pickle": (rewritten("reward.npy", pickled), "reward.npy: Object arrays"),
    "no JSON": (rewritten("meta.json", lambda _: b"{"), "meta.json"),
    "another version": (rewritten("meta.json", newer), "of format offrl-atari-9"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_and_leaves_nothing(
    spoil: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    path, cache = write(tmp_path / "a.npz"), tmp_path / "cache"
    cache.mkdir()
    spoil(path)
    with pytest.raises(UserError, match=f"a.npz: .*{words}"):
        unpack_atari(path, "file/a", cache)
    assert list(cache.iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.npz")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"a.npz, unpacked,: needs 0.00 GB in .* OFFRL_DATA"):
        unpack_atari(path, "x", tmp_path)


def test_an_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent/a.npz: cannot be written: No such file"):
        write(tmp_path / "absent" / "a.npz")


def test_frames_in_any_portions(tmp_path: Path) -> None:
    d = game_data(LENGTHS, ENDS)
    columns: dict[str, NDArray[np.generic]] = {k: getattr(d, k) for k in LAYOUT if k != "states"}
    for k in (1, 4, 6, 20):
        portions = (d.states[i : i + k] for i in range(0, 20, k))
        write_atari(tmp_path / f"{k}", portions, lambda: columns, META)
    assert len({(tmp_path / f"{k}").read_bytes() for k in (1, 4, 6, 20)}) == 1
