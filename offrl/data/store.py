"""Unpacked datasets in the cache: one .npy file per column, mapped by every process that reads."""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offrl.data.dataset import Dataset
from offrl.errors import UserError

FORMAT = 1


class Stream(NamedTuple):
    """A column that is too large to be held: its rows come in chunks."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: Iterable[NDArray[Any]]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]


Columns = Mapping[str, NDArray[Any] | Stream]

# name -> the (dtype, dimensions) that it may have; states counts in M, episode_start in E + 1,
# complete and episode_return in E, all others in N.
LAYOUT: dict[str, tuple[tuple[type[np.generic], int], ...]] = {
    "states": ((np.float32, 2), (np.uint8, 3)),
    "index": ((np.int64, 1), (np.int32, 2)),
    "next_index": ((np.int64, 1), (np.int32, 2)),
    "action": ((np.float32, 2), (np.int64, 1)),
    "reward": ((np.float32, 1),),
    "terminated": ((np.bool_, 1),),
    "episode_start": ((np.int64, 1),),
    "complete": ((np.bool_, 1),),
    "episode_return": ((np.float64, 1),),
}
OPTIONAL = {"final_action": LAYOUT["action"]}  # counts in E
_STALE_SECONDS = 6 * 3600.0


def write_dataset(
    cache_root: Path, digest: str, columns: Columns, meta: Mapping[str, object]
) -> Dataset:
    """Store the columns of Dataset under <cache_root>/<digest> and open them.

    `meta` must hold "id" and may hold any further JSON (provenance); it goes into meta.json.  The
    folder appears whole or not at all.  Whoever comes second keeps the first one's folder.
    Raises ValueError for columns that make no Dataset, UserError if the cache cannot be written.
    """
    _check(columns)
    final = cache_root / digest
    try:
        cache_root.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache_root)
        temporary = cache_root / f".unpacking-{secrets.token_hex(8)}"
        temporary.mkdir()
    except OSError as e:
        raise _unwritable(cache_root, e) from e
    try:
        described = {name: _save(temporary / f"{name}.npy", c) for name, c in columns.items()}
        record = {"format": FORMAT, "digest": digest, "columns": described, **meta}
        _save_json(temporary / "meta.json", record)
        if not final.exists():
            temporary.rename(final)
    except OSError as e:
        if not final.exists():  # otherwise another process has just won the race
            raise _unwritable(cache_root, e) from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_dataset(cache_root, digest)


def open_dataset(cache_root: Path, digest: str) -> Dataset:
    """Map the columns of a stored dataset; sizes and types are checked, contents are not read.

    Raises FileNotFoundError if there is none, UserError if it is damaged or of another format.
    """
    folder = cache_root / digest
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']}, this version reads {FORMAT}")
        columns = {name: _map(folder / f"{name}.npy", d) for name, d in meta["columns"].items()}
        _check(columns)
        return Dataset(id=str(meta["id"]), digest=digest, **columns)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"the cached dataset {folder} cannot be used ({e}); delete that folder and run again"
        ) from e


def content_digest(cache_root: Path, digest: str) -> str:
    """SHA-256 of what a stored dataset holds, whatever it was made from."""
    return digest_of(stored_meta(cache_root, digest)["columns"])


def stored_meta(cache_root: Path, digest: str) -> dict[str, Any]:
    """The meta.json of a stored dataset."""
    text = (cache_root / digest / "meta.json").read_text(encoding="utf-8")
    meta: dict[str, Any] = json.loads(text)
    return meta


def digest_of(described: Mapping[str, Mapping[str, object]]) -> str:
    """The content_digest() of columns with these descriptions."""
    columns = {name: described[name]["sha256"] for name in LAYOUT}
    return hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()


def _map(path: Path, described: Mapping[str, object]) -> NDArray[Any]:
    # Mapped copy-on-write and handed out read-only: pages are shared by all processes, and not
    # even a torch tensor over them (torch knows no read-only tensors) could change the file.
    array = np.asarray(np.load(path, mmap_mode="c"))
    if list(array.shape) != described["shape"] or array.dtype.str != described["dtype"]:
        raise ValueError(f"{path.name} does not match meta.json")
    array.flags.writeable = False
    return array


def _save(path: Path, column: NDArray[Any] | Stream) -> dict[str, object]:
    stream = (
        Stream(column.shape, column.dtype, [column]) if isinstance(column, np.ndarray) else column
    )
    sha, rows = hashlib.sha256(), 0
    with path.open("wb") as f:
        header = {"descr": stream.dtype.str, "fortran_order": False, "shape": stream.shape}
        np.lib.format.write_array_header_1_0(f, header)
        for chunk in stream.chunks:
            data = np.ascontiguousarray(chunk).data
            f.write(data)
            sha.update(data)
            rows += len(chunk)
        f.flush()
        os.fsync(f.fileno())
    if rows != len(stream):
        raise ValueError(f"{path.name}: {rows} rows were given, not {len(stream)}")
    return {"shape": list(stream.shape), "dtype": stream.dtype.str, "sha256": sha.hexdigest()}


def _save_json(path: Path, record: Mapping[str, object]) -> None:
    with path.open("w", encoding="utf-8") as f:
        json.dump(record, f, indent=1)
        f.flush()
        os.fsync(f.fileno())


def _check(columns: Columns) -> None:
    if set(columns) - set(OPTIONAL) != set(LAYOUT):
        raise ValueError(f"columns are {sorted(columns)}, not {sorted(LAYOUT)}")
    for name in columns:
        allowed = (LAYOUT | OPTIONAL)[name]
        has, dims = columns[name].dtype, columns[name].ndim
        if not any(has == dtype and dims == ndim for dtype, ndim in allowed):
            both = " or ".join(f"{np.dtype(t)} with {ndim} dimensions" for t, ndim in allowed)
            raise ValueError(f"{name} is not {both}")
    kinds = {columns[name].ndim - 1 for name in ("index", "next_index")}
    if kinds != {columns["states"].ndim - 2}:
        raise ValueError("index and next_index are not those of pictures, or of vectors")
    n, start = len(columns["index"]), columns["episode_start"]
    assert isinstance(start, np.ndarray)  # only states are worth a stream
    if any(len(columns[name]) != n for name in ("next_index", "action", "reward", "terminated")):
        raise ValueError("columns of transitions have unequal lengths")
    if n == 0 or start[0] != 0 or start[-1] != n or not (np.diff(start) > 0).all():
        raise ValueError("episode_start does not cut the transitions into non-empty episodes")
    of_episodes = ("complete", "episode_return", *(columns.keys() & OPTIONAL.keys()))
    if any(len(columns[name]) != len(start) - 1 for name in of_episodes):
        raise ValueError("columns of episodes have unequal lengths")


def _remove_stale(cache_root: Path) -> None:
    """Remove what processes that were killed while unpacking left behind."""
    for folder in cache_root.glob(".unpacking-*"):
        try:
            stale = time.time() - folder.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:  # another process has just finished with it
            continue
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _unwritable(cache_root: Path, e: OSError) -> UserError:
    return UserError(
        f"cannot write the dataset cache {cache_root} ({e.strerror or e}); "
        "free some space or set OFFRL_DATA to another folder"
    )
