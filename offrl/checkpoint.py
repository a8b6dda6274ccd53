"""Checkpoints and policies: named tensors in safetensors files, checksummed, without pickle."""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from offrl.atomic import remove_leftovers, write_atomic
from offrl.errors import UserError

FORMAT = "1"  # of the checkpoints; raise it when old ones can no longer be continued
KEPT = 2  # checkpoints: the last one, and one more in case it is damaged
Tree = TypeVar("Tree")


class DamagedFileError(UserError):
    """The file is there and is not what was written."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors (any device, shape and dtype) and text atomically; equal input, equal bytes.

    Raises UserError where the file cannot be written; an older file of that name then survives.
    """
    plain = {
        k: x.detach().cpu().clone(memory_format=torch.contiguous_format)
        for k, x in sorted(tensors.items())
    }
    # one JSON entry, because safetensors writes several entries in random order
    text = json.dumps({**metadata, "sha256": _digest(plain, metadata)}, sort_keys=True)
    write_atomic(path, safetensors.torch.save(plain, metadata={"offrl": text}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors on the CPU, metadata) of a file by save_tensors; no two tensors share memory.

    Raises UserError where there is no such file, DamagedFileError where its checksum is wrong.
    """
    metadata = _metadata(path)
    try:
        tensors = {k: x.clone() for k, x in safetensors.torch.load(path.read_bytes()).items()}
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (safetensors.SafetensorError, KeyError, ValueError) as e:
        raise DamagedFileError(f"{path}: damaged: {e}") from e
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        raise DamagedFileError(f"{path}: damaged: the checksum does not fit the content")
    return tensors, metadata


def save(folder: Path, step: int, tree: Any) -> Path:
    """Writes the checkpoint of a gradient step, then removes all but the last two.

    `tree` is a nest of NamedTuples, tuples, lists, dicts and tensors.  Only the process that owns
    the folder may call this.  Raises UserError where the file cannot be written: the older
    checkpoints are then as they were.
    """
    remove_leftovers(folder, "checkpoint-*")
    path = folder / f"checkpoint-{step:09d}.safetensors"
    tensors = dict(_named(tree))
    save_tensors(path, tensors, {"format": FORMAT, "step": str(step)})
    # steps only grow: what is newer than the one just written had been rejected by load()
    newest_first = sorted(_checkpoints(folder), reverse=True)
    older = [p for p in newest_first if p.name <= path.name]
    for stale in set(newest_first) - set(older[:KEPT]):
        with contextlib.suppress(OSError):
            stale.unlink()
    return path


def remove(folder: Path) -> None:
    """Removes all checkpoints of a run that is complete, or starts over."""
    for path in _checkpoints(folder):
        path.unlink(missing_ok=True)


def load(folder: Path, like: Tree) -> tuple[int, Tree] | None:
    """(step, tree) of the newest checkpoint that is whole, or None where there is none.

    The tensors come on the devices of `like` and share no memory.  A damaged checkpoint is warned
    of and skipped.  Raises UserError for one of another format version, and for one whose names,
    shapes or dtypes do not fit `like`.
    """
    for path in sorted(_checkpoints(folder), reverse=True):
        try:
            tensors, metadata = _load_current(path)
        except DamagedFileError as e:
            warnings.warn(f"{e}; going back to the checkpoint before, if any", stacklevel=2)
            continue
        expected = dict(_named(like))
        problem = _misfit(tensors, expected)
        if problem:
            raise UserError(
                f"{path}: does not fit this run: {problem}. Another version of the code wrote it: "
                f"use that version, or remove {folder} to start over."
            )
        on_device = {k: x.to(expected[k].device) for k, x in tensors.items()}
        return int(metadata["step"]), cast(Tree, _rebuild(like, on_device))
    return None


def _load_current(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    found = _metadata(path).get("format")
    if found != FORMAT:
        raise UserError(
            f"{path}: a checkpoint of format {found}, this version reads format {FORMAT}: continue "
            f"it with the version that wrote it, or remove {path.parent} to start over."
        )
    return load_tensors(path)


def _checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("checkpoint-*.safetensors"))


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="pt") as f:
            metadata = json.loads((f.metadata() or {})["offrl"])
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (safetensors.SafetensorError, KeyError, ValueError) as e:
        raise DamagedFileError(f"{path}: damaged, or not a file of this suite: {e}") from e
    if not isinstance(metadata, dict):
        raise DamagedFileError(f"{path}: damaged: its metadata is not a mapping")
    return metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    h = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, x in sorted(tensors.items()):
        h.update(json.dumps([name, str(x.dtype), list(x.shape)]).encode())
        h.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return h.hexdigest()


def _misfit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    if missing := sorted(expected.keys() - found.keys()):
        return f"it lacks {', '.join(missing)}"
    if surplus := sorted(found.keys() - expected.keys()):
        return f"it has {', '.join(surplus)}, unknown here"
    for name, want in expected.items():
        got = found[name]
        if (got.dtype, got.shape) != (want.dtype, want.shape):
            return (
                f"{name} is {got.dtype} {list(got.shape)} there "
                f"and {want.dtype} {list(want.shape)} here"
            )
    return None


def _children(tree: Any) -> list[tuple[str, Any]]:
    """The named parts of one level of a nest."""
    if isinstance(tree, dict):
        return [(str(k), v) for k, v in tree.items()]
    if isinstance(tree, tuple | list):
        fields = getattr(tree, "_fields", range(len(tree)))
        return [(str(k), v) for k, v in zip(fields, tree, strict=True)]
    raise TypeError(f"a checkpoint holds tensors and nests of tensors, not {type(tree).__name__}")


def _named(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """The leaves with dotted names, such as ("0.actor_opt.m", tensor)."""
    if isinstance(tree, Tensor):
        yield ".".join(path) or "tensor", tree
        return
    for name, child in _children(tree):
        if "." in name or not name:
            raise ValueError(f"{name!r}: a key in a checkpoint is not empty and has no dot")
        yield from _named(child, (*path, name))


def _rebuild(like: Any, tensors: Mapping[str, Tensor], path: tuple[str, ...] = ()) -> Any:
    if isinstance(like, Tensor):
        return tensors[".".join(path) or "tensor"]
    parts = {k: _rebuild(child, tensors, (*path, k)) for k, child in _children(like)}
    if isinstance(like, dict):
        return dict(zip(like, parts.values(), strict=True))
    if hasattr(like, "_fields"):
        return type(like)(*parts.values())
    return type(like)(parts.values())
