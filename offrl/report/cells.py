"""The cells of a table: runs that differ by their seeds alone, and what is missing of them."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from offrl.errors import UserError
from offrl.report.load import Runs
from offrl.report.manifest import About, about
from offrl.report.stats import Estimate, estimate, last, last_k
from offrl.report.suite import Suite, SuiteCell

TRAIN = "python benchmarks/train.py"
# what became of a seed, the worst first; "complete" is the only one that counts
_FATES = ("diverged", "failed", "running", "below the floor", "no evaluation", "not run")


@dataclass(frozen=True)
class Cell:
    """One row of a table and one line of a figure."""

    about: About  # seeds: all that the cell should have
    counted: tuple[tuple[str, int], ...]  # the (run_id, seed) behind the numbers
    missing: dict[str, int]  # fate -> seeds
    last: Estimate | None  # of the score; None where no seed counts
    last_k: Estimate | None  # None also where there are fewer than k evaluations
    run: dict[str, Any] | None  # the first of the counted runs, a row of Runs.runs
    digests: int  # different versions of the data behind the counted seeds
    simulators: frozenset[str]
    overrides: tuple[str, ...]  # that reproduce the row; those of a suite leave its seeds out
    command: str | None  # what fills the cell, where its suite knows

    @property
    def reference(self) -> str | None:
        """The scale of the scores; None for a cell that never ran. A raw return has one per env."""
        if self.run is None:
            return None
        if self.run["ref_min"] is None or self.run["ref_max"] is None:
            return f"return, {self.run['env_id']}"
        return str(self.run["score_name"])

    @property
    def seeds(self) -> str:
        """`3/3`, or `2/5 (1 diverged, 2 not run)`."""
        lost = ", ".join(f"{n} {fate}" for fate, n in self.missing.items())
        return f"{len(self.counted)}/{len(self.about.seeds)}" + (f" ({lost})" if lost else "")


def summarise(runs: Runs, suite: Suite | None, last_k: int = 1) -> list[Cell]:
    """The cells of a suite, done or not; without a suite those of all runs.

    In the suite's order, or alphabetically; rows of one dataset stand together.
    """
    expected: dict[str, list[SuiteCell]] = {}
    described: dict[str, list[About]] = {}
    frame = runs.runs
    for cell in suite.cells if suite else ():
        a = about(cell.config, f"suite {suite.name if suite else ''}, run {cell.run_id}")
        expected.setdefault(a.cell, []).append(cell)
        described.setdefault(a.cell, []).append(a)
    if suite is not None:
        frame = frame[frame["run_id"].isin([c.run_id for c in suite.cells])]
    found: dict[str, list[dict[str, Any]]] = {}
    for r in frame.to_dict("records"):
        found.setdefault(r["cell"], []).append({str(k): v for k, v in r.items()})
        if suite is None:
            described.setdefault(r["cell"], []).append(About(*(r[f] for f in About._fields)))
    floor = suite.options.floor if suite else 0
    cells = [
        _cell(
            _merged(described[key]), found.get(key, []), expected.get(key, []), runs, floor, last_k
        )
        for key in described
    ]
    return _ordered(cells, keep=suite is not None)


def fill_command(cells: Sequence[SuiteCell]) -> str:
    """One command for all runs of a cell: a sweep over the seeds if that is how they differ."""
    if len(cells) == 1:
        return cells[0].command
    swept = swept_seeds([c.overrides for c in cells])
    if swept is None:
        return " && ".join(c.command for c in cells)
    return shlex.join([*TRAIN.split(), "-m", *swept])


def swept_seeds(runs: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """The overrides of several runs as those of one sweep; None if more than seeds differ."""
    seeds = [o for overrides in runs for o in overrides if o.startswith("seeds=")]
    if len({without_seeds(overrides) for overrides in runs}) > 1 or len(seeds) != len(runs):
        return None
    sweep = ",".join(o.removeprefix("seeds=") for o in seeds)
    return (*without_seeds(runs[0]), f"seeds={sweep}")


def without_seeds(overrides: Iterable[str]) -> tuple[str, ...]:
    return tuple(o for o in overrides if not o.startswith("seeds="))


def _merged(parts: Sequence[About]) -> About:
    """The same cell, described by several runs, with the seeds of all."""
    return parts[0]._replace(seeds=tuple(sorted({s for a in parts for s in a.seeds})))


def _cell(
    described: About,
    found: Sequence[dict[str, Any]],
    expected: Sequence[SuiteCell],
    runs: Runs,
    floor: int,
    k: int,
) -> Cell:
    evaluated = set(zip(runs.evaluations["run_id"], runs.evaluations["seed"], strict=True))
    counted: list[tuple[str, int]] = []
    fates: list[str] = []
    for seed in described.seeds:
        fate = "not run"
        for r in (r for r in found if seed in r["seeds"]):
            now = str(r["status"])
            if now == "complete":
                now = "below the floor" if r["step"] < floor else "complete"
            if now == "complete" and (r["run_id"], seed) not in evaluated:
                now = "no evaluation"
            if now == "complete":
                counted.append((r["run_id"], seed))
                fate = now
                break
            fate = min(fate, now, key=_FATES.index)
        fates.append(fate)
    used = [r for r in found if r["run_id"] in {i for i, _ in counted}]
    scores = _rows(runs.evaluations, counted)
    if expected:
        overrides = without_seeds(expected[0].overrides)
    else:
        overrides = (
            swept_seeds([r["overrides"] for r in sorted(found, key=lambda r: r["seeds"])])
            or found[0]["overrides"]
        )
    lost = Counter(f for f in fates if f != "complete")
    return Cell(
        about=described,
        counted=tuple(counted),
        missing={f: lost[f] for f in _FATES if lost[f]},
        last=_estimate(last(scores)) if counted else None,
        last_k=_estimate(last_k(scores, k)) if counted else None,
        run=used[0] if used else None,
        digests=len({r["digest"] for r in used}),
        simulators=frozenset(_simulator(r["manifest"]) for r in used),
        overrides=tuple(overrides),
        command=fill_command(expected) if expected else None,
    )


def evaluations_of(runs: Runs, cell: Cell) -> pd.DataFrame:
    """The evaluations behind the numbers of a cell."""
    return _rows(runs.evaluations, cell.counted)


def _rows(evaluations: pd.DataFrame, counted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    keys = pd.MultiIndex.from_frame(evaluations[["run_id", "seed"]])
    return evaluations[keys.isin(list(counted))]


def _estimate(scores: pd.Series) -> Estimate | None:
    return None if scores.isna().any() else estimate(scores.to_list())


def _simulator(manifest: dict[str, Any]) -> str:
    versions = manifest.get("versions") or {}
    known = [f"{p} {versions[p]}" for p in ("mujoco", "ale-py", "gymnasium") if p in versions]
    return ", ".join(known) or "simulator version not recorded"


def _ordered(cells: list[Cell], keep: bool) -> list[Cell]:
    _check_references(cells)

    def names(c: Cell) -> tuple[tuple[str, str], str]:
        return (c.about.env, c.about.dataset), c.about.algo

    datasets = list(dict.fromkeys(names(c)[0] for c in cells))
    algos = list(dict.fromkeys(names(c)[1] for c in cells))
    if not keep:
        datasets.sort()
        algos.sort()

    def key(c: Cell) -> tuple[Any, ...]:
        data, algo = names(c)
        size = float("inf") if c.about.buffer_size is None else c.about.buffer_size
        detail = (not c.about.norm_obs, size, c.about.n_updates, c.about.cell)
        return (datasets.index(data), algos.index(algo), *(() if keep else detail))

    return sorted(cells, key=key)


def _check_references(cells: Sequence[Cell]) -> None:
    """One name must mean one scale per environment, or a column would mix two."""
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for r in (c.run for c in cells if c.run is not None):
        other = seen.setdefault((r["score_name"], r["env_id"]), r)
        if (r["ref_min"], r["ref_max"]) != (other["ref_min"], other["ref_max"]):
            raise UserError(
                f"{other['path']} and {r['path']} normalise by {r['score_name']!r} on "
                f"{r['env_id']} with different returns; run the older one again or move it away"
            )
