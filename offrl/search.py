"""A search of hyperparameters: its runs are ordinary runs, and it is kept how many there were.

The best of many tried configurations is a selected one.  So each configuration leaves a file in the
search's folder, and the manifest of each run says how many there are: {"searches": {name: tried}}.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from offrl import manifest
from offrl.cell import Cell
from offrl.claim import claim
from offrl.record import Records, read_json, write_json
from offrl.run import run_dir_of

FOLDER = "OFFRL_SEARCH"  # of the search; tells the workers, which inherit it


@dataclass(frozen=True)
class Search:
    """What is searched, as it is written on the command line or in conf/search."""

    name: str
    space: Mapping[str, str]

    def folder(self, base: Cell) -> Path:
        """One for each space around each base configuration, beside the runs."""
        text = json.dumps([base.config, dict(self.space)], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return run_dir_of(base).parent / ".searches" / f"{self.name}-{digest}"


def objective(cell: Cell) -> float | None:
    """The mean score of a complete run's last evaluation, over its seeds and episodes."""
    if not manifest.done(run_dir_of(cell), cell):
        return None
    rows = Records(run_dir_of(cell)).eval_rows
    last = max(rows["step"])
    return fmean(x for x, step in zip(rows["score"], rows["step"], strict=True) if step == last)


def note(cell: Cell) -> float | None:
    """Notes a tried configuration, in the process that ran it; gives the objective.

    Does nothing, and gives None, where there is no search.
    """
    if not (folder := os.environ.get(FOLDER)):
        return None
    score = objective(cell)
    tried = {"run_id": cell.run_id, "run": cell.dirname, "score": score, "command": cell.command}
    write_json(Path(folder) / f"{cell.run_id}.json", tried)
    return score


def tried(folder: Path) -> list[dict[str, Any]]:
    """The configurations that a search has tried, failed ones too; the best first."""
    found: list[dict[str, Any]] = [read_json(p) for p in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda x: -float("inf") if x["score"] is None else x["score"])[::-1]


def conclude(base: Cell, search: Search) -> int:
    """Writes into the runs' manifests how many were tried, and prints the best; 0 if there is one.

    Raises UserError where a manifest cannot be written.
    """
    folder = search.folder(base)
    found = tried(folder)
    for one in found:
        _count(folder.parents[1] / one["run"], folder.name, len(found))
    failed = sum(one["score"] is None for one in found)
    print(f"{len(found)} configurations tried, {failed} of them failed", file=sys.stderr)
    if failed == len(found):
        return 1
    print(f"best {found[0]['score']:.2f}: {found[0]['command']}", file=sys.stderr)
    return 0


def _count(run_dir: Path, name: str, n: int) -> None:
    with claim(run_dir) as mine:
        if mine is None or not (run_dir / manifest.NAME).exists():
            return  # at work again; this search's next end will tell it
        content = read_json(run_dir / manifest.NAME)
        content["searches"] = {**content.get("searches", {}), name: n}
        write_json(run_dir / manifest.NAME, content)
