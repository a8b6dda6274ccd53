"""Whether there is room for the data: asked before it is read or written."""

import shutil
from pathlib import Path

import numpy as np

from offrl.data.dataset import Dataset
from offrl.errors import UserError

_SLACK = 1.1  # free space is never quite free


def require_memory(data: Dataset) -> None:
    """UserError where memory is too small for the data: batches would be drawn from the disk."""
    needed, free = in_memory(data), available_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{data.id}: {len(data)} transitions need {gigabytes(needed)} of memory, "
            f"{gigabytes(free)} are free; set a smaller buffer_size"
        )


def in_memory(data: Dataset) -> int:
    """Bytes that training on `data` touches: the columns, and the states that they name."""
    columns = (data.index, data.next_index, data.action, data.reward, data.terminated)
    states = min(len(data.states), len(data) + data.n_episodes)
    each = int(np.prod(data.states.shape[1:])) * data.states.itemsize
    derived = 8 * len(data)  # returns to go, ends of episodes
    return sum(c.nbytes for c in columns) + derived + states * each


def require_disk(folder: Path, needed: int, what: str, remedy: str) -> None:
    """UserError where `folder` has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed * _SLACK > free:
        raise UserError(
            f"{what}: needs {gigabytes(needed)} in {folder}, where {gigabytes(free)} are free; "
            f"{remedy}"
        )


def available_memory() -> int | None:
    """Bytes that this process can use, or None where the system does not say."""
    known = [x for x in (_linux_available(), _cgroup_available()) if x is not None]
    return min(known, default=None)


def gigabytes(n: int) -> str:
    return f"{n / 1e9:.2f} GB"


def _linux_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(x for x in lines if x.startswith("MemAvailable:")).split()[1])
    except (OSError, StopIteration):
        return None


def _cgroup_available() -> int | None:
    """The limit of a container; what its page cache holds counts as free."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = int((root / "memory.max").read_text(encoding="utf-8"))
        stat = (root / "memory.stat").read_text(encoding="utf-8").splitlines()
        return limit - next(int(x.split()[1]) for x in stat if x.startswith("anon "))
    except (OSError, ValueError, StopIteration):  # "max": no limit
        return None
