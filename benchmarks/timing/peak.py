"""How much memory a process has had; a file of its own, which workers import without torch."""

from pathlib import Path


def peak_bytes() -> int | None:
    """Of this process; None where the system does not say.  getrusage() counts its parent's, too."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), None)
