"""Expected online performance: what a budget of n tried settings brings.

Kurenkov & Kolesnikov 2022, arXiv 2110.04156: of N settings, n are drawn and tried online, and the
best one is kept. With draws from the N scores with replacement its score has a closed form.
"""

from collections.abc import Sequence

import numpy as np

from offrl.errors import UserError
from offrl.report.about import BUDGET
from offrl.report.groups import Group, by_reference
from offrl.report.markdown import NOTHING, markdown

BUDGETS = (1, 2, 3, 5, 10, 15, 20, 50, 100)
ALL = "mean over the tasks"


def expected_maximum(scores: Sequence[float], n: int) -> tuple[float, float]:
    """Mean and standard deviation of the maximum of n draws with replacement.

    The i-th smallest of N scores is the maximum with probability (i/N)^n - ((i-1)/N)^n.
    """
    x = np.sort(np.asarray(scores, dtype=np.float64))
    below = (np.arange(len(x) + 1) / len(x)) ** n
    p = np.diff(below)
    mean = float(p @ x)
    return mean, float(p @ (x - mean) ** 2) ** 0.5


def table(groups: Sequence[Group]) -> str:
    """Markdown: a row per algorithm and dataset, and one for the mean over the datasets; these for
    every budget of transitions, gradient steps and evaluations.

    Raises UserError where no algorithm has two settings with all seeds on one dataset.
    """
    parts = [_table(reference, part) for reference, part in by_reference(groups).items()]
    if not any(parts):
        raise UserError(
            "no algorithm has two hyperparameter settings, on the same amount of data and for the "
            "same gradient steps, with all the seeds that any of them has; "
            "sweep one, as in `train.py -m algo.alpha=1,2.5,5 'seeds=[0],[1],[2]'`"
        )
    caption = (
        "Expected online performance: score (standard deviation) of the best of n settings that "
        "are drawn, with replacement, from those tried here; the score of a setting is the mean "
        "over its seeds, last evaluation. A setting that lacks seeds, because they diverged for "
        "example, is left out (`4/5`), which flatters the algorithm.\n"
    )
    return "\n".join([*filter(None, parts), caption])


def _table(reference: str, groups: Sequence[Group]) -> str:
    rows: list[tuple[str, str, int, list[float]]] = []
    varying = [k for k in BUDGET if len({getattr(g.about, k) for g in groups}) > 1]
    # more data or gradient steps are no setting that is tried: each budget has rows of its own
    kinds: dict[tuple[str, str], list[Group]] = {}
    for g in groups:
        budget = "".join(f", {k}={getattr(g.about, k)}".lower() for k in varying)
        kinds.setdefault((g.about.algo, budget), []).append(g)
    for (algo, budget), of_algo in kinds.items():
        seeds = {s for g in of_algo for s in g.about.seeds}
        settings = {g.about.setting for g in of_algo}
        scores: dict[str, dict[str, float]] = {}  # dataset -> setting -> score
        for g in of_algo:
            on_task = scores.setdefault(f"{g.about.env}-{g.about.dataset}", {})
            if g.last is not None and g.scores.last.keys() == seeds:
                on_task[g.about.setting] = g.last.mean
        if len(scores) > 1:
            everywhere = [s for s in settings if all(s in task for task in scores.values())]
            means = [float(np.mean([task[s] for task in scores.values()])) for s in everywhere]
            rows.append((algo, ALL + budget, len(settings), means))
        rows += [(algo, t + budget, len(settings), list(s.values())) for t, s in scores.items()]
    rows = [r for r in rows if len(r[3]) > 1]
    if not rows:
        return ""
    most = max(len(values) for *_, values in rows)
    budgets = [n for n in BUDGETS if n <= most]
    header = [
        ("algorithm", False),
        (f"dataset ({reference})", False),
        ("settings", True),
        *((f"n = {n}", True) for n in budgets),
    ]
    return markdown(
        header,
        [
            [algo, task, f"{len(v)}/{n_settings}", *(_text(v, n) for n in budgets)]
            for algo, task, n_settings, v in rows
        ],
    )


def _text(scores: Sequence[float], n: int) -> str:
    if n > len(scores):
        return NOTHING
    mean, std = expected_maximum(scores, n)
    return f"{mean:.1f} ({std:.1f})"
