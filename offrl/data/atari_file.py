"""The stored form of an Atari dataset: one compressed file, written and read as a stream.

A ZIP archive with deflated members, which NumPy opens too (`np.load(path)["reward"]`):
- states/000000.npy, states/000001.npy, ...: the frames, uint8 [1024, 84, 84] (the last has fewer),
  each one once; deflate finds most of a frame in the one before.
- index.npy, next_index.npy, action.npy, ...: the other columns of offrl.data.dataset.Dataset.
- meta.json: the format, shape, type and SHA-256 of every column, and where the data comes from.
No pickle.  The same data gives the same bytes.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offrl.data.dataset import Dataset
from offrl.data.memory import require_disk
from offrl.data.rows import Rows, following, table
from offrl.data.store import LAYOUT, Stream, digest_of, open_dataset, write_dataset
from offrl.errors import UserError

FORMAT = "offrl-atari-1"
BLOCK = 1024  # frames in a member
_SMALL = tuple(name for name in LAYOUT if name != "states")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no clock in the bytes


def write_games(path: Path, games: Iterable[Rows], n: int, meta: Mapping[str, Any]) -> None:
    """Writes exactly `n` transitions of `games`, whose last one is cut; see write_atari."""
    kept: list[Rows] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        missing = n
        for game in games:
            yield game.obs[: min(len(game.action), missing) + 1]
            kept.append(game._replace(obs=game.obs[:0]))
            missing -= len(game.action)
            if missing <= 0:
                return
        raise ValueError(f"there are {n - missing} transitions, not {n}")

    write_atari(path, frames(), lambda: table(kept, n), meta)


def write_atari(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    columns: Callable[[], Mapping[str, NDArray[Any]]],
    meta: Mapping[str, Any],
) -> None:
    """Writes a file whole or not at all; the frames, [k, 84, 84] each, are never all in memory.

    `columns` is asked for the other columns once all frames have been taken.  `meta` is JSON that
    says where the data comes from.  Raises UserError where the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as f:
            with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as z:
                described = {"states": _write_frames(z, frames)}
                described |= {k: _write(z, f"{k}.npy", x) for k, x in columns().items()}
                record = {"format": FORMAT, "columns": described, **meta}
                z.writestr(_member("meta.json"), json.dumps(record, indent=1))
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as e:
        raise UserError(f"{path}: cannot be written: {e.strerror or e}") from e
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_meta(path: Path) -> dict[str, Any]:
    """What a file says of itself.  Raises UserError for one that is none, or is damaged."""
    with _opened(path) as z:
        text = _read(z, path, "meta.json")
    try:
        meta: dict[str, Any] = json.loads(text)
    except ValueError as e:
        raise _damaged(path, f"meta.json: {e}") from e
    if meta.get("format") != FORMAT:
        raise UserError(
            f"{path}: of format {meta.get('format')}, this version reads {FORMAT}; collect it again"
        )
    return meta


def unpack_atari(path: Path, dataset_id: str, cache_root: Path, key: str | None = None) -> Dataset:
    """The dataset of a file, unpacked under `cache_root` the first time and mapped afterwards.

    `key` is the name that it has there, by default its content_digest().
    Raises UserError for a file that is damaged and for a full disk; then nothing is left there.
    """
    return unpack_together([path], dataset_id, cache_root, key)


