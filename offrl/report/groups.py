"""Groups: runs that differ by their seeds alone, and what is missing of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from offrl.errors import UserError
from offrl.report.about import BUDGET, About
from offrl.report.commands import STOPPED, swept_seeds, without
from offrl.report.load import Runs
from offrl.report.members import describe, group_of
from offrl.report.stats import Estimate, Scores, over_seeds, paired, scores_by_seed
from offrl.report.suite import Suite, SuiteCell

# what became of a seed, the worst first; "complete" is the only one that counts
_FATES = (
    *("diverged", "failed", "interrupted", "running"),
    *(STOPPED, "below the floor", "not run"),
)
Row = dict[str, Any]  # of Runs.runs


@dataclass(frozen=True)
class Group:
    """One row of a table and one line of a figure."""

    about: About  # seeds: all that the group should have; n_updates: of the runs that count
    counted: tuple[tuple[str, int], ...]  # the (run_id, seed) behind the numbers
    missing: dict[str, int]  # fate -> seeds
    diverged_too: int  # seeds that count, but have diverged in another run
    scores: Scores[dict[int, float]]  # by seed
    used: tuple[Row, ...]  # the runs of the counted seeds
    overrides: tuple[str, ...]  # that reproduce the row; those of a suite leave its seeds out
    cells: tuple[SuiteCell, ...]  # of the suite, done or not

    @property
    def run(self) -> Row | None:
        """One of the used runs, for what all of them say."""
        return self.used[0] if self.used else None

    @property
    def digests(self) -> frozenset[str]:
        """The versions of the data behind the numbers."""
        return frozenset(r["digest"] for r in self.used)

    @property
    def reference(self) -> str | None:
        """The scale of the scores; None for a group that never ran. A raw return: one per env."""
        if self.run is None:
            return None
        return str(self.run["score_name"]) if self.normalised else f"return, {self.run['env_id']}"

    @property
    def normalised(self) -> bool:
        r = self.run
        return r is not None and r["ref_min"] is not None and r["ref_max"] is not None

    @property
    def last(self) -> Estimate | None:
        """None where no seed counts."""
        return over_seeds(self.scores.last)

    @property
    def last_k(self) -> Estimate | None:
        """None also where there are fewer than k evaluations."""
        return over_seeds(self.scores.last_k)

    @property
    def best(self) -> Estimate | None:
        return over_seeds(self.scores.best)

    def minus(self, other: "Group") -> tuple[Estimate | None, Estimate | None]:
        """The difference of a seed, over the seeds of both: of last, of last_k.

        None for other budgets of training or evaluation and for other versions of the data.
        """
        differ = any(getattr(self.about, k) != getattr(other.about, k) for k in BUDGET)
        if differ or len(self.digests | other.digests) > 1:
            return None, None
        a, b = self.scores, other.scores
        return paired(a.last, b.last), paired(a.last_k, b.last_k)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to tell of it yet."""
        return not self.counted and not ({"diverged", "failed"} & self.missing.keys())

    @property
    def waiting(self) -> bool:
        """Whether runs will bring it on: some are missing, and none is known to have failed."""
        return bool(self.missing) and not ({"diverged", "failed"} & self.missing.keys())

    @property
    def whole(self) -> bool:
        """Whether all seeds count, and nothing else became of any of them."""
        return not self.missing and not self.diverged_too

    @property
    def seeds(self) -> str:
        """`3/3`, or `2/5 (1 diverged, 2 not run)`."""
        lost = [f"{n} {fate}" for fate, n in self.missing.items()]
        if self.diverged_too:
            lost.append(f"{self.diverged_too} diverged in another run")
        text = f"{len(self.counted)}/{len(self.about.seeds)}"
        return text + (f" ({', '.join(lost)})" if lost else "")


def summarise(runs: Runs, suite: Suite | None, last_k: int = 1) -> list[Group]:
    """The groups of a suite, done or not; without a suite those of all runs.

    In the suite's order, or alphabetically; rows of one dataset stand together.
    """
    cells: dict[str, list[SuiteCell]] = {}
    described: dict[str, list[About]] = {}
    found: dict[str, list[Row]] = {}
    if suite is not None:
        for cell in suite.cells:
            a = describe(suite, cell)
            cells.setdefault(a.group, []).append(cell)
            described.setdefault(a.group, []).append(a)
    group_of_row = group_of(suite) if suite else None
    for r in ({str(k): v for k, v in r.items()} for r in runs.runs.to_dict("records")):
        if group_of_row is None:
            described.setdefault(r["group"], []).append(About(*(r[f] for f in About._fields)))
        key = group_of_row(r) if group_of_row else r["group"]
        if key is not None:
            found.setdefault(key, []).append(r)
    floor = suite.options.floor if suite else 0
    groups = []
    for key, abouts in described.items():
        seeds = tuple(sorted({s for a in abouts for s in a.seeds}))
        whole = abouts[0]._replace(seeds=seeds)
        groups.append(_group(whole, found.get(key, []), cells.get(key, []), runs, floor, last_k))
    return _ordered(groups, keep=suite is not None)


