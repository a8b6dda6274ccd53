"""The short table: a row per dataset, a column per algorithm, published numbers in brackets."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from string import ascii_lowercase

from offrl.report.about import BUDGET
from offrl.report.commands import missing
from offrl.report.groups import Group
from offrl.report.markdown import NOT_RUN, NOTHING, interval, markdown, number
from offrl.report.methods import methods, name
from offrl.report.published import in_column
from offrl.report.suite import ReportOptions, Suite


def table(
    groups: Sequence[Group],
    reference: str,
    suite: Suite | None,
    options: ReportOptions,
    sources: Sequence[str],
) -> str:
    columns, data = _arranged(groups)
    several = len({g.about.n_updates for g in groups}) > 1
    rows = []
    for dataset, by_name in data.items():
        rows.append(
            [
                dataset,
                number(_data(by_name, "data_score_mean")),
                number(_data(by_name, "data_score_best")),
                *(_cell(by_name.get(c), sources, several) for c in columns),
                missing(by_name.values(), suite),
            ]
        )
    averages = means(groups)
    if averages:
        of_data = [_data(by_name, "data_score_mean") for by_name in data.values()]
        known = [x for x in of_data if x is not None]
        average = fmean(known) if len(known) == len(data) else None
        algorithms = (averages.get(c, NOTHING) for c in columns)
        rows.append(["mean", number(average), NOTHING, *algorithms, NOTHING])
    score = f"score, {reference}" if reference else "score"
    header = [
        (f"dataset ({score})", False),
        ("data mean", True),
        ("data best", True),
        *((c, True) for c in columns),
        ("what is missing", False),
    ]
    return markdown(header, rows)


def means(groups: Sequence[Group]) -> dict[str, str]:
    """The mean over all datasets, by the column of every algorithm that has a score on each.

    Not where seeds diverged or failed, as the others would flatter, and none of unlike budgets.
    """
    columns, data = _arranged(groups)
    if len(data) == 1 or any(len({getattr(g.about, k) for g in groups}) > 1 for k in BUDGET):
        return {}
    found = {}
    for c in columns:
        own = [g for by_name in data.values() if (g := by_name.get(c)) and _fair(g)]
        scores = [g.last for g in own if g.last is not None]
        if len(scores) == len(data):
            few = "" if all(g.whole for g in own) else f" (n={min(s.n for s in scores)})"
            found[c] = f"{fmean(s.mean for s in scores):.1f}{few}"
    return found


def _fair(g: Group) -> bool:
    return g.normalised and (g.whole or (g.waiting and not g.diverged_too))


def _arranged(groups: Sequence[Group]) -> tuple[list[str], dict[str, dict[str, Group]]]:
    """The columns, and the groups by dataset and column."""
    named = {key: name(m) for key, m in methods(groups).items()}
    data: dict[str, dict[str, Group]] = {}
    for g in groups:
        data.setdefault(f"{g.about.env}-{g.about.dataset}", {})[named[g.about.group]] = g
    return list(dict.fromkeys(named.values())), data


def _data(by_name: Mapping[str, Group], key: str) -> float | None:
    """A number that all runs must agree on."""
    values = {g.run[key] for g in by_name.values() if g.run}
    return values.pop() if len(values) == 1 else None


def _cell(g: Group | None, sources: Sequence[str], several: bool) -> str:
    """`48.2 ± 0.6, 2/3 (1 diverged) (a 48.10)`."""
    if g is None:
        return NOTHING
    parts = [NOT_RUN if g.idle else interval(g.last) if g.counted else g.seeds]
    if g.counted and not g.whole:
        parts.append(g.seeds)
    if g.counted and several:
        parts.append(f"{g.about.n_updates:,} steps")
    text = ", ".join(parts)
    for letter, column in zip(ascii_lowercase, sources, strict=False):
        means = dict.fromkeys(p.mean for p in in_column(g.about, column))
        if means:
            return f"{text} ({letter} {' / '.join(means)})"
    return text
