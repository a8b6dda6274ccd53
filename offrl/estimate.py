"""How long the rest of a suite will take, from speeds that were measured."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from offrl import manifest
from offrl.cell import Cell
from offrl.errors import UserError
from offrl.record import read_json
from offrl.run import run_dir_of

_BEGUN = 1000  # gradient steps


class Estimate(NamedTuple):
    """What is left of a suite."""

    cells: int
    hours: float  # of one worker, for the cells whose algorithm has been measured
    unmeasured: dict[str, int]  # algorithm -> cells


def time_left(cells: Sequence[Cell], published: Path) -> Estimate:
    """For the cells that are not complete, at the median speed of their algorithm.

    Speeds are those of the runs beside the cells, else those of the suites below `published`.
    """
    todo = [c for c in cells if not manifest.done(run_dir_of(c), c)]
    here = [_read(p) for p in run_dir_of(cells[0]).parent.glob(f"*/{manifest.NAME}")]
    lines = [line for p in published.glob("*/runs.jsonl") for line in p.read_text().splitlines()]
    speeds = _speeds(json.loads(line) for line in lines) | _speeds(here)
    hours, unmeasured = 0.0, dict[str, int]()
    for c in todo:
        name = c.config["algo"]["name"]
        if name in speeds:
            steps = c.settings.n_updates - _read(run_dir_of(c) / manifest.NAME).get("step", 0)
            hours += steps * len(c.settings.seeds) / speeds[name] / 3600
        else:
            unmeasured[name] = unmeasured.get(name, 0) + 1
    return Estimate(len(todo), hours, unmeasured)


def describe(left: Estimate, n_cells: int) -> str:
    """One or two lines for the end of a dry run."""
    text = f"{n_cells - left.cells} of {n_cells} cells complete"
    if left.hours:
        cores = os.cpu_count() or 1
        used = min(cores, left.cells - sum(left.unmeasured.values()))  # one cell runs on one
        text += (
            f"; about {left.hours:.1f} core-hours left at the speeds measured, "
            f"{left.hours / used:.1f} h on the {cores} cores of this machine"
        )
    if left.unmeasured:
        names = ", ".join(f"{name} ({n} cells)" for name, n in sorted(left.unmeasured.items()))
        text += f"; not measured yet: {names}"
    return text


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = read_json(path) if path.exists() else {}
    except UserError:
        return {}  # damaged: the run itself will say so
    return content


def _speeds(manifests: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Gradient steps of one seed per second, with evaluations, without the data, by algorithm.

    Runs that have just begun say nothing: they have compiled, and not yet evaluated.
    """
    measured: dict[str, list[float]] = {}
    for m in manifests:
        if m.get("step", 0) >= _BEGUN:
            steps = m["step"] * len(m["config"]["seeds"])
            seconds = m["wall_s"] - m["split_s"]["data"]
            measured.setdefault(m["config"]["algo"]["name"], []).append(steps / seconds)
    return {name: median(values) for name, values in measured.items()}