def by_reference(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Scores of two scales never share a table; what never ran goes where its source goes."""
    known = {g.about.source: g.reference for g in groups if g.reference is not None}
    found: dict[str, list[Group]] = {}
    for g in groups:
        found.setdefault(g.reference or known.get(g.about.source) or "", []).append(g)
    return found


def evaluations_of(runs: Runs, group: Group) -> pd.DataFrame:
    """The evaluations behind the numbers of a group."""
    return _rows(runs.evaluations, group.counted)


def _group(
    described: About,
    found: Sequence[Row],
    expected: Sequence[SuiteCell],
    runs: Runs,
    floor: int,
    k: int,
) -> Group:
    def fate(r: Row, seed: int) -> str:
        if r["status"] == "complete" and r["step"] < floor:
            return "below the floor"
        if r["status"] == "diverged" and r["manifest"].get("diverged_seed", seed) != seed:
            return STOPPED
        return str(r["status"])

    by_length: dict[int, dict[int, str]] = {}  # gradient steps -> seed -> run_id
    fates = dict.fromkeys(described.seeds, "not run")
    # a seed that several runs trained, with the same scores, is that of the run with most seeds
    for r in sorted(found, key=lambda r: -len(r["seeds"])):
        for seed in set(r["seeds"]) & fates.keys():
            now = fate(r, seed)
            if now == "complete":
                by_length.setdefault(r["n_updates"], {}).setdefault(seed, r["run_id"])
            else:
                fates[seed] = min(fates[seed], now, key=_FATES.index)
    # a row has one length: that of most seeds, the longest of those
    length, chosen = max(
        by_length.items(),
        key=lambda item: (len(item[1]), item[0]),
        default=(described.n_updates, dict[int, str]()),
    )
    counted = [(chosen[seed], seed) for seed in described.seeds if seed in chosen]
    lost = Counter(f for seed, f in fates.items() if seed not in chosen)
    used = [r for r in found if r["status"] == "complete" and r["run_id"] in chosen.values()]
    if expected:
        overrides = without("seeds", expected[0].overrides)
        if length != described.n_updates:
            overrides = (*without("n_updates", overrides), f"n_updates={length}")
    else:
        in_order = sorted(found, key=lambda r: r["seeds"])
        overrides = swept_seeds(in_order[0]["overrides"], [r["config"] for r in in_order])
    return Group(
        about=described._replace(n_updates=length),
        counted=tuple(counted),
        missing={f: lost[f] for f in _FATES if lost[f]},
        diverged_too=sum(fates[seed] == "diverged" for seed in chosen),
        scores=scores_by_seed(_rows(runs.evaluations, counted), k),
        used=tuple(used),
        overrides=overrides,
        cells=tuple(expected),
    )


def _rows(evaluations: pd.DataFrame, counted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    keys = pd.MultiIndex.from_frame(evaluations[["run_id", "seed"]])
    return evaluations[keys.isin(list(counted))]


def _ordered(groups: list[Group], keep: bool) -> list[Group]:
    _check_references(groups)

    def names(g: Group) -> tuple[tuple[str, str], str]:
        return (g.about.env, g.about.dataset), g.about.algo

    datasets = list(dict.fromkeys(names(g)[0] for g in groups))
    algos = list(dict.fromkeys(names(g)[1] for g in groups))
    if not keep:
        datasets.sort()
        algos.sort()

    def key(g: Group) -> tuple[Any, ...]:
        data, algo = names(g)
        size = float("inf") if g.about.buffer_size is None else g.about.buffer_size
        detail = (not g.about.norm_obs, size, g.about.n_updates, g.about.group)
        return (datasets.index(data), algos.index(algo), *(() if keep else detail))

    return sorted(groups, key=key)


def _check_references(groups: Sequence[Group]) -> None:
    """One name must mean one scale per environment, or a column would mix two."""
    seen: dict[tuple[str, str], Row] = {}
    for r in (r for g in groups for r in g.used):
        other = seen.setdefault((r["score_name"], r["env_id"]), r)
        if (r["ref_min"], r["ref_max"]) != (other["ref_min"], other["ref_max"]):
            raise UserError(
                f"{other['path']} and {r['path']} normalise by {r['score_name']!r} on "
                f"{r['env_id']} with different returns; run the older one again or move it away"
            )
