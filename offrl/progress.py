"""status=true: how every cell of a suite stands, from its run directory and its file of data."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from offrl import manifest
from offrl.cell import Cell
from offrl.claim import holder, owned
from offrl.errors import UserError
from offrl.record import read_json
from offrl.run import run_dir_of

STATES = ("done", "running", "waiting", "failed", "diverged", "damaged")


class Standing(NamedTuple):
    """One of STATES, and what is to be known beside it."""

    state: str
    detail: str


def report(cells: Sequence[Cell]) -> int:
    """Prints a line for each cell; 0 if all are done, else 1."""
    count: Counter[str] = Counter()
    for cell in cells:
        state, detail = standing(cell)
        count[state] += 1
        print(f"{state:8} {cell.dirname}  {detail}".rstrip())
    print(", ".join(f"{count[s]} {s}" for s in STATES if count[s]), file=sys.stderr)
    return 0 if count["done"] == len(cells) else 1


def standing(cell: Cell) -> Standing:
    """A cell that a live process owns is running, whatever it was before."""
    run_dir = run_dir_of(cell)
    who = holder(run_dir)
    if who is not None and owned(run_dir):
        return Standing("running", f"{who['host']}, {_speed(cell, run_dir / manifest.NAME)}")
    status, error = manifest.state(run_dir)
    last = (error or "").strip().rpartition("\n")[2]
    match status:
        case "complete":
            return _complete(cell, run_dir)
        case "none":
            return Standing("waiting", "")
        case "running":
            return Standing("waiting", f"killed after step {_read(run_dir)['step']}")
        case "interrupted":
            return Standing("waiting", f"interrupted; goes on at step {_read(run_dir)['step']}")
    return Standing(status, last)


def _complete(cell: Cell, run_dir: Path) -> Standing:
    """What the run itself would say: it refuses a file that is another one by now."""
    try:
        done = manifest.finished(run_dir, cell)
    except UserError as e:
        return Standing("failed", str(e))
    return Standing("done", "") if done else Standing("waiting", "is on other data; starts over")


def _speed(cell: Cell, path: Path) -> str:
    """Steps, speed and time left, as of the last checkpoint."""
    try:
        content, age_s = read_json(path), max(0.0, time.time() - path.stat().st_mtime)
        step, wall_s, speed = content["step"], content["wall_s"], content["steps_per_s"]
    except (UserError, OSError, KeyError):
        return "starting"
    total = cell.settings.n_updates
    if not step or not speed:
        return f"step {step} of {total}"
    left_s = max(0.0, (total - step) * wall_s / step - age_s)
    return f"step {step} of {total}, {speed:.0f} steps/s, about {_duration(left_s)} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _read(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(run_dir / manifest.NAME)
    return content