def unpack_together(
    paths: Sequence[Path], dataset_id: str, cache_root: Path, key: str | None = None
) -> Dataset:
    """One dataset of several files, one after another; see unpack_atari()."""
    metas = [read_meta(path) for path in paths]
    digests = [digest_of(meta["columns"]) for meta in metas]
    joined = hashlib.sha256(" ".join(digests).encode()).hexdigest()
    digest = key or (digests[0] if len(paths) == 1 else joined)
    try:
        return replace(open_dataset(cache_root, digest), id=dataset_id)
    except FileNotFoundError:
        size = sum(_size(c) for meta in metas for c in meta["columns"].values())
        remedy = "free some space or set OFFRL_DATA to another folder"
        require_disk(cache_root, size, f"{', '.join(map(str, paths))}, unpacked,", remedy)
    with contextlib.ExitStack() as stack:
        files = [(stack.enter_context(_opened(p)), p) for p in paths]
        states = [meta["columns"]["states"] for meta in metas]
        columns: dict[str, Any] = following(
            [
                {k: _column(z, p, k, meta["columns"][k]) for k in _SMALL}
                for (z, p), meta in zip(files, metas, strict=True)
            ],
            [int(x["shape"][0]) for x in states],
        )
        shape = (sum(x["shape"][0] for x in states), *states[0]["shape"][1:])
        chunks = (c for (z, p), x in zip(files, states, strict=True) for c in _frames(z, p, x))
        columns["states"] = Stream(shape, np.dtype(states[0]["dtype"]), chunks)
        origins = [{k: v for k, v in m.items() if k not in ("format", "columns")} for m in metas]
        origin = origins[0] if len(paths) == 1 else {"parts": origins}
        return write_dataset(cache_root, digest, columns, {**origin, "id": dataset_id})


def _write_frames(z: zipfile.ZipFile, frames: Iterable[NDArray[np.uint8]]) -> dict[str, object]:
    sha, n = hashlib.sha256(), 0
    for k, block in enumerate(_blocks(frames)):
        sha.update(block.data)
        n += len(block)
        _write(z, _block_name(k), block)
    shape = [n, *block.shape[1:]]
    return {"shape": shape, "dtype": block.dtype.str, "sha256": sha.hexdigest()}


def _blocks(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The same frames, BLOCK at a time."""
    waiting: list[NDArray[np.uint8]] = []
    for part in frames:
        waiting.append(part)
        if sum(map(len, waiting)) >= BLOCK:
            joined = np.concatenate(waiting)
            whole = len(joined) - len(joined) % BLOCK
            for i in range(0, whole, BLOCK):
                yield joined[i : i + BLOCK]
            waiting = [joined[whole:]]
    rest = np.concatenate(waiting)
    if len(rest):
        yield rest


def _frames(z: zipfile.ZipFile, path: Path, about: Mapping[str, Any]) -> Iterator[NDArray[Any]]:
    """The blocks of frames; after the last one UserError if they are not what was written."""
    sha = hashlib.sha256()
    for k in range(-(-about["shape"][0] // BLOCK)):
        block = _array(z, path, _block_name(k))
        sha.update(block.data)
        yield block
    if sha.hexdigest() != about["sha256"]:
        raise _damaged(path, "the checksum of states does not fit")


def _column(z: zipfile.ZipFile, path: Path, name: str, about: Mapping[str, Any]) -> NDArray[Any]:
    column = _array(z, path, f"{name}.npy")
    if hashlib.sha256(column.data).hexdigest() != about["sha256"]:
        raise _damaged(path, f"the checksum of {name} does not fit")
    return column


def _write(z: zipfile.ZipFile, name: str, column: NDArray[Any]) -> dict[str, object]:
    data = io.BytesIO()
    np.save(data, column, allow_pickle=False)
    z.writestr(_member(name), data.getbuffer())
    sha = hashlib.sha256(np.ascontiguousarray(column).data).hexdigest()
    return {"shape": list(column.shape), "dtype": column.dtype.str, "sha256": sha}


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _block_name(k: int) -> str:
    return f"states/{k:06d}.npy"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        z = zipfile.ZipFile(path)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror or e}; is the path right?") from e
    except zipfile.BadZipFile as e:
        raise _damaged(path, "it is no such file, or cut short") from e
    with z:
        yield z


def _read(z: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        return z.read(name)
    except KeyError as e:
        raise _damaged(path, f"{name} is missing") from e
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as e:
        raise _damaged(path, f"{name}: {e}") from e


def _array(z: zipfile.ZipFile, path: Path, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(_read(z, path, name)), allow_pickle=False)
    except ValueError as e:  # pickled objects, too
        raise _damaged(path, f"{name}: {e}") from e
    return array


def _size(about: Mapping[str, Any]) -> int:
    count = math.prod(int(n) for n in about["shape"])
    return count * int(np.dtype(about["dtype"]).itemsize)


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: cannot be read as an Atari dataset ({why}); copy or collect it again"
    )
