"""What a run was made with: packages, code, machine; and whether that is still so."""

import contextlib
import hashlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

# those that can move the last bit of a number, and those that matter for reading a run
NUMERIC = ("torch", "numpy", "gymnasium", "mujoco")
PACKAGES = (*NUMERIC, "ale-py", "offrl", "hydra-core", "omegaconf", "h5py", "pandas", "safetensors")
_PACKAGE = Path(__file__).resolve().parent
_NO_NUMBERS = ("report", "loggers")  # what only shows them


def numerics(
    device: torch.device | str, threads: int, compile: bool, simulator: Sequence[str] = ()
) -> dict[str, str | int]:
    """Everything on which a run's bits depend beside its configuration; JSON-able.

    `simulator` names packages that only some environments need.
    A run that is resumed under other numerics than it began with is not the same run.
    """
    device = torch.device(device)
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        hardware = f"{vendor()} {torch.backends.cpu.get_cpu_capability()}".strip()
    return {
        "device": device.type,
        "hardware": hardware,
        "compile": compile,
        "threads": threads,
        **{name: _version(name) for name in (*NUMERIC, *simulator)},
    }


@cache
def code() -> str:
    """12 hex digits of the package's source, but for what only shows numbers."""
    sha = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE)
        if name.parts[0] not in _NO_NUMBERS:
            sha.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return sha.hexdigest()[:12]


@cache
def vendor() -> str:
    """Who made the processor, which the libraries of products choose their code by; Linux only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("vendor_id")), "")


def mismatch(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """The differences of two numerics() as "key: old -> new", sorted; empty if there are none."""
    return [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
    ]


def versions() -> dict[str, str]:
    """Python's version and those of the installed packages that matter."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def git_state(root: Path) -> dict[str, str | bool | None]:
    """{"commit", "dirty"} of the checkout with this root; None both where it is no checkout.

    Untracked files that git does not ignore count as dirty: an algorithm may be among them.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    # an unpacked release inside somebody else's checkout must not get that one's commit
    if top is None or Path(top).resolve() != root.resolve():
        return {"commit": None, "dirty": None}
    status = _git(root, "status", "--porcelain")
    return {
        "commit": _git(root, "rev-parse", "--verify", "--quiet", "HEAD"),
        "dirty": None if status is None else status != "",
    }


def reset_peak_memory() -> None:
    """Lets peak_memory_mb() begin anew; on Linux only."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb() -> float:
    """The most memory that this process has held since reset_peak_memory(), in MiB."""
    with contextlib.suppress(OSError, StopIteration):
        # on Linux, because getrusage begins with the peak of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(x for x in status if x.startswith("VmHWM:")).split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _git(root: Path, *command: str) -> str | None:
    # inside a hook GIT_DIR names another checkout; many runs ask at once, so without locks
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    clean["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *command],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=clean,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
