"""manifest.json: what a run is, what it was made with, and how it stands."""

import time
from pathlib import Path
from typing import Any

from offrl.cell import Cell
from offrl.errors import UserError
from offrl.loop import Timer
from offrl.record import read_json, write_json
from offrl.sources import Task
from offrl.versions import git_state, peak_memory_mb, versions

NAME = "manifest.json"
SCHEMA = 1
ROOT = Path(__file__).resolve().parents[1]

Content = dict[str, Any]


def state(run_dir: Path) -> tuple[str, str | None]:
    """(status, error or None) of a run directory; "none" if there is no run yet, "damaged"."""
    path = run_dir / NAME
    if not path.exists():
        return "none", None
    try:
        content = read_json(path)
        return str(content["status"]), content["error"]
    except UserError as e:
        return "damaged", str(e)
    except (KeyError, TypeError):
        return "damaged", f"{path}: not a manifest; restore it, or remove its run directory"


def finished(run_dir: Path, cell: Cell) -> bool:
    """Whether there is nothing left to do: the cell is complete, on the data that it names.

    Files have no part in a run's identity but their name; so the contents of a file are compared.
    Raises UserError where they are others, unless on_mismatch=restart, and where there is no file.
    """
    if state(run_dir)[0] != "complete":
        return False
    if "path" not in cell.source.unhashed:
        return True
    known, now = read_json(run_dir / NAME)["dataset"]["digest"], cell.source.open(cell.env)
    if now.digest != known and cell.settings.on_mismatch == "stop":
        raise UserError(
            f"{run_dir}: is complete, on other data of the name {now.id}: digest {known} -> "
            f"{now.digest}. Give the file another name, or start over with on_mismatch=restart"
        )
    return bool(now.digest == known)


def done(run_dir: Path, cell: Cell) -> bool:
    """The same, after a run that has said what finished() would raise."""
    try:
        return finished(run_dir, cell)
    except UserError:
        return False


def begun(run_dir: Path) -> Content | None:
    """The manifest of a run that this process continues, or None if there is none to continue.

    Raises UserError for one that is damaged, or of another version.
    """
    path = run_dir / NAME
    if not path.exists():
        return None
    old: Content = read_json(path)
    schema = old.get("schema") if isinstance(old, dict) else None
    if schema != SCHEMA:
        raise UserError(
            f"{path}: of schema {schema}, this version reads schema {SCHEMA}: continue the run "
            f"with the version that began it, or remove {run_dir} to start over"
        )
    return old


def note_start(content: Content, step: int) -> None:
    """Notes that a process trains from `step` on; the first one of a run is not "resumed"."""
    content["step"] = step
    if "status" in content:  # it has been written before
        content["resumed"].append({"step": step, "git": git_state(ROOT)})


def new(cell: Cell, task: Task, numerics: dict[str, str | int]) -> Content:
    return {
        "schema": SCHEMA,
        "run_id": cell.run_id,
        "config": cell.config,
        "tuned": cell.tuned,
        "overrides": cell.overrides,
        "dataset": None,
        "score": {
            "name": task.score.name,
            "env_id": task.env_id,
            **({"settings": dict(task.env.settings)} if task.env.settings else {}),
            "ref_min": task.score.ref_min,
            "ref_max": task.score.ref_max,
        },
        "normaliser": None,
        "git": git_state(ROOT),
        "resumed": [],
        "versions": versions(),
        "numerics": numerics,
        "step": 0,
        "wall_s": 0.0,
        "split_s": Timer().split,
    }


class Clock:
    """The time that a run has taken, over all processes that worked on it."""

    def __init__(self, content: Content) -> None:
        self.timer = Timer()
        self._started = time.perf_counter()
        self._wall_before = content["wall_s"]
        self._split_before = content["split_s"]

    def columns(self, step: int) -> Content:
        """What the manifest says of time; `step` gradient steps have been done."""
        wall = self._wall_before + time.perf_counter() - self._started
        split = {k: round(self._split_before[k] + v, 3) for k, v in self.timer.split.items()}
        busy = split["data"] + split["update"]
        speed = round(step / busy, 1) if busy else None
        return {"wall_s": round(wall, 3), "split_s": split, "steps_per_s": speed}


def write(run_dir: Path, content: Content, clock: Clock, status: str, error: str | None) -> None:
    """Brings `content` up to date and writes it.  Raises UserError where that cannot be."""
    peak = max(content.get("peak_memory_mb", 0.0), round(peak_memory_mb(), 1))  # of all processes
    content |= {"status": status, "error": error, "peak_memory_mb": peak}
    write_json(run_dir / NAME, content | clock.columns(content["step"]))
