"""Expected online performance: what a budget of n tried settings brings.

Kurenkov & Kolesnikov 2022, arXiv 2110.04156: of N settings, n are drawn and tried online, and the
best one is kept. With draws from the N scores with replacement its score has a closed form.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

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
    """Markdown: a row per algorithm and task, and one for the mean over the tasks; these for every
    budget of transitions, gradient steps and evaluations.

    Raises UserError where no algorithm has two settings with all seeds on one task.
    """
    parts, left_out = [], []
    for reference, part in by_reference(groups).items():
        text, mixed = _table(reference, part)
        parts.append(text)
        left_out += mixed
    out = f"on different versions of the data, so left out: {', '.join(left_out)}"
    if not any(parts):
        raise UserError(
            "no algorithm has two hyperparameter settings, on the same amount of data and for the "
            "same gradient steps, with all the seeds that any of them has; "
            "sweep one, as in `train.py -m algo.alpha=1,2.5,5 'seeds=[0],[1],[2]'`"
            + (f"; {out}" if left_out else "")
        )
    caption = (
        "Expected online performance: score (standard deviation) of the best of n settings that "
        "are drawn, with replacement, from those tried here; the score of a setting is the mean "
        "over its seeds, last evaluation. A setting that lacks seeds which another one has on the "
        "task, because they diverged for example, is left out (`4/5`), which flatters the "
        "algorithm."
    )
    if any(ALL in text for text in parts):
        caption += (
            " The mean over the tasks is of the settings with all seeds on every task; one is "
            "known again on another task by its hyperparameters or its words on the command line."
        )
    if left_out:
        caption += f" Scored {out}."
    return "\n".join([*filter(None, parts), f"{caption}\n"])


def _table(reference: str, groups: Sequence[Group]) -> tuple[str, list[str]]:
    """The table, empty without a row; and what was scored on different versions of the data."""
    rows: list[tuple[str, str, int, list[float]]] = []
    left_out: list[str] = []
    varying = [k for k in BUDGET if len({getattr(g.about, k) for g in groups}) > 1]
    named = _tasks(groups)
    # more data or gradient steps are no setting that is tried: each budget has rows of its own
    kinds: dict[tuple[str, str], dict[str, list[Group]]] = {}  # -> task -> its settings
    for g in groups:
        budget = "".join(f", {k}={getattr(g.about, k)}".lower() for k in varying)
        tasks = kinds.setdefault((g.about.algo, budget), {})
        tasks.setdefault(named[g.about.group], []).append(g)
    for (algo, budget), tasks in kinds.items():
        for task, settings in list(tasks.items()):
            if len(frozenset[str]().union(*(g.digests for g in settings))) > 1:
                left_out.append(f"{algo} on {task}{budget}")
                del tasks[task]
        scores = {task: _scores(settings) for task, settings in tasks.items()}
        if len(tasks) > 1:
            same, n_settings = _same(list(tasks.values()))
            found = [[scores[t].get(k) for t, k in zip(tasks, s, strict=True)] for s in same]
            means = [
                float(np.mean([x for x in f if x is not None])) for f in found if None not in f
            ]
            rows.append((algo, ALL + budget, n_settings, means))
        rows += [(algo, t + budget, len(tasks[t]), list(s.values())) for t, s in scores.items()]
    rows = [r for r in rows if len(r[3]) > 1]
    if not rows:
        return "", left_out
    most = max(len(values) for *_, values in rows)
    budgets = [n for n in BUDGETS if n <= most]
    header = [
        ("algorithm", False),
        (f"dataset ({reference})", False),
        ("settings", True),
        *((f"n = {n}", True) for n in budgets),
    ]
    texts = [
        [algo, task, f"{len(v)}/{n_settings}", *(_text(v, n) for n in budgets)]
        for algo, task, n_settings, v in rows
    ]
    return markdown(header, texts), left_out


def _tasks(groups: Sequence[Group]) -> dict[str, str]:
    """The task of every group, by its key: `hopper-offrl/medium, n_transitions=50000`.

    The data's parameters stand in it where they differ under one name.
    """
    by_name: dict[str, list[Group]] = {}
    for g in groups:
        by_name.setdefault(f"{g.about.env}-{g.about.dataset}", []).append(g)
    tasks = {}
    for name, same in by_name.items():
        shared = frozenset.intersection(*(frozenset(g.about.data) for g in same))
        for g in same:
            own = [p for p in g.about.data if p not in shared]
            tasks[g.about.group] = ", ".join([name, *own])
    return tasks


def _scores(settings: Sequence[Group]) -> dict[str, float]:
    """By the group's key, the score of each setting with all the seeds that any has on the task."""
    seeds = {s for g in settings for s in g.about.seeds}
    return {
        g.about.group: g.last.mean
        for g in settings
        if g.last is not None and g.scores.last.keys() == seeds
    }


def _same(tasks: Sequence[Sequence[Group]]) -> tuple[list[list[str]], int]:
    """Settings that every task has, as the group's key on each task; and how many there are at all.

    A hyperparameter that a table tunes per dataset is another one on every task: then the settings
    are told by their words on the command line. Words that a task has twice tell none.
    """
    same: list[list[str]] = []
    left = [list(settings) for settings in tasks]
    identities: tuple[Callable[[Group], Hashable], ...] = (lambda g: g.about.setting, _words)
    for identity in identities:
        of_task = [Counter(map(identity, settings)) for settings in left]
        known = [i for i in of_task[0] if all(n[i] == 1 for n in of_task)]
        keys = [{identity(g): g.about.group for g in settings} for settings in left]
        same += [[key[i] for key in keys] for i in known]
        left = [[g for g in settings if identity(g) not in known] for settings in left]
    return same, len(same) + len({_words(g) for settings in left for g in settings})


def _words(g: Group) -> frozenset[str]:
    """The overrides without those that say the task, the seeds and the budget."""
    other = ("env", "dataset", "seeds", *BUDGET)
    return frozenset(o for o in g.overrides if re.split(r"[.=]", o.lstrip("+~"))[0] not in other)


def _text(scores: Sequence[float], n: int) -> str:
    if n > len(scores):
        return NOTHING
    mean, std = expected_maximum(scores, n)
    return f"{mean:.1f} ({std:.1f})"
