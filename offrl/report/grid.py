"""The short table: a row per dataset, a column per algorithm, published numbers in brackets."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

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
    named = {key: name(m) for key, m in methods(groups).items()}
    columns = list(dict.fromkeys(named.values()))
    several = len({g.about.n_updates for g in groups}) > 1
    data: dict[str, dict[str, Group]] = {}
    for g in groups:
        data.setdefault(f"{g.about.env}-{g.about.dataset}", {})[named[g.about.group]] = g
    rows = []
    for dataset, by_name in data.items():
        rows.append(
            [
                dataset,
                _data(by_name, "data_score_mean"),
                _data(by_name, "data_score_best"),
                *(_cell(by_name.get(c), sources, several) for c in columns),
                missing(by_name.values(), suite),
            ]
        )
    score = f"score, {reference}" if reference else "score"
    header = [
        (f"dataset ({score})", False),
        ("data mean", True),
        ("data best", True),
        *((c, True) for c in columns),
        ("what is missing", False),
    ]
    return markdown(header, rows)


def _data(by_name: Mapping[str, Group], key: str) -> str:
    """A number that all runs must agree on."""
    values = {g.run[key] for g in by_name.values() if g.run}
    return number(values.pop() if len(values) == 1 else None)


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
