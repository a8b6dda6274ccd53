"""Methods over a whole suite: which tasks can be compared, and the block of Markdown."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from offrl.errors import UserError
from offrl.report.about import BUDGET
from offrl.report.aggregate import Array, Interval, iqm, probability_of_improvement
from offrl.report.groups import Group, by_reference
from offrl.report.markdown import NOT_RUN, NOTHING, markdown
from offrl.report.methods import methods, name
from offrl.report.stats import Scores


class Comparison(NamedTuple):
    """Equal numbers of seeds of every method on every task; empty without two on two tasks."""

    scores: dict[str, Scores[Array]]  # method -> per protocol [R seeds, T tasks]
    tasks: tuple[str, ...]
    left_out: dict[str, str]  # task -> why
    waiting: tuple[str, ...]  # methods that have all their runs, whatever came of them, nowhere yet

    @property
    def n_seeds(self) -> int:
        return len(next(iter(self.scores.values())).last)


def comparisons(groups: Sequence[Group]) -> dict[str, Comparison]:
    """By score reference; raw returns are left out: they have no common scale."""
    return {
        reference: compare(part)
        for reference, part in by_reference(groups).items()
        if any(g.normalised for g in part)
    }


def compare(groups: Sequence[Group]) -> Comparison:
    """Of groups that share a score reference.

    A task counts if all methods have there all seeds that any has, trained equally long on the same
    and as much data, and evaluated as often on as many episodes; methods that are waiting for runs
    on every task are left out instead.
    """
    named = {key: name(m) for key, m in methods(groups).items()}
    ended = {named[g.about.group] for g in groups if not g.waiting}
    names = [n for n in dict.fromkeys(named.values()) if n in ended]
    by_task: dict[str, dict[str, Group]] = {}
    for g in groups:
        by_task.setdefault(f"{g.about.env}-{g.about.dataset}", {})[named[g.about.group]] = g
    seeds = {s for g in groups for s in g.about.seeds}
    lacks = {task: _lack(by_name, names, seeds) for task, by_name in by_task.items()}
    tasks = tuple(task for task, why in lacks.items() if not why)
    scores: dict[str, Scores[Array]] = {}
    if len(names) > 1 and len(tasks) > 1:
        scores = {n: _matrices([by_task[t][n].scores for t in tasks]) for n in names}
    waiting = tuple(n for n in dict.fromkeys(named.values()) if n not in ended)
    return Comparison(scores, tasks, {task: why for task, why in lacks.items() if why}, waiting)


def block(comparison: Comparison, k: int, baseline: str | None = None) -> str:
    """A table of IQMs and probabilities of improvement, with its caption; Markdown.

    k: of the mean of the last k; baseline: a method, by default the first one.
    Raises UserError for a baseline that is no method, and where there is nothing to compare.
    """
    scores = comparison.scores
    if not scores:
        lacks = "".join(f"; {task}: {why}" for task, why in comparison.left_out.items())
        lacks += "".join(f"; {method}: waits for seeds" for method in comparison.waiting)
        raise UserError(f"nothing to compare: needs two methods with all seeds on two tasks{lacks}")
    base = baseline or next(iter(scores))
    if base not in scores:
        raise UserError(f"baseline {base!r}: no method here; there are {'; '.join(scores)}")
    sure = "" if comparison.n_seeds == 1 else " [95%]"  # decision 0002: one seed has no interval

    def text(i: Interval, digits: int) -> str:
        value = f"{i.value:.{digits}f}"
        return f"{value} [{i.low:.{digits}f}, {i.high:.{digits}f}]" if sure else value

    of_last_k = k > 1 and not any(np.isnan(s.last_k).any() for s in scores.values())
    header = [
        ("method", False),
        (f"IQM{sure}", True),
        *([(f"IQM, mean of last {k}", True)] if of_last_k else []),
        ("IQM, best*", True),
        (f"P(better than {base}){sure}", True),
    ]
    rows = [
        [
            method,
            text(iqm(s.last), 1),
            *([text(iqm(s.last_k), 1)] if of_last_k else []),
            text(iqm(s.best), 1),
            NOTHING
            if method == base
            else text(probability_of_improvement(s.last, scores[base].last), 2),
        ]
        for method, s in scores.items()
    ]
    return f"{markdown(header, rows)}\n{_caption(comparison, base)}\n"


def _caption(c: Comparison, base: str) -> str:
    out = "; ".join(f"{task} ({why})" for task, why in c.left_out.items() if why != NOT_RUN)
    idle = sum(why == NOT_RUN for why in c.left_out.values())
    which = (
        f" ({', '.join(c.tasks)}{f'; {idle} were not run' if idle else ''})" if c.left_out else ""
    )
    one = c.n_seeds == 1
    seeds = "1 seed" if one else f"{c.n_seeds} seeds"
    interval = (
        "one seed has no interval"
        if one
        else "in brackets 95% stratified-bootstrap intervals, which are too narrow for few seeds "
        "(three cover 75 to 90%; those of a P near 0 or 1 less)"
    )
    return (
        f"Over {len(c.tasks)} of {len(c.tasks) + len(c.left_out)} tasks{which}, {seeds} "
        "each, the last evaluation. IQM: the interquartile mean of all scores; P: the probability "
        f"that a random run is better than a random run of {base} on the same task, the mean over "
        f"tasks; {interval}. `best*`: each seed's best evaluation, optimistic, as choosing it "
        "needs online access."
        + (f" Not compared, for want of seeds: {', '.join(c.waiting)}." if c.waiting else "")
        + (f" Left out, which flatters a method that diverged there: {out}." if out else "")
    )


def _matrices(by_task: Sequence[Scores[dict[int, float]]]) -> Scores[Array]:
    """The seeds of each task, in order, as columns."""
    return Scores(
        *(
            np.array([list(by_seed.values()) for by_seed in protocol], dtype=np.float64).T
            for protocol in zip(*by_task, strict=True)
        )
    )


def _lack(by_name: Mapping[str, Group], names: Sequence[str], seeds: set[int]) -> str:
    """What a task lacks for a comparison; empty if nothing."""
    if all(g.idle for g in by_name.values()):
        return NOT_RUN
    lacks = []
    for n in names:
        if n not in by_name:
            lacks.append(f"{n} not run")
        elif absent := sorted(seeds - by_name[n].scores.last.keys()):
            without = f"without seed {', '.join(map(str, absent))}"
            lacks.append(f"{n} {by_name[n].seeds if by_name[n].missing else without}")
    counted = [by_name[n] for n in names if n in by_name]
    # buffer sizes are compared only where every method's name says its own
    budget = [k for k in BUDGET if k != "buffer_size" or not all(f"{k}=" in n for n in names)]
    differ = [k for k in budget if len({getattr(g.about, k) for g in counted}) > 1]
    if not lacks:
        lacks += [f"different {'gradient steps' if k == 'n_updates' else k}" for k in differ]
    if not lacks and len(frozenset[str]().union(*(g.digests for g in counted))) > 1:
        lacks.append("different versions of the data")
    return ", ".join(lacks)
