"""How much memory a process has had; a file of its own, which workers import without torch."""

from pathlib import Path


def peak_bytes() -> int | None:
    """Of this process, and not its parent's; None where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), None)
